"""The contract of a prepared dataset, checked: ids, splits, labels and inputs. Faults name the rows of the source."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.datasets.contract import SPLITS, Dataset, first
from tailrisk.errors import UserError

NEEDED = {"audit": 2, "validation": 1, "test": 1}
"""Patients that every class needs in a split: two to be told apart by halves, one to measure performance."""


def validate_records(dataset: Dataset, records: pd.DataFrame, keep: NDArray[np.int64] | None = None) -> None:
    """UserError naming the source and the first offending rows where ids, splits or labels break the contract.

    `records` are rows `keep` of the dataset (all by default).
    """
    rows = np.arange(len(records)) if keep is None else keep
    for column in ("record", "patient"):
        blank = records[column].isna() | (records[column].astype(str).str.strip() == "")
        _refuse(dataset, blank, f"a {column} id is missing", rows)
    _refuse(dataset, records["record"].duplicated(), "a record id occurs a second time", rows)
    crossing = records.groupby("patient")["split"].transform("nunique") > 1
    _refuse(dataset, crossing, "a patient has records in two splits", rows)
    _validate_labels(dataset, records, dataset.labels[rows], rows)


def validate_input_blocks(
    dataset: Dataset, rows: NDArray[np.int64], blocks: Iterable[NDArray[Any]]
) -> Iterator[NDArray[Any]]:
    """Hand on the `blocks` of inputs, together rows `rows` of the dataset; UserError where a value is not finite, or
    all records are the same."""
    done, same, reference = 0, True, None
    for block in blocks:
        flat = block.reshape(len(block), -1)
        if np.issubdtype(flat.dtype, np.floating):
            finite = np.isfinite(flat).all(axis=1)
            column = ""
            if not finite.all() and len(dataset.features) == flat.shape[1]:
                row = int(np.flatnonzero(~finite)[0])
                column = f" in feature '{dataset.features[int(np.flatnonzero(~np.isfinite(flat[row]))[0])]}'"
            _refuse(dataset, ~finite, f"an input is not finite{column}", rows[done : done + len(block)])
        reference = flat[:1].copy() if reference is None else reference
        same = same and bool((flat == reference).all())
        done += len(block)
        yield block
    if same:
        raise UserError(f"{dataset.where}: every record has the same inputs; nothing can be learned from them")


def _validate_labels(dataset: Dataset, records: pd.DataFrame, labels: NDArray[Any], rows_of: NDArray[np.int64]) -> None:
    where, classes = dataset.where, dataset.classes
    if dataset.task == "multilabel":
        wrong = ~(np.isnan(labels) | (labels == 0) | (labels == 1)).all(axis=1)
        _refuse(dataset, wrong, "a label is neither 0, 1 nor unobserved", rows_of)
    else:
        outside = (labels < 0) | (labels >= len(classes))
        _refuse(dataset, outside, f"a label is outside 0 to {len(classes) - 1}", rows_of)
    trained = records["split"] == "audit"
    if "control" in records:
        trained &= ~records["control"]
    for split, rows in ((name, records["split"] == name) for name in SPLITS):
        if not rows.any():
            raise UserError(
                f"{where}: no patient is in the {split} split; there are too few patients or its share is 0"
            )
        members = rows & trained if split == "audit" else rows
        for number, name in enumerate(classes):
            borne = labels[:, number] if dataset.task == "multilabel" else labels == number
            for value, without in ((1, ""), (0, " without it")):
                n = records.loc[members & (borne == value), "patient"].nunique()
                # Where a record has one class, those without it are those of the others.
                if n < NEEDED[split] and (value or dataset.task == "multilabel"):
                    raise UserError(
                        f"{where}: class '{name}' has {n} patient{'' if n == 1 else 's'}{without} in the {split} "
                        f"split, and {NEEDED[split]} are needed: merge or remove the class, or change the split"
                    )


def _refuse(
    dataset: Dataset, wrong: Sequence[bool] | NDArray[np.bool_] | pd.Series, fault: str, rows: NDArray[np.int64]
) -> None:
    found = rows[np.flatnonzero(np.asarray(wrong, dtype=bool))]
    if len(found):
        # Where rows of the source are left out, the number of a record is not that of its row.
        place = "row" if dataset.excluded.empty else "record number"
        raise UserError(f"{dataset.where}: {fault}, in {place} {first([int(row) + 1 for row in found])}")
