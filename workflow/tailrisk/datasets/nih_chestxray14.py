"""NIH ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients (Wang et al., CVPR 2017)."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import NihChestXray14
from tailrisk.datasets.contract import Dataset, Task, first
from tailrisk.datasets.images import find_images, pictures
from tailrisk.datasets.labels import age_bands, label_table, refuse
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


def read(spec: NihChestXray14) -> Dataset:
    """One record an image. An image has one finding or several of 14, or none; its view is AP or PA."""
    folder = Path(spec.path)
    path = folder / spec.table
    table, checksum = label_table(
        path,
        complete=["Image Index", "Patient ID", "Finding Labels"],
        optional=["Patient Gender", "Patient Age", "View Position"],
    )
    findings = _findings(table, path)
    task, classes, labels = _target(spec, table, findings, path)
    files = find_images(folder, table["Image Index"].tolist(), str(path))
    return Dataset(
        title="NIH ChestX-ray14",
        task=task,
        classes=classes,
        record=table["Image Index"].to_numpy(object),
        patient=table["Patient ID"].to_numpy(object),
        inputs=pictures(files, spec.shape),
        labels=labels,
        groups=_groups(table, findings, path),
        features=[],
        licence=spec.terms,
        preprocessing=f"8-bit gray, resized to {' × '.join(map(str, spec.shape))} pixels (bilinear, antialiased).",
        where=str(path),
        checksums={path.name: checksum},
    )


def _findings(table: pd.DataFrame, path: Path) -> NDArray[np.bool_]:
    """Which of the 14 findings an image has [N, 14]."""
    named = table["Finding Labels"].str.split("|")
    unknown = sorted({label for labels in named for label in labels} - {NONE, *FINDINGS})
    if unknown:
        raise UserError(f"{path}: column 'Finding Labels' names none of the 14 findings: {first(unknown)}")
    refuse(
        path,
        named.map(lambda labels: NONE in labels and len(labels) > 1),
        f"column 'Finding Labels' has '{NONE}' beside a finding",
    )
    return np.array([[finding in labels for finding in FINDINGS] for labels in named])


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
