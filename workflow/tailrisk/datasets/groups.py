"""The groups stage: who a prepared dataset's records belong to. Nothing here is known to training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
    rows = None if has_changed(dataset, folder) else _rows(dataset, records)
    if rows is None:
        raise UserError(
            f"{dataset.where} has changed since {folder} was prepared: remove {folder / 'card.json'} and run again"
        )
    frame = dataset.groups.reset_index(drop=True).iloc[rows].reset_index(drop=True)
    for name in frame:
        if frame[name].isna().all():
            raise UserError(f"{dataset.where}: group column '{name}' is blank in every row: correct or remove it")
        if not frame[name].map(lambda value: isinstance(value, list)).any():
            frame[name] = frame[name].astype(str).where(frame[name].notna()).astype("category")
    label = _label(dataset, dataset.labels[rows])
    if LABEL not in frame and not any(_same(frame[name], label) for name in frame):
        frame[LABEL] = label
    frame.insert(0, "record", dataset.record[rows])
    write_table(folder / "groups.parquet", "groups", frame)


def _rows(dataset: Dataset, records: pd.DataFrame) -> NDArray[np.int64] | None:
    """Rows of the prepared records in the dataset; None where they are others. Records whose file could not be used
    are not prepared; all others are, in the source's order."""
    index = pd.Index(dataset.record)
    if not index.is_unique:
        return None
    rows = index.get_indexer(records["record"])
    same = (rows >= 0).all() and np.array_equal(records["patient"].to_numpy(object), dataset.patient[rows])
    return rows.astype(np.int64) if same else None


def _label(dataset: Dataset, labels: NDArray[Any]) -> pd.Series:
    """The records' own labels as a group variable: a risk that looks like a group's may be that of a rare label."""
    if dataset.task != "multilabel":
        return pd.Series(np.array(dataset.classes, dtype=object)[labels]).astype("category")
    names = np.array(dataset.classes, dtype=object)
    observed = ~np.isnan(labels).all(axis=1)
    borne = pd.Series([names[row == 1].tolist() for row in labels], dtype=object)
    return borne.where(observed, None)


def _same(variable: pd.Series, label: pd.Series) -> bool:
    """Whether a variable is the label under other names."""
    if label.dtype == object or variable.isna().any():
        return False
    pairs = pd.DataFrame({"a": variable.astype(str), "b": label.astype(str)}).drop_duplicates()
    return not pairs["a"].duplicated().any() and not pairs["b"].duplicated().any()
