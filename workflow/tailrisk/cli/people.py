"""The sub-commands that people call: before a study, while it runs, and after it."""

from pathlib import Path

import click

from tailrisk.cli.group import PATH, main
from tailrisk.errors import UserError


@main.command()
@click.argument("report", type=PATH)
@click.argument("sentences", type=PATH)
def headlines(report: Path, sentences: Path) -> None:
    """Print where the report is and its most important sentences."""
    from tailrisk.tables import read_json

    click.echo(f"\nThe report is at {report.resolve()}")
    for sentence in read_json(sentences):
        click.echo(f"  • {sentence}")


@main.command()
@click.argument("config", type=PATH, default=Path("config/config.yaml"))
def check(config: Path) -> None:
    """Say what a configuration would run, and list all that its datasets, tables and queries lack on this machine."""
    from tailrisk.stages.check import check as run

    faults = 0
    for line in run(config):
        click.echo(line.text, err=line.kind != "told")
        faults += line.kind == "fault"
    if faults:
        raise UserError(f"{config} cannot run as it is: mend the {f'{faults} faults' if faults > 1 else 'fault'} above")


@main.command()
@click.argument("config", type=PATH, default=Path("config/config.yaml"))
@click.option("--results", type=PATH, default=Path("results"), show_default=True, help="Folder of the results.")
@click.option("--device", help="Torch device; the GPU by default where there is one.")
@click.option("--seconds", type=float, default=60.0, show_default=True, help="Time that the calibration may take.")
def plan(config: Path, results: Path, device: str | None, seconds: float) -> None:
    """Say, before anything runs, what a study will cost on this device: models, hours, disk and memory."""
    from tailrisk.stages.plan import plan as run

    for line in run(config, results, device, seconds):
        click.echo(line)


@main.command("models-needed")
@click.option("--auc", type=float, default=0.9, show_default=True, help="True attack AUC of the record in question.")
@click.option("--se", type=float, help="Standard error that its estimate may have.")
@click.option("--power", type=float, help="Probability with which such a patient is to be found.")
@click.option("--patients", type=int, help="Audited patients, for the power.")
@click.option("--records", type=int, default=1, show_default=True, help="Records of such a patient, for the power.")
@click.option("--fdr", type=float, default=0.05, show_default=True, help="False discovery rate, for the power.")
@click.option("--audit", type=PATH, help="Folder of a finished audit (results/audit/E/Q) to plan from.")
def models_needed(
    auc: float,
    se: float | None,
    power: float | None,
    patients: int | None,
    records: int,
    fdr: float,
    audit: Path | None,
) -> None:
    """Say how many target models a standard error or the power to find a patient needs."""
    from tailrisk.stages.needed import models_needed as run

    for line in run(auc, se, power, patients, records, fdr, audit):
        click.echo(line)


@main.command()
@click.option("--check", "only_check", is_flag=True, help="Only compare, and fail where a committed file differs.")
def schema(only_check: bool) -> None:
    """Write the JSON schema (for editors) and the reference in config/README.md from the configuration's models."""
    from tailrisk.config.schema import MARK, reference_text, schema_text

    guide = Path("config/README.md")
    introduction = guide.read_text(encoding="utf-8").partition(MARK)[0]
    wanted = {Path("workflow/schemas/config.schema.json"): schema_text(), guide: introduction + reference_text()}
    for path, text in wanted.items():
        if not only_check:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            raise UserError(f"{path} does not match the configuration's models: run `tailrisk schema`")
