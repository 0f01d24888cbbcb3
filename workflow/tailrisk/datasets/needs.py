"""What a source must find on disk, said before anything is read: for `tailrisk check`, which lists all that lacks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq

from tailrisk.config.base import suggestion
from tailrisk.datasets.contract import Files

SAMPLED = 200
"""Files of a source that are looked for, evenly over its records."""


@dataclass(frozen=True)
class Need:
    """A table with columns, or (without columns) a file or folder that must exist."""

    path: Path
    columns: tuple[str, ...] = ()


def either(folder: Path, *names: str) -> Path:
    """The first of `names` that exists in `folder`, such as a table and its compressed form; else the first name."""
    return next((folder / name for name in names if (folder / name).exists()), folder / names[0])


def unmet(needs: list[Need]) -> Iterator[str]:
    """A sentence for every file and column that lacks."""
    for need in needs:
        if not need.path.exists():
            yield f"{need.path} does not exist"
        elif need.columns:
            try:
                header = _header(need.path)
            except (OSError, EOFError, ValueError) as error:
                yield f"{need.path} is not a readable table: {' '.join(str(error).split())}"
                continue
            for name in need.columns:
                if name not in header:
                    yield f"{need.path} has no column '{name}'; {suggestion(name, header)}"


def absent_files(files: Files) -> Iterator[str]:
    """A sentence where some of the files, of which `SAMPLED` are looked for, are not there."""
    step = max(1, len(files.paths) // SAMPLED)
    looked = files.paths[::step]
    missing = [path for path in looked if not path.exists()]
    if missing:
        yield (
            f"{len(missing)} of the {len(looked)} {files.kind} that were looked for (of {len(files.paths):,}) are "
            f"missing, such as {missing[0]}"
        )


def _header(path: Path) -> list[str]:
    if path.suffix in {".parquet", ".pq"}:
        return list(pq.read_schema(path).names)
    reader: Callable[..., pd.DataFrame] = pd.read_excel if path.suffix == ".xlsx" else pd.read_csv
    return [str(name) for name in reader(path, nrows=0).columns]
