"""A user's own table: any CSV or Parquet file with a patient column, a label and feature columns."""

from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.config.sources import Table
from tailrisk.datasets.columns import in_several_ways
from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.encode import encode
from tailrisk.datasets.labels import refuse
from tailrisk.datasets.manifest import (
    NOTHING,
    checksum,
    classes_of,
    columns_of,
    groups_of,
    no_blank,
    read_own,
    record_ids,
    split_of,
)
from tailrisk.datasets.needs import Need
from tailrisk.errors import UserError


def needs(spec: Table) -> list[Need]:
    """The table and its columns."""
    names = dict.fromkeys([*columns_of(spec), spec.label, *spec.numeric, *spec.categorical])
    return [Need(Path(spec.path), tuple(names))]


def read(spec: Table) -> Dataset:
    """One record a row. Ids and categories are text; labels become class numbers in sorted order (two make 0 and 1)."""
    path = Path(spec.path)
    features = [*spec.numeric, *spec.categorical]
    leaked = [name for name in features if name in (spec.patient, spec.record, spec.label)]
    if leaked:
        raise UserError(f"{path}: column '{leaked[0]}' is an id or the label and cannot be a feature as well")
    table = read_own(spec, [spec.label], spec.numeric, spec.categorical)
    task, classes, labels = classes_of(path, table, spec.label, spec.patient)
    for name in spec.numeric:
        _numbers(path, table, name)
    for name in spec.categorical:
        fault = f"column '{name}' writes one level in several ways, such as 1 and 1.0 or 01 (make them one),"
        refuse(path, in_several_ways(table[name]), fault)
    if spec.missing == "error":
        for name in features:
            no_blank(path, table, name, "; fill it in, or set `missing: indicator`")
    level = "missing" if spec.missing == "indicator" else None
    inputs, names = encode(table, spec.numeric, spec.categorical, level)
    return Dataset(
        title=spec.title or path.stem,
        task=task,
        classes=classes,
        record=record_ids(table, spec),
        patient=table[spec.patient].to_numpy(object),
        inputs=inputs,
        labels=labels,
        groups=groups_of(table, spec),
        features=names,
        licence=spec.licence or "not stated",
        preprocessing="Numbers standardised over all records; one indicator per level of a category.",
        where=str(path),
        split=split_of(path, table, spec),
        checksums=checksum(path),
    )


def _numbers(path: Path, table: pd.DataFrame, name: str) -> None:
    column = table[name]
    if not pd.api.types.is_numeric_dtype(column):
        column = column.where(~column.isin(NOTHING))
    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    wrong = (numbers.isna() & column.notna()) | np.isinf(numbers)
    refuse(path, wrong, f"column '{name}' is not a finite number")
    table[name] = numbers
