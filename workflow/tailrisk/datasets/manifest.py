"""A user's own table: whose the records are, their labels, split and groups, and the files that they lie in."""

import hashlib
import lzma
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from tailrisk.config.base import suggestion
from tailrisk.config.sources import Columns, Manifest
from tailrisk.datasets.contract import SPLITS, Dataset, Files, Task, excluded, first
from tailrisk.datasets.labels import refuse
from tailrisk.datasets.needs import Need
from tailrisk.errors import UserError

PARQUET = {".parquet", ".pq"}
OBSERVED = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
"""How a label of several may be written, in lower case."""


def columns_of(spec: Columns) -> list[str]:
    """The columns that say who a record belongs to and what is known of it."""
    return [name for name in (spec.patient, spec.record, *spec.groups, spec.split) if name]


def labels_of(spec: Manifest) -> list[str]:
    """The columns of labels."""
    return [spec.label] if isinstance(spec.label, str) else spec.label


def needs(spec: Manifest) -> list[Need]:
    """The table with its columns, and the folder of the files."""
    names = dict.fromkeys([*columns_of(spec), *labels_of(spec), spec.file])
    return [Need(Path(spec.path), tuple(names)), Need(_folder(spec))]


def read_own(spec: Columns, labels: Sequence[str], features: Sequence[str] = ()) -> pd.DataFrame:
    """The table of `spec`, in which all columns but `features` are stripped text, missing where blank.

    Ids of patients and records are complete, and whole numbers among them have no fraction (15709.0 is 15709).
    UserError where the table is none, lacks a column, or would show an id as a group.
    """
    path = Path(spec.path)
    file = spec.file if isinstance(spec, Manifest) else None
    described = [name for name in (*columns_of(spec), *labels, file) if name and name not in features]
    table = _load(path, described)
    for name in [*described, *features, *spec.groups]:
        if name not in table:
            raise UserError(f"{path} has no column '{name}'; {suggestion(name, map(str, table.columns))}")
    shown = [name for name in spec.groups if name in (spec.patient, spec.record, file)]
    if shown:
        raise UserError(
            f"{path}: column '{shown[0]}' identifies patients or records and cannot be a group: reports show groups"
        )
    table = table.assign(**{name: _text(table[name]) for name in dict.fromkeys(described)})
    for name in [spec.patient, *([spec.record] if spec.record else [])]:
        no_blank(path, table, name)
        table[name] = _whole(table[name])
    if spec.record:
        refuse(path, table[spec.record].duplicated(), "a record id occurs a second time,")
    return table


def classes_of(path: Path, table: pd.DataFrame, label: str) -> tuple[Task, list[str], NDArray[np.int64]]:
    """Task, classes in sorted order and class numbers [N] of a column; UserError where it is blank or has one class."""
    no_blank(path, table, label)
    names = pd.Series(sorted(table[label].unique()))
    numbers = pd.to_numeric(names, errors="coerce")
    twice = names[numbers.notna() & numbers.duplicated(keep=False)].tolist()
    if twice:  # such as 1 and 1.0
        raise UserError(f"{path}: column '{label}' spells one class in several ways ({first(twice)}): make them one")
    classes, labels = np.unique(table[label].to_numpy(dtype=str), return_inverse=True)
    if len(classes) < 2:
        raise UserError(f"{path}: column '{label}' has a single class ('{classes[0]}'); a label needs two or more")
    return "binary" if len(classes) == 2 else "multiclass", classes.tolist(), labels.astype(np.int64)


def files_dataset(
    spec: Manifest, inputs: Callable[[list[Path]], Files], features: list[str], preprocessing: str
) -> Dataset:
    """The dataset of a manifest whose files become `inputs`. One record a row; none where no label is observed."""
    path = Path(spec.path)
    table = read_own(spec, labels_of(spec))
    task, classes, labels = _target(path, table, spec)
    keep = ~np.isnan(labels.reshape(len(labels), -1)).all(axis=1)
    if not keep.any():
        raise UserError(f"{path}: the columns of `label` are blank in every row")
    record, split = record_ids(table, spec), split_of(path, table, spec)
    paths = [file for file, kept in zip(_files(path, table, spec), keep, strict=True) if kept]
    files = inputs(paths)
    if not any(file.is_file() for file in files.paths):
        raise UserError(
            f"none of the {len(paths):,} {files.kind} in {path} is there, such as {files.paths[0]}: fetch them, or "
            "correct `folder`, `file` or `suffix`"
        )
    return Dataset(
        title=spec.title or path.stem,
        task=task,
        classes=classes,
        record=record[keep],
        patient=table[spec.patient].to_numpy(object)[keep],
        inputs=files,
        labels=labels[keep],
        groups=groups_of(table[keep], spec),
        features=features,
        licence=spec.licence or "not stated",
        preprocessing=preprocessing,
        where=str(path),
        split=None if split is None else split[keep],
        checksums=checksum(path),
        excluded=excluded(record[~keep], "no label is observed"),
    )


def record_ids(table: pd.DataFrame, spec: Columns) -> NDArray[np.object_]:
    """Ids of the records: the user's own, or the number of the row."""
    if spec.record:
        return table[spec.record].to_numpy(object)
    return np.array([f"row-{number}" for number in table.index], dtype=object)


def groups_of(table: pd.DataFrame, spec: Columns) -> pd.DataFrame:
    """The group columns; lists where a column holds several labels in one value."""
    groups = table[spec.groups].reset_index(drop=True)
    for name in groups:
        groups[name] = _whole(_text(groups[name]))
    for name, separator in spec.separators.items():
        parts = [str(value).split(separator) for value in groups[name]]
        labels = [[part.strip() for part in row if part.strip()] for row in parts]
        groups[name] = pd.Series(labels, dtype=object).where(groups[name].notna(), None)
    return groups


def split_of(path: Path, table: pd.DataFrame, spec: Columns) -> NDArray[np.object_] | None:
    """The user's own split [N], if there is one."""
    if spec.split is None:
        return None
    refuse(path, ~table[spec.split].isin(SPLITS), f"column '{spec.split}' is not audit, validation or test")
    return table[spec.split].to_numpy(object)


def checksum(path: Path) -> dict[str, str]:
    """SHA-256 of the table by its name."""
    with path.open("rb") as file:
        return {path.name: hashlib.file_digest(file, "sha256").hexdigest()}


def no_blank(path: Path, table: pd.DataFrame, name: str, remedy: str = "") -> None:
    """UserError where the column `name` has a blank."""
    blank = table[name].isna()
    if blank.any():
        rows = first([int(row) + 1 for row in np.flatnonzero(blank)])
        raise UserError(f"{path}: column '{name}' is blank in row {rows}{remedy}")


def _load(path: Path, text: Sequence[str]) -> pd.DataFrame:
    try:
        if path.suffix in PARQUET:
            table = pd.read_parquet(path)
        else:
            with warnings.catch_warnings():
                # With index_col=False empty ends of rows are fine; values beyond the header would be dropped.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                types: Any = dict.fromkeys(text, str)
                table = pd.read_csv(path, dtype=types, low_memory=False, index_col=False)
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
    return table.reset_index(drop=True)


def _text(column: pd.Series) -> pd.Series:
    """Stripped text, missing where blank."""
    text = column.astype(object).map(lambda value: str(value).strip(), na_action="ignore")
    return text.where(text != "")


def _whole(text: pd.Series) -> pd.Series:
    """Without the empty fraction of whole numbers, where a column holds nothing else: 15709.0 becomes 15709."""
    known = text.dropna().astype(str)
    if known.str.fullmatch(r"-?\d+(\.0*)?").all():
        return text.map(lambda value: value.partition(".")[0], na_action="ignore")
    return text


def _target(path: Path, table: pd.DataFrame, spec: Manifest) -> tuple[Task, list[str], NDArray[Any]]:
    if isinstance(spec.label, str):
        return classes_of(path, table, spec.label)
    return "multilabel", spec.label, _several(path, table, spec.label)


def _several(path: Path, table: pd.DataFrame, names: list[str]) -> NDArray[np.float32]:
    """Labels [N, L] of columns of 0 and 1, NaN where blank."""
    columns = []
    for name in names:
        values = table[name].map(lambda value: OBSERVED.get(value.lower()), na_action="ignore").astype(float)
        refuse(path, values.isna() & table[name].notna(), f"column '{name}' is neither 0, 1 nor blank")
        columns.append(values.to_numpy(np.float32))
    return np.stack(columns, axis=1)


def _folder(spec: Manifest) -> Path:
    return Path(spec.path).parent if spec.folder is None else Path(spec.folder)


def _files(path: Path, table: pd.DataFrame, spec: Manifest) -> list[Path]:
    """The records' files. Two records in one file would be one input under two ids."""
    refuse(path, table[spec.file].isna(), f"column '{spec.file}' is blank")
    refuse(path, table[spec.file].duplicated(), f"column '{spec.file}' names a file a second time")
    folder = _folder(spec)
    return [folder / f"{name}{spec.suffix}" for name in table[spec.file]]
