"""The sub-commands that say how far a study is, and what went wrong."""

import json
from pathlib import Path
from typing import TextIO

import click

from tailrisk.cli.group import PATH, main


@main.command()
@click.argument("config", type=PATH, default=Path("config/config.yaml"))
@click.option("--results", type=PATH, default=Path("results"), show_default=True, help="Folder of the results.")
def status(config: Path, results: Path) -> None:
    """Say how far a study is: models and tables done, failed jobs, time left, and the command to go on."""
    from tailrisk.stages.status import status as run

    for line in run(config, results):
        click.echo(line)


@main.command()
@click.option("--study", type=click.File(encoding="utf-8"), default="-", help="The configuration, as JSON; or stdin.")
@click.option("--results", type=PATH, default=Path("results"), show_default=True, help="Folder of the results.")
@click.option("--log", type=PATH, help="Snakemake's own log of the run.")
@click.option("--since", type=float, required=True, help="When the run began, in seconds of the epoch.")
@click.option("--again", required=True, help="The command that was run.")
def failures(study: TextIO, results: Path, log: Path | None, since: float, again: str) -> None:
    """Say which jobs of a run failed and why: what the workflow calls at its end."""
    from tailrisk.config.plan import Plan
    from tailrisk.stages.failed import failures as run

    for line in run(Plan.of(json.load(study)), results, log, since, again):
        click.echo(line, err=True)
