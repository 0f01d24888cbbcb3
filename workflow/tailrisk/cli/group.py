"""The command `tailrisk`, whose sub-commands end a user's mistake with one sentence."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from tailrisk.errors import UserError

PATH = click.Path(path_type=Path)


class Sentences(click.Group):
    """Ends a user's mistake or a full disk with one sentence and exit status 1 instead of a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise click.ClickException(str(error)) from None
        except OSError as error:
            from tailrisk.tables import WRITE_FAULTS

            if error.errno not in WRITE_FAULTS:
                raise
            where = error.filename or "the results folder"
            reason = WRITE_FAULTS[error.errno]
            raise click.ClickException(f"cannot use {where}: {reason}; mend that and run again") from None


@click.group(cls=Sentences)
@click.version_option(package_name="tailrisk")
@click.option("--log", type=PATH, help="Log of a job of the workflow, whose provenance is kept in the place alike.")
@click.option("--writes", default="", help="Files that the job writes, separated by blanks.")
@click.pass_context
def main(context: click.Context, log: Path | None, writes: str) -> None:
    """Patient-level privacy audit of medical AI, stage by stage."""
    context.obj = datetime.now(UTC)


@main.result_callback()
@click.pass_context
def _record(context: click.Context, outcome: Any, log: Path | None, writes: str) -> None:
    """What a finished job did goes beside its results."""
    if log is not None:
        from tailrisk.provenance import record

        written = [Path(path) for path in writes.split()]
        record(log, written, outcome, context.obj, str(context.invoked_subcommand), sys.argv)
