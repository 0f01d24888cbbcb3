"""The prepared dataset: what every source must deliver, its validation, and how later stages open it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.errors import UserError
from tailrisk.tables import read_json, read_table

Task = Literal["binary", "multiclass", "multilabel"]
SPLITS = ("audit", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """What a source delivers, before it is split.

    `record` and `patient` are ids [N]; `inputs` is a table [N, F] float32, signals [N, leads, samples] float32 or
    images [N, channels, height, width] uint8; `features` names the columns of a table or the leads of signals, and is
    empty for images; `labels` is [N] int64 (binary 0/1, or
    class numbers), or [N, L] float32 with NaN for an unobserved label. `split` [N] is set where the source brings
    its own; `groups` holds one column a group variable, missing where unknown. `where` names the source in messages.
    """

    title: str
    task: Task
    classes: list[str]
    record: NDArray[np.object_]
    patient: NDArray[np.object_]
    inputs: NDArray[Any]
    labels: NDArray[Any]
    groups: pd.DataFrame
    features: list[str]
    licence: str
    preprocessing: str
    where: str
    split: NDArray[np.object_] | None = None
    checksums: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Prepared:
    """A prepared dataset as later stages open it. `control` [N] marks the records of negative controls."""

    inputs: NDArray[Any]
    labels: NDArray[Any]
    record: NDArray[np.object_]
    patient: NDArray[np.object_]
    split: NDArray[np.object_]
    control: NDArray[np.bool_]
    task: Task
    classes: list[str]
    n_outputs: int
    data_hash: str
    features: list[str]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Row numbers of a split, rising."""
        return np.flatnonzero(self.split == split)


def open_prepared(folder: Path) -> Prepared:
    """Open results/datasets/D; inputs stay on disk as a memory map."""
    records = read_table(folder / "records.parquet", "records")
    card = read_json(folder / "card.json")
    try:
        inputs, labels = np.load(folder / "inputs.npy", mmap_mode="r"), np.load(folder / "labels.npy")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot open the arrays in {folder} ({error}): delete the folder and run again") from None
    if not len(inputs) == len(labels) == len(records):
        raise UserError(f"{folder}: inputs, labels and records differ in length: delete the folder and run again")
    control = records["control"].to_numpy(bool) if "control" in records else np.zeros(len(records), dtype=bool)
    return Prepared(
        inputs=inputs,
        labels=labels,
        record=records["record"].to_numpy(object),
        patient=records["patient"].to_numpy(object),
        split=records["split"].astype(str).to_numpy(object),
        control=control,
        task=card["task"],
        classes=list(card["classes"]),
        n_outputs=card["n_outputs"],
        data_hash=card["data_hash"],
        features=card.get("feature_names", []),
    )


def first(items: Sequence[Any], limit: int = 3) -> str:
    """The first few items for a message, with the number of the others."""
    shown = ", ".join(str(item) for item in items[:limit])
    return shown + (f" and {len(items) - limit} more" if len(items) > limit else "")


def data_hash(records: pd.DataFrame, inputs: NDArray[Any], labels: NDArray[Any], features: Sequence[str] = ()) -> str:
    """SHA-256 over everything that training and queries see.

    That is inputs, labels, record and patient ids, splits and controls, and the names by which queries hide features.
    """
    digest = hashlib.sha256()
    for array in (inputs, labels):
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    for column in ("record", "patient", "split", "control"):
        if column in records:
            digest.update("\0".join([column, *records[column].astype(str)]).encode())
    digest.update("\0".join(["features", *features]).encode())
    return digest.hexdigest()
