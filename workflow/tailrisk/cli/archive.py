"""The sub-commands that keep a finished study: check its files, pack them, and build everything again from them."""

from pathlib import Path

import click

from tailrisk.cli.group import PATH, main
from tailrisk.errors import UserError

CHECKOUT = Path(__file__).parents[3]


@main.command()
@click.option("--results", type=PATH, default=Path("results"), show_default=True, help="Folder of the results.")
@click.option("--remove", is_flag=True, help="Delete what is damaged, so that it is made again.")
def verify(results: Path, remove: bool) -> None:
    """Compare all results with the checksums of their provenance, read the store, and name what is damaged.

    Not for the time of a run, which may be writing them.
    """
    from tailrisk.stages import verify as stage

    if not (results / "provenance").is_dir():
        raise UserError(f"{results} has no provenance to compare with: name the folder of a study's results")
    if stage.running(results):
        if remove:
            raise UserError(
                "a run of Snakemake is writing these results: wait for its end (or unlock a folder whose run died)"
            )
        click.echo("warning: a run of Snakemake is writing these results, so that what follows may not hold")
    damaged, compared = stage.damaged_results(results)
    unreadable, read = stage.damaged_store(results / "store")
    for damage in damaged + unreadable:
        click.echo(f"{damage.path} {damage.reason}")
    click.echo(
        f"{compared} results were compared with their provenance, and {read} files of the store read to their end"
    )
    if not damaged + unreadable:
        click.echo("every result is as it was written, and the store can be read")
        return
    if unreadable:
        click.echo("What the store lacks is trained, or asked of kept weights, when a training job next needs it.")
    if remove:
        stage.remove(damaged + unreadable)
        click.echo("What was left of the damaged files is removed.")
    if again := stage.commands(damaged + unreadable, results):
        click.echo("To make them again, with --configfile and --profile as you run the study:")
        for command in again:
            click.echo(f"  {command}")
    if past := stage.forgotten(damaged, results):
        click.echo("The study of the last report has some of them no longer; so that they are no longer looked for:")
        click.echo(f"  {past}")
    sure = sum(damage.sure for damage in damaged + unreadable)
    unchecked = len(damaged + unreadable) - sure
    kinds = [(0 if remove else sure, "damaged"), (unchecked, "unchecked")]
    if left := " and ".join(f"{n} {kind} file{'s' * (n > 1)}" for n, kind in kinds if n):
        raise UserError(f"{left}: make them again as said above")


@main.command()
@click.argument("config", type=PATH, default=Path("config/config.yaml"))
@click.option("--study", hidden=True, help="The validated configuration as JSON, in place of CONFIG.")
@click.option("--results", type=PATH, default=Path("results"), show_default=True, help="Folder of the results.")
@click.option("--code", type=PATH, default=CHECKOUT, help="Checkout of the workflow; by default that of this package.")
@click.option("--identifiers", is_flag=True, help="Leave the ids of records and patients as they are.")
@click.option("--output", type=PATH, default=Path("artefact.tar.gz"), show_default=True, help="The archive.")
def artefact(config: Path, study: str | None, results: Path, code: Path, identifiers: bool, output: Path) -> None:
    """Pack code, configuration, confidence tables and all that was made of them, without ids, into one archive."""
    import json

    from tailrisk.config.load import load_study, parse
    from tailrisk.config.study import Study
    from tailrisk.stages.artefact import artefact as run

    packed = load_study(config) if study is None else parse(Study, json.loads(study), "configuration")
    for remark in run(packed, results, code, output, identifiers):
        click.echo(f"note: {remark}")
    size = output.stat().st_size / 2**20
    click.echo(f"{output} ({size:,.1f} MiB) holds the study {'with' if identifiers else 'without'} identifiers")


@main.command()
@click.argument("folder", type=PATH, default=Path())
@click.option("--output", type=PATH, help="Folder to build in, which must not exist; FOLDER/rebuilt by default.")
@click.option("--cores", type=int, default=1, show_default=True, help="Jobs at once.")
def rebuild(folder: Path, output: Path | None, cores: int) -> None:
    """Build every table, figure and sentence of an unpacked artefact again, without data or GPU, and compare them."""
    from tailrisk.stages.rebuild import rebuild as run

    for line in run(folder, output or folder / "rebuilt", cores):
        click.echo(line)
