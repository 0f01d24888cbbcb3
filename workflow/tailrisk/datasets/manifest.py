"""A user's own table: whose the records are, their labels, split and groups, and the files that they lie in."""

import hashlib
import lzma
import os
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
from tailrisk.datasets.columns import text_ids, without_empty_fractions
from tailrisk.datasets.contract import SPLITS, Dataset, Files, Task, excluded, first
from tailrisk.datasets.labels import fault_of, refuse
from tailrisk.datasets.needs import Need
from tailrisk.errors import UserError

PARQUET = {".parquet", ".pq"}
OBSERVED = {"0": 0.0, "0.0": 0.0, "false": 0.0, "1": 1.0, "1.0": 1.0, "true": 1.0}
"""How a label of several may be written, in lower case."""
NOTHING = ["NA", "N/A", "n/a", "#N/A", "#N/A N/A", "#NA", "<NA>", "NaN", "nan", "-NaN", "-nan", "NULL", "null"]
NOTHING += ["None", "1.#IND", "-1.#IND", "1.#QNAN", "-1.#QNAN"]
"""What programs write for a number that is missing. In other columns it may be a value, such as no insurance."""
MOST_CLASSES = 200
"""A column with more is taken for a wrong one, whose values may be patients' names."""


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


def read_own(
    spec: Columns, labels: Sequence[str], numeric: Sequence[str] = (), categorical: Sequence[str] = ()
) -> pd.DataFrame:
    """The table of `spec`, in which all columns but the `numeric` ones are stripped text, missing where blank alone.

    Ids of patients and records are complete, and whole numbers among them have no fraction (15709.0 is 15709).
    UserError where the table is none, lacks a column, would show an id as a group, or has ids that cannot be told
    apart.
    """
    path = Path(spec.path)
    file = spec.file if isinstance(spec, Manifest) else None
    known = (*columns_of(spec), *labels, file, *categorical)
    described = list(dict.fromkeys(name for name in known if name and name not in numeric))
    table = _load(path, described)
    for name in [*described, *numeric]:
        if name not in table:
            raise UserError(f"{path} has no column '{name}'; {suggestion(name, map(str, table.columns))}")
    shown = [name for name in spec.groups if name in (spec.patient, spec.record, file)]
    if shown:
        raise UserError(
            f"{path}: column '{shown[0]}' identifies patients or records and cannot be a group: reports show groups"
        )
    for identifier in filter(None, (spec.patient, spec.record)):
        _exact(path, table, identifier)
    table = table.assign(**{name: _text(table[name]) for name in described})
    no_blank(path, table, spec.patient)
    refuse(
        path,
        table[spec.patient].isin(NOTHING),
        f"column '{spec.patient}' holds a word for none, such as NA, in place of a patient's id",
    )
    table[spec.patient] = text_ids(path, table, spec.patient)
    if spec.record and spec.record != spec.patient:
        no_blank(path, table, spec.record)
        table[spec.record] = without_empty_fractions(table[spec.record])
    if spec.record:
        refuse(path, table[spec.record].duplicated(), "a record id occurs a second time,")
    return table


def classes_of(path: Path, table: pd.DataFrame, label: str, patient: str) -> tuple[Task, list[str], NDArray[np.int64]]:
    """Task, classes in sorted order and class numbers [N] of a column.

    UserError where it is blank, has one class, or has so many for the patients that it can hardly be the label; this
    comes first, as later messages name classes.
    """
    no_blank(path, table, label)
    patients = table.groupby(label)[patient].nunique()
    several = f"{path}: column '{label}' has {len(patients):,} classes in {len(table):,} rows"
    if len(patients) > MOST_CLASSES:
        raise UserError(f"{several}: is it the label?")
    if len(patients) > 1 and patients.eq(1).mean() > 0.5:
        raise UserError(f"{several}, most of them of a single patient: is it the label?")
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
    every = _files(path, table, spec)
    # A signal is one file by several names, with and without a suffix.
    places = pd.Series([os.path.normpath(file.absolute()) for file in inputs(every).paths])
    refuse(path, places.duplicated(), f"column '{spec.file}' names a file a second time")
    paths = [file for file, kept in zip(every, keep, strict=True) if kept]
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
        groups[name] = without_empty_fractions(_text(groups[name]))
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
                table = pd.read_csv(
                    path, dtype=types, na_values=[""], keep_default_na=False, low_memory=False, index_col=False
                )
    except pd.errors.ParserWarning:
        raise UserError(f"{path}: rows hold more values than the header has columns: name or remove them") from None
    except OSError as error:
        fault = fault_of(path, error) if path.is_dir() else error.strerror or str(error)
        raise UserError(f"cannot read the table {path}: {fault}") from None
    except (
        ValueError,
        EOFError,
        ImportError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        pa.ArrowException,
    ) as error:
        raise UserError(f"{path} is not a readable table: {fault_of(path, error)}") from None
    if table.empty:
        raise UserError(f"{path} has no rows")
    return table.reset_index(drop=True)


def _text(column: pd.Series) -> pd.Series:
    """Stripped text, missing where blank."""
    text = column.astype(object).map(lambda value: str(value).strip(), na_action="ignore")
    return text.where(text != "")


def _exact(path: Path, table: pd.DataFrame, name: str) -> None:
    """UserError where a Parquet file stores ids as floating-point numbers that several ids may have been rounded to."""
    kind = table[name].dtype
    if not pd.api.types.is_float_dtype(kind):
        return
    values = pd.Series(table[name].to_numpy(float, na_value=np.nan))
    digits = np.finfo(getattr(kind, "numpy_dtype", kind)).nmant + 1
    refuse(
        path,
        (values.abs() >= 2.0**digits) | (values.notna() & (values != values.round())),
        f"column '{name}' stores ids as floating-point numbers with a fraction, or of 2^{digits} and more, which are "
        "not exact (store them as text),",
    )


def _target(path: Path, table: pd.DataFrame, spec: Manifest) -> tuple[Task, list[str], NDArray[Any]]:
    if isinstance(spec.label, str):
        return classes_of(path, table, spec.label, spec.patient)
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
    """The records' files."""
    refuse(path, table[spec.file].isna(), f"column '{spec.file}' is blank")
    folder = _folder(spec)
    return [folder / f"{name}{spec.suffix}" for name in table[spec.file]]
