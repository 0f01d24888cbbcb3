"""The prepare stage: read a source, decode its files, split it by patient, validate it, write results/datasets/D."""

import hashlib
import importlib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.base import canonical
from tailrisk.config.fingerprint import fingerprint
from tailrisk.config.sources import UNREAD, FileSource, Source
from tailrisk.datasets.card import card, in_short
from tailrisk.datasets.contract import Dataset, Files
from tailrisk.datasets.decode import BLOCK_BYTES, Decoding, Faults, fault_table
from tailrisk.datasets.draws import unit_hash
from tailrisk.datasets.validate import validate_input_blocks, validate_records
from tailrisk.tables import read_json, write_array, write_blocks, write_json, write_table

DECODING = ".decoding"
"""Folder of a dataset that holds what is decoded so far; Snakemake, which deletes a failed job's outputs, leaves it."""


def read(spec: Source) -> Dataset:
    """What the source of `spec` delivers, by the module of this package that it names."""
    module = importlib.import_module(f"tailrisk.datasets.{spec.module}")
    dataset: Dataset = module.read(spec)
    return dataset


def prepare(name: str, spec: Source, folder: Path, threads: int = 1) -> None:
    """Write records, excluded, inputs, labels and card.json of the dataset `name`; UserError if it is unfit.

    The files of a source are decoded on `threads` threads or processes into a folder that survives a killed job; those
    that cannot be used are left out and listed, up to the share that `spec` allows.
    """
    dataset = read(spec)
    records = describe(dataset, spec)
    validate_records(dataset, records)  # what needs no decoding is found before hours of it
    keep, faults = np.arange(len(records)), Faults()
    decoding = None
    if isinstance(dataset.inputs, Files):
        assert isinstance(spec, FileSource)
        decoding = Decoding(dataset.inputs, folder / DECODING, _key(spec, dataset.inputs))
        faults = decoding.run(spec.max_quarantined, threads)
        keep = np.setdiff1d(keep, list(faults))
        records = records.iloc[keep].reset_index(drop=True)
        if faults:
            validate_records(dataset, records, keep)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.json").unlink(missing_ok=True)  # written last: a folder with a card is whole
    for left in folder.glob(".*.tmp"):  # by a killed job
        left.unlink()
    inputs, labels = folder / "inputs.npy", dataset.labels[keep]
    blocks = decoding.rows(keep) if decoding else _blocks(np.asarray(dataset.inputs))
    write_blocks(inputs, (len(keep), *_shape(dataset)), _dtype(dataset), validate_input_blocks(dataset, keep, blocks))
    write_array(folder / "labels.npy", labels)
    write_table(folder / "records.parquet", "records", records)
    write_table(folder / "excluded.parquet", "excluded", _excluded(dataset, faults))
    told = card(name, dataset, records, np.load(inputs, mmap_mode="r"), labels, faults)
    write_json(folder / "card.json", told | {"options": _options(spec)})
    if decoding:
        decoding.clear()
    print(in_short(name, told), flush=True)


def has_changed(dataset: Dataset, folder: Path) -> bool:
    """Whether the files of the source are others than those that `folder` was prepared from."""
    return bool(read_json(folder / "card.json")["checksums"] != dataset.checksums)


def is_outdated(spec: Source, folder: Path) -> bool:
    """Whether `folder` was prepared with other options, so that the workflow will prepare it again by itself."""
    return bool(read_json(folder / "card.json").get("options") != _options(spec))


def describe(dataset: Dataset, spec: Source) -> pd.DataFrame:
    """records.parquet: record, patient, split, and control where there are negative controls."""
    records = pd.DataFrame({"record": dataset.record, "patient": dataset.patient, "split": split_of(dataset, spec)})
    if spec.controls > 0:
        drawn = unit_hash("control", spec.split_seed, dataset.patient) < spec.controls
        records["control"] = drawn & (records["split"] == "audit").to_numpy()
    return records


def split_of(dataset: Dataset, spec: Source) -> NDArray[np.object_]:
    """Split [N]: drawn, the source's own, or the source's own with a validation part drawn where it states none."""
    if dataset.split is None:
        return draw_split(dataset.patient, spec)
    open_ = np.array([split is None for split in dataset.split])
    validation = unit_hash("split", spec.split_seed, dataset.patient) < spec.validation
    return np.where(open_, np.where(validation, "validation", "audit"), dataset.split).astype(object)


def draw_split(patients: NDArray[np.object_], spec: Source) -> NDArray[np.object_]:
    """Split [N] by patient; a patient's split does not depend on who else is in the dataset."""
    u = unit_hash("split", spec.split_seed, patients)
    split = np.full(len(patients), "audit", dtype=object)
    split[u < spec.test + spec.validation] = "validation"
    split[u < spec.test] = "test"
    return split


def _options(spec: Source) -> dict[str, Any]:
    """The options that decide a prepared dataset."""
    return spec.model_dump(mode="json", exclude=UNREAD)


def _key(spec: Source, files: Files) -> str:
    """All that decides what the files decode to: options, code, libraries, and which files in which order."""
    code = fingerprint("tailrisk.datasets.decode", f"tailrisk.datasets.{spec.module}", within="tailrisk.datasets")
    options = canonical(_options(spec))
    versions = [f"{name} {version(name)}" for name in ("numpy", "pillow", "pydicom", "wfdb")]
    text = "\0".join([code, options, *versions, *map(str, files.paths)])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _blocks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    step = max(1, BLOCK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), step):
        yield array[start : start + step]


def _shape(dataset: Dataset) -> tuple[int, ...]:
    return dataset.inputs.shape if isinstance(dataset.inputs, Files) else dataset.inputs.shape[1:]


def _dtype(dataset: Dataset) -> np.dtype[Any]:
    return np.dtype(dataset.inputs.dtype)


def _excluded(dataset: Dataset, faults: Faults) -> pd.DataFrame:
    """What is left out: rows of the source that are no records of the cohort, and records without a usable file."""
    cohort = dataset.excluded.assign(stage="cohort", detail="")
    paths = dataset.inputs.paths if isinstance(dataset.inputs, Files) else []
    quarantine = pd.DataFrame({"record": dataset.record[sorted(faults)], **fault_table(faults, paths)}, dtype=object)
    return pd.concat([cohort, quarantine.assign(stage="quarantine")], ignore_index=True)
