"""The prepare stage: read a source, split it by patient, validate it, and write results/datasets/D."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import Source
from tailrisk.datasets.contract import SPLITS, Dataset, data_hash, first
from tailrisk.datasets.draws import unit_hash
from tailrisk.errors import UserError
from tailrisk.tables import read_json, write_array, write_json, write_table

NEEDED = {"audit": 2, "validation": 1, "test": 1}
"""Patients that every class needs in a split: two to be told apart by halves, one to measure performance."""


def read(spec: Source) -> Dataset:
    """What the source of `spec` delivers; its reader is the module of this package named after the source."""
    module = importlib.import_module(f"tailrisk.datasets.{spec.source}")  # type: ignore[attr-defined]
    dataset: Dataset = module.read(spec)
    return dataset


def prepare(name: str, spec: Source, folder: Path) -> None:
    """Write records.parquet, inputs.npy, labels.npy and card.json of the dataset `name`; UserError if it is unfit."""
    dataset = read(spec)
    split = draw_split(dataset.patient, spec) if dataset.split is None else dataset.split
    records = pd.DataFrame({"record": dataset.record, "patient": dataset.patient, "split": split})
    if spec.controls > 0:
        drawn = unit_hash("control", spec.split_seed, dataset.patient) < spec.controls
        records["control"] = drawn & (split == "audit")
    validate(dataset, records)
    folder.mkdir(parents=True, exist_ok=True)
    write_array(folder / "inputs.npy", dataset.inputs)
    write_array(folder / "labels.npy", dataset.labels)
    write_table(folder / "records.parquet", "records", records)
    write_json(folder / "card.json", card(name, dataset, records))


def has_changed(dataset: Dataset, folder: Path) -> bool:
    """Whether the files of the source are others than those that `folder` was prepared from."""
    return bool(read_json(folder / "card.json")["checksums"] != dataset.checksums)


def draw_split(patients: NDArray[np.object_], spec: Source) -> NDArray[np.object_]:
    """Split [N] by patient; a patient's split does not depend on who else is in the dataset."""
    u = unit_hash("split", spec.split_seed, patients)
    split = np.full(len(patients), "audit", dtype=object)
    split[u < spec.test + spec.validation] = "validation"
    split[u < spec.test] = "test"
    return split


def validate(dataset: Dataset, records: pd.DataFrame) -> None:
    """UserError naming the source and the first offending rows where the dataset breaks the contract."""
    where = dataset.where
    for column in ("record", "patient"):
        blank = records[column].isna() | (records[column].astype(str).str.strip() == "")
        _refuse(where, blank, f"a {column} id is missing")
    _refuse(where, records["record"].duplicated(), "a record id occurs a second time")
    crossing = records.groupby("patient")["split"].transform("nunique") > 1
    _refuse(where, crossing, "a patient has records in two splits")
    flat = dataset.inputs.reshape(len(dataset.inputs), -1)
    if np.issubdtype(flat.dtype, np.floating):
        finite = np.isfinite(flat).all(axis=1)
        column = ""
        if not finite.all() and len(dataset.features) == flat.shape[1]:
            row = int(np.flatnonzero(~finite)[0])
            column = f" in feature '{dataset.features[int(np.flatnonzero(~np.isfinite(flat[row]))[0])]}'"
        _refuse(where, ~finite, f"an input is not finite{column}")
    constant = (flat == flat[:1]).all()
    if constant:
        raise UserError(f"{where}: every record has the same inputs; nothing can be learned from them")
    _validate_labels(dataset, records)


def _validate_labels(dataset: Dataset, records: pd.DataFrame) -> None:
    where, labels, classes = dataset.where, dataset.labels, dataset.classes
    if dataset.task == "multilabel":
        wrong = ~(np.isnan(labels) | (labels == 0) | (labels == 1)).all(axis=1)
        _refuse(where, wrong, "a label is neither 0, 1 nor unobserved")
    else:
        _refuse(where, (labels < 0) | (labels >= len(classes)), f"a label is outside 0 to {len(classes) - 1}")
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
            if dataset.task == "multilabel":
                counts = [records.loc[members & (labels[:, number] == value), "patient"].nunique() for value in (0, 1)]
                n = min(counts)
            else:
                n = records.loc[members & (labels == number), "patient"].nunique()
            if n < NEEDED[split]:
                raise UserError(
                    f"{where}: class '{name}' has {n} patient{'' if n == 1 else 's'} in the {split} split, and "
                    f"{NEEDED[split]} are needed: merge or remove the class, or change the split"
                )


def _refuse(where: str, wrong: Sequence[bool] | NDArray[np.bool_] | pd.Series, fault: str) -> None:
    rows = np.flatnonzero(np.asarray(wrong, dtype=bool))
    if len(rows):
        raise UserError(f"{where}: {fault}, in row {first([int(row) + 1 for row in rows])}")


def card(name: str, dataset: Dataset, records: pd.DataFrame) -> dict[str, Any]:
    """The dataset's card: what it is, its counts, how it was prepared, and the hashes that identify it."""
    by_split = {
        split: {"records": len(part), "patients": int(part["patient"].nunique())}
        for split, part in records.groupby("split", observed=True)
    }
    if dataset.task == "multilabel":
        counts = {c: int(np.nansum(dataset.labels[:, i])) for i, c in enumerate(dataset.classes)}
    else:
        counts = {c: int((dataset.labels == i).sum()) for i, c in enumerate(dataset.classes)}
    per_patient = records["patient"].value_counts()
    controls = records.loc[records["control"], "patient"].nunique() if "control" in records else 0
    return {
        "name": name,
        "title": dataset.title,
        "task": dataset.task,
        "n_outputs": 1 if dataset.task == "binary" else len(dataset.classes),
        "n_records": len(records),
        "n_patients": len(per_patient),
        "patients_with_several_records": int((per_patient > 1).sum()),
        "most_records_of_a_patient": int(per_patient.max()),
        "splits": {split: by_split[split] for split in SPLITS},
        "controls": int(controls),
        "classes": counts,
        "input_shape": list(dataset.inputs.shape[1:]),
        "features": len(dataset.features),
        "feature_names": dataset.features,
        "preprocessing": dataset.preprocessing,
        "licence": dataset.licence,
        "source": dataset.where,
        "checksums": dataset.checksums,
        "data_hash": data_hash(records, dataset.inputs, dataset.labels, dataset.features),
    }
