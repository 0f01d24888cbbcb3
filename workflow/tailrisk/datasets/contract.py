"""The prepared dataset: what every source must deliver, its validation, and how later stages open it."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from mmap import mmap
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from tailrisk.errors import UserError
from tailrisk.tables import read_json, read_table

Task = Literal["binary", "multiclass", "multilabel"]
Workers = Literal["threads", "processes"]
SPLITS = ("audit", "validation", "test")


@dataclass(frozen=True)
class Files:
    """Inputs that lie in a file each, to be decoded when they are needed.

    `decode` makes an array of `shape` and `dtype` of one of `paths` [N]; it raises UserError with the reason where the
    file is unfit, `decode.BlankError` where it has no content, and OSError where it cannot be read. It is a function of
    a module or a `functools.partial` of one, as `workers` may be processes; threads suit decoders written in C. `kind`
    says what the files are in messages ("images").
    """

    paths: Sequence[Path]
    decode: Callable[[Path], NDArray[Any]]
    shape: tuple[int, ...]
    dtype: DTypeLike
    kind: str
    workers: Workers = "threads"


def excluded(record: Sequence[str] | pd.Series = (), reason: str | Sequence[str] = "") -> pd.DataFrame:
    """A part of `Dataset.excluded`: rows of the source that become no records, and why."""
    return pd.DataFrame({"record": pd.Series(record, dtype=object).to_numpy(), "reason": reason}, dtype=object)


@dataclass(frozen=True)
class Dataset:
    """What a source delivers, before it is split.

    `record` and `patient` are ids [N]; `inputs` is a table [N, F] float32, signals [N, leads, samples] float32 or
    images [N, channels, height, width] uint8, in memory or as files to be decoded; `features` names the columns of a
    table or the leads of signals, and is empty for images; `labels` is [N] int64 (binary 0/1, or class numbers), or
    [N, L] float32 with NaN for an unobserved label. `split` [N] is set where the source brings its own, None in it
    for patients of whom a validation part is to be drawn; `groups` holds one column a group variable, missing where
    unknown. `where` names the source in messages. `excluded` lists the rows of the source's main table that are no
    records, each with one reason: records and excluded rows together are all of its rows. `expected` are counts that
    the literature gives for the complete source: of `rows` (of the main table), `records`, `patients`, or of
    `class <name>`.
    """

    title: str
    task: Task
    classes: list[str]
    record: NDArray[np.object_]
    patient: NDArray[np.object_]
    inputs: NDArray[Any] | Files
    labels: NDArray[Any]
    groups: pd.DataFrame
    features: list[str]
    licence: str
    preprocessing: str
    where: str
    split: NDArray[np.object_] | None = None
    checksums: dict[str, str] = field(default_factory=dict)
    excluded: pd.DataFrame = field(default_factory=excluded)
    expected: dict[str, int] = field(default_factory=dict)


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
        for block in _blocks(array):
            digest.update(np.ascontiguousarray(block).data)
    for column in ("record", "patient", "split", "control"):
        if column in records:
            digest.update("\0".join([column, *records[column].astype(str)]).encode())
    digest.update("\0".join(["features", *features]).encode())
    return digest.hexdigest()


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An array in parts of some MB; a memory map is opened anew for each, as pages count as memory while it is open."""
    step = max(1, (1 << 24) // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        # The base of a part of a map is another map, whose beginning is not that of the part.
        if isinstance(array, np.memmap) and isinstance(array.base, mmap) and array.flags.c_contiguous:
            array = np.memmap(array.filename, array.dtype, "r", array.offset, array.shape)
        yield array[start : start + step]
