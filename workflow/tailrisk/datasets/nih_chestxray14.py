"""NIH ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients (Wang et al., CVPR 2017)."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import NihChestXray14
from tailrisk.datasets.chest import gray, known
from tailrisk.datasets.columns import ids
from tailrisk.datasets.contract import Dataset, Task, excluded, first
from tailrisk.datasets.images import find_images, pictures
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.datasets.needs import Need, either
from tailrisk.errors import UserError

FINDINGS = [
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
]
NONE = "No Finding"
OLDEST = 120
"""Years; higher ages (up to 414 in the first release) are errors of the source."""
COMPLETE = ("Image Index", "Patient ID", "Finding Labels")
OPTIONAL = ("Patient Gender", "Patient Age", "View Position")
LISTS = {"train_val_list.txt": None, "test_list.txt": "test"}
"""The official split: a name of an image in every line."""
IMAGES = [11_559, 2_776, 4_667, 2_303, 13_317, 2_516, 1_686, 227, 19_894, 5_782, 6_331, 3_385, 1_431, 5_302]
"""Of every finding, in the complete table, as of those with none and of the two views."""
IMAGES_WITHOUT = 60_361
IMAGES_OF_VIEWS = {"PA": 67_310, "AP": 44_810}
ALL, PATIENTS = 112_120, 30_805


def needs(spec: NihChestXray14) -> list[Need]:
    """The table, and the lists of the official split; images may lie anywhere below their folder."""
    folder = Path(spec.path)
    lists = LISTS if spec.splits == "official" else ()
    return [Need(_table(spec), (*COMPLETE, *OPTIONAL)), *(Need(folder / name) for name in lists)]


def read(spec: NihChestXray14) -> Dataset:
    """One record an image. An image has one finding or several of 14, or none; its view is AP or PA."""
    folder, path = Path(spec.path), _table(spec)
    table, checksum = label_table(path, COMPLETE, OPTIONAL)
    table["Patient ID"] = ids(path, table, "Patient ID")
    checksums, left_out, split = {path.name: checksum}, excluded(), None
    findings = _findings(table, path)
    task, classes, labels = _target(spec, table, findings, path)
    groups = _groups(table, findings, path)
    if spec.splits == "official":
        listed, more = _split(folder)
        checksums |= more
        kept = table["Image Index"].isin(listed.index).to_numpy()
        left_out = excluded(table["Image Index"][~kept], "in neither list of the official split")
        table, labels, groups = table[kept].reset_index(drop=True), labels[kept], groups[kept]
        split = listed.reindex(table["Image Index"]).to_numpy(object)
        if not len(table):
            raise UserError(f"{path}: no image is in the lists of the official split: are they of this source?")
    files = find_images(folder, table["Image Index"].tolist(), str(path))
    return Dataset(
        title="NIH ChestX-ray14",
        task=task,
        classes=classes,
        record=table["Image Index"].to_numpy(object),
        patient=table["Patient ID"].to_numpy(object),
        inputs=pictures(files, spec.shape),
        labels=labels,
        groups=known(groups),
        features=[],
        licence=spec.terms,
        preprocessing=gray(spec.shape),
        where=str(path),
        split=split,
        checksums=checksums,
        excluded=left_out,
        expected={"rows": ALL, "records": ALL, "patients": PATIENTS}
        | {f"class {name}": count for name, count in _images_of_classes(spec).items()},
    )


def _table(spec: NihChestXray14) -> Path:
    return either(Path(spec.path), spec.table, f"{spec.table}.gz")


def _images_of_classes(spec: NihChestXray14) -> dict[str, int]:
    match spec.target:
        case "finding":
            return {"no finding": IMAGES_WITHOUT, "finding": ALL - IMAGES_WITHOUT}
        case "findings":
            return dict(zip(FINDINGS, IMAGES, strict=True))
        case "view":
            return IMAGES_OF_VIEWS


def _split(folder: Path) -> tuple[pd.Series, dict[str, str]]:
    """Split by image, None for training and validation, which the source does not tell apart; and checksums.

    UserError where an image is in a list twice, or in both.
    """
    parts, checksums = [], {}
    for name, split in LISTS.items():
        try:
            content = (folder / name).read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot read the list {folder / name} of the official split ({error.strerror or error}): put it "
                "there, or set `splits` to drawn"
            ) from None
        checksums[name] = hashlib.sha256(content).hexdigest()
        images = content.decode("utf-8-sig", "replace").split()
        parts.append(pd.Series([split] * len(images), index=images, dtype=object))
    listed = pd.concat(parts)
    twice = listed.index[listed.index.duplicated()]
    if len(twice):
        raise UserError(f"{folder}: {' and '.join(LISTS)} name an image for the second time: {first(twice)}")
    return listed, checksums


def _findings(table: pd.DataFrame, path: Path) -> NDArray[np.bool_]:
    """Which of the 14 findings an image has [N, 14]."""
    texts, places = np.unique(table["Finding Labels"].to_numpy(str), return_inverse=True)
    named = [text.split("|") for text in texts]
    unknown = np.array([not {NONE, *FINDINGS}.issuperset(labels) for labels in named])
    refuse(path, pd.Series(unknown[places]), "column 'Finding Labels' names something else than the 14 findings")
    contradictory = np.array([NONE in labels and len(labels) > 1 for labels in named])
    refuse(path, pd.Series(contradictory[places]), f"column 'Finding Labels' has '{NONE}' beside a finding")
    return np.array([[finding in labels for finding in FINDINGS] for labels in named])[places]


def _target(
    spec: NihChestXray14, table: pd.DataFrame, findings: NDArray[np.bool_], path: Path
) -> tuple[Task, list[str], NDArray[Any]]:
    match spec.target:
        case "finding":
            return "binary", ["no finding", "finding"], np.asarray(findings.any(axis=1), dtype=np.int64)
        case "findings":
            return "multilabel", FINDINGS, findings.astype(np.float32)
        case "view":
            refuse(path, ~table["View Position"].isin(["PA", "AP"]), "column 'View Position' is neither PA nor AP")
            return "binary", ["PA", "AP"], table["View Position"].eq("AP").to_numpy(np.int64)


def _groups(table: pd.DataFrame, findings: NDArray[np.bool_], path: Path) -> pd.DataFrame:
    known = pd.to_numeric(table["Patient Age"], errors="coerce").le(OLDEST)
    return pd.DataFrame(
        {
            "sex": table["Patient Gender"].map({"F": "female", "M": "male"}),
            "age": age_bands(path, table, "Patient Age").where(known),
            "view": table["View Position"].where(table["View Position"].isin(["PA", "AP"])),
            "finding": np.array(["none", "one", "several"], dtype=object)[np.minimum(findings.sum(axis=1), 2)],
        }
    )
