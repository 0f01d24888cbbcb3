"""What a source must find on disk, said before anything is read: for `tailrisk check`, which lists all that lacks."""

import difflib
import lzma
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from tailrisk.datasets.contract import Files
from tailrisk.datasets.labels import fault_of, workbook
from tailrisk.errors import UserError

SAMPLED = 200
"""Files of a source that are looked for, evenly over its records."""
DECODED = 8
"""Files of these that are decoded."""


@dataclass(frozen=True)
class Need:
    """A table with columns, or (without columns) a file or folder that must exist."""

    path: Path
    columns: tuple[str, ...] = ()


def either(folder: Path, *names: str) -> Path:
    """The first of `names` that exists in `folder`, such as a table and its compressed form; else the first name."""
    return next((folder / name for name in names if (folder / name).exists()), folder / names[0])


def absent(needs: Iterable[Need]) -> list[Path]:
    """The files and folders that do not exist, without those that lie in such a folder."""
    paths = list(dict.fromkeys(need.path for need in needs if not need.path.exists()))
    return [path for path in paths if not set(paths).intersection(path.parents)]


def unmet(needs: Iterable[Need]) -> Iterator[str]:
    """A sentence for every file, folder and column that lacks, in the order of the needs."""
    needs = list(needs)
    lacking = absent(needs)
    told: set[str] = set()
    for need in needs:
        for sentence in _unmet(need, lacking):
            if sentence not in told:
                told.add(sentence)
                yield sentence


def _unmet(need: Need, lacking: list[Path]) -> Iterator[str]:
    if need.path in lacking:
        yield f"{need.path} does not exist"
    if not need.columns or not need.path.exists():
        return
    try:
        header = _header(need.path)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        yield f"{need.path} is not a readable table ({fault_of(need.path, error)})"
        return
    if len(header) == 1 and ";" in header[0]:
        yield f"{need.path} is separated by semicolons: save it with commas"
        return
    for name in need.columns:
        if name not in header:
            near = difflib.get_close_matches(name, header, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"it has {', '.join(header[:5])} ..."
            yield f"{need.path} has no column '{name}'; {hint}"


def missing_files(files: Files) -> tuple[int, int, Path | None]:
    """How many of the files are looked for (`SAMPLED`, evenly), how many of these are missing, and one of them."""
    looked = _evenly(files.paths, SAMPLED)
    missing = [path for path in looked if not path.exists()]
    return len(looked), len(missing), missing[0] if missing else None


def unreadable_files(files: Files) -> tuple[int, int, str]:
    """How many of the files that exist are decoded (`DECODED`, evenly), how many cannot be, and why one cannot."""
    there = [path for path in _evenly(files.paths, SAMPLED) if path.exists()]
    faults = []
    tried = _evenly(there, DECODED)
    for path in tried:
        try:
            files.decode(path)
        except MemoryError:
            raise
        except Exception as error:  # as in decoding: libraries raise whatever they stumble on
            reason = str(error) if isinstance(error, UserError | OSError) else type(error).__name__
            faults.append(f"{path}: {reason}" if reason else str(path))
    return len(tried), len(faults), faults[0] if faults else ""


def _evenly(paths: Iterable[Path], most: int) -> list[Path]:
    every = list(paths)
    places = np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)
    return [every[place] for place in places]


def _header(path: Path) -> list[str]:
    """Names of a table's columns as text; a column without one is called ""."""
    if path.suffix in {".parquet", ".pq"}:
        return list(pq.read_schema(path).names)
    if path.suffix == ".xlsx":
        first = workbook(path, header=None, nrows=1)
    else:
        first = pd.read_csv(path, header=None, nrows=1, dtype=str, encoding="utf-8-sig")
    return [str(name) for name in first.astype(object).fillna("").iloc[0]]
