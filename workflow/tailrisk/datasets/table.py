"""A user's own table: any CSV or Parquet file with a patient column, a label and feature columns."""

from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.config.sources import Table
from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.encode import encode
from tailrisk.datasets.labels import refuse
from tailrisk.datasets.manifest import (
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
    """One record a row. Ids are read as text; labels become class numbers in sorted order (two make 0 and 1)."""
    path = Path(spec.path)
    features = [*spec.numeric, *spec.categorical]
    leaked = [name for name in features if name in (spec.patient, spec.record, spec.label)]
    if leaked:
        raise UserError(f"{path}: column '{leaked[0]}' is an id or the label and cannot be a feature as well")
    table = read_own(spec, [spec.label], features)
    task, classes, labels = classes_of(path, table, spec.label)
    for name in spec.numeric:
        _numbers(path, table, name)
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
    numbers = pd.to_numeric(table[name], errors="coerce").astype(float)
    wrong = (numbers.isna() & table[name].notna()) | np.isinf(numbers)
    refuse(path, wrong, f"column '{name}' is not a finite number")
    table[name] = numbers
