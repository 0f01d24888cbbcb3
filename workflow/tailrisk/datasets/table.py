"""A user's own table: any CSV or Parquet file with a patient column, a label and feature columns."""

import hashlib
import lzma
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from tailrisk.config.base import suggestion
from tailrisk.config.sources import Table
from tailrisk.datasets.contract import SPLITS, Dataset, first
from tailrisk.datasets.encode import encode
from tailrisk.errors import UserError


def read(spec: Table) -> Dataset:
    """One record a row. Ids are read as text; labels become class numbers in sorted order (two make 0 and 1)."""
    path = Path(spec.path)
    table = _load(path, spec)
    ids = [spec.patient, *([spec.record] if spec.record else []), spec.label]
    used = [*ids, *spec.numeric, *spec.categorical, *spec.groups, *([spec.split] if spec.split else [])]
    for name in used:
        if name not in table:
            raise UserError(f"{path} has no column '{name}'; {suggestion(name, map(str, table.columns))}")
    leaked = sorted(set(ids) & {*spec.numeric, *spec.categorical})
    if leaked:
        raise UserError(f"{path}: column '{leaked[0]}' is an id or the label and cannot be a feature as well")
    shown = [name for name in spec.groups if name in (spec.patient, spec.record)]
    if shown:
        raise UserError(
            f"{path}: column '{shown[0]}' identifies patients or records and cannot be a group: reports show groups"
        )
    for name in ids:
        _no_blank(table, name, path)
        table[name] = table[name].astype(str).str.strip()
    _one_spelling(table, spec.label, path)
    for name in spec.numeric:
        _numbers(table, name, path)
    if spec.missing == "error":
        for name in [*spec.numeric, *spec.categorical]:
            _no_blank(table, name, path, "; fill it in, or set `missing: indicator`")
    classes, labels = np.unique(table[spec.label].astype(str).to_numpy(dtype=str), return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"{path}: column '{spec.label}' has a single class ('{classes[0]}'); a label needs two or more")
    inputs, features = encode(table, spec.numeric, spec.categorical, "missing" if spec.missing == "indicator" else None)
    return Dataset(
        title=spec.title or path.stem,
        task="binary" if len(classes) == 2 else "multiclass",
        classes=classes.tolist(),
        record=(
            table[spec.record].astype(str).to_numpy(object)
            if spec.record
            else np.array([f"row-{number}" for number in range(len(table))], dtype=object)
        ),
        patient=table[spec.patient].astype(str).to_numpy(object),
        inputs=inputs,
        labels=labels.astype(np.int64),
        groups=_groups(table, spec),
        features=features,
        licence=spec.licence or "not stated",
        preprocessing="Numbers standardised over all records; one indicator per level of a category.",
        where=str(path),
        split=_split(table, spec, path),
        checksums={path.name: hashlib.sha256(path.read_bytes()).hexdigest()},
    )


def _groups(table: pd.DataFrame, spec: Table) -> pd.DataFrame:
    groups = table[spec.groups].reset_index(drop=True)
    for name, separator in spec.separators.items():
        parts = [str(value).split(separator) for value in groups[name]]
        labels = [[part.strip() for part in row if part.strip()] for row in parts]
        groups[name] = pd.Series(labels, dtype=object).where(groups[name].notna(), None)
    return groups


def _load(path: Path, spec: Table) -> pd.DataFrame:
    text = {name: str for name in (spec.patient, spec.record, spec.label) if name}
    try:
        if path.suffix in {".parquet", ".pq"}:
            table = pd.read_parquet(path)
        else:
            with warnings.catch_warnings():
                # With index_col=False empty ends of rows are fine; values beyond the header would be dropped.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = pd.read_csv(path, dtype=text, low_memory=False, index_col=False)
    except pd.errors.ParserWarning:
        raise UserError(f"{path}: rows hold more values than the header has columns: name or remove them") from None
    except OSError as error:
        raise UserError(f"cannot read the table {path}: {error.strerror or error}") from None
    except (
        ValueError,
        EOFError,
        ImportError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        pa.ArrowException,
    ) as error:
        raise UserError(f"{path} is not a readable table: {' '.join(str(error).split())}") from None
    if table.empty:
        raise UserError(f"{path} has no rows")
    return table


def _rows(mask: pd.Series) -> str:
    """The first offending data rows, counted from 1 without the header."""
    return first([number + 1 for number in np.flatnonzero(mask.to_numpy(dtype=bool))])


def _no_blank(table: pd.DataFrame, name: str, path: Path, remedy: str = "") -> None:
    blank = table[name].isna()
    if blank.any():
        raise UserError(f"{path}: column '{name}' is blank in row {_rows(blank)}{remedy}")


def _one_spelling(table: pd.DataFrame, label: str, path: Path) -> None:
    """Classes such as 1 and 1.0 are one class spelt twice, never two."""
    classes = pd.Series(sorted(table[label].unique()))
    numbers = pd.to_numeric(classes, errors="coerce")
    twice = classes[numbers.notna() & numbers.duplicated(keep=False)].tolist()
    if twice:
        raise UserError(f"{path}: column '{label}' spells one class in several ways ({first(twice)}): make them one")


def _numbers(table: pd.DataFrame, name: str, path: Path) -> None:
    numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
    wrong = (numbers.isna() & table[name].notna()) | np.isinf(numbers)
    if wrong.any():
        raise UserError(f"{path}: column '{name}' is not a finite number in row {_rows(wrong)}")
    table[name] = numbers


def _split(table: pd.DataFrame, spec: Table, path: Path) -> np.ndarray | None:
    if spec.split is None:
        return None
    odd = ~table[spec.split].isin(SPLITS)
    if odd.any():
        raise UserError(f"{path}: column '{spec.split}' is not audit, validation or test in row {_rows(odd)}")
    return table[spec.split].astype(str).to_numpy(object)
