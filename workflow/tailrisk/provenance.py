"""What made the files of a job, kept beside the results so that tables and figures themselves stay comparable."""

import hashlib
import sys
from pathlib import Path
from typing import Any

from tailrisk import __version__
from tailrisk.tables import write_json


def record(log: Path, written: list[Path], outcome: Any) -> None:
    """Write the provenance of a job's files at `results/provenance/<stage>/….json`, by the place of its log."""
    write_json(
        provenance_path(log),
        {
            "tailrisk": __version__,
            "command": sys.argv[1:],
            "outcome": outcome,
            "outputs": {str(path): checksum(path) for path in written},
        },
    )


def provenance_path(log: Path) -> Path:
    """Where the provenance of the job with this log is kept."""
    parts = list(log.with_suffix(".json").parts)
    parts[parts.index("logs")] = "provenance"
    return Path(*parts)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
