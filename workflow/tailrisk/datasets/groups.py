"""The groups stage: who a prepared dataset's records belong to. Nothing here is known to training."""

from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.config.sources import Source
from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.prepare import has_changed, read
from tailrisk.errors import UserError
from tailrisk.tables import read_table, write_table

LABEL = "label"
"""The group variable that every dataset has, unless one of its own says the same."""


def groups(spec: Source, folder: Path) -> None:
    """Write groups.parquet of a prepared dataset: one row per record, in the order of records.parquet."""
    dataset = read(spec)
    records = read_table(folder / "records.parquet", "records")
    same = all(
        np.array_equal(records[column].to_numpy(object), ids)
        for column, ids in (("record", dataset.record), ("patient", dataset.patient))
    )
    if not same or has_changed(dataset, folder):
        raise UserError(
            f"{dataset.where} has changed since {folder} was prepared: run snakemake with --forcerun prepare"
        )
    frame = dataset.groups.reset_index(drop=True).copy()
    for name in frame:
        if frame[name].isna().all():
            raise UserError(f"{dataset.where}: group column '{name}' is blank in every row: correct or remove it")
        if not frame[name].map(lambda value: isinstance(value, list)).any():
            frame[name] = frame[name].astype(str).where(frame[name].notna()).astype("category")
    label = _label(dataset)
    if LABEL not in frame and not any(_same(frame[name], label) for name in frame):
        frame[LABEL] = label
    frame.insert(0, "record", dataset.record)
    write_table(folder / "groups.parquet", "groups", frame)


def _label(dataset: Dataset) -> pd.Series:
    """The records' own labels as a group variable: a risk that looks like a group's may be that of a rare label."""
    if dataset.task != "multilabel":
        return pd.Series(np.array(dataset.classes, dtype=object)[dataset.labels]).astype("category")
    names = np.array(dataset.classes, dtype=object)
    observed = ~np.isnan(dataset.labels).all(axis=1)
    labels = pd.Series([names[row == 1].tolist() for row in dataset.labels], dtype=object)
    return labels.where(observed, None)


def _same(variable: pd.Series, label: pd.Series) -> bool:
    """Whether a variable is the label under other names."""
    if label.dtype == object or variable.isna().any():
        return False
    pairs = pd.DataFrame({"a": variable.astype(str), "b": label.astype(str)}).drop_duplicates()
    return not pairs["a"].duplicated().any() and not pairs["b"].duplicated().any()
