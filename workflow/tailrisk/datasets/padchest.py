"""PadChest: chest radiographs of about 67,000 patients (Bustos et al., Medical Image Analysis 2020)."""

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import Padchest
from tailrisk.datasets.chest import gray, known
from tailrisk.datasets.columns import text_ids
from tailrisk.datasets.contract import Dataset, Task, excluded
from tailrisk.datasets.images import find_images, pictures
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.datasets.needs import Need, either
from tailrisk.errors import UserError

COLUMNS = (
    "PatientID",
    "StudyDate_DICOM",
    "PatientBirth",
    "PatientSex_DICOM",
    "Projection",
    "MethodLabel",
    "Labels",
)
MISSING = ["None", "none", "nan", "NaN"]
"""Written in cells without a value."""
FRONTAL = {"PA": "PA", "AP": "AP", "AP_horizontal": "AP supine"}
VIEWS = FRONTAL | {"L": "lateral", "COSTAL": "costal"}
METHODS = {"Physician": "physician", "RNN_model": "network"}
NORMAL, UNCHANGED, EXCLUDE, SUBOPTIMAL = "normal", "unchanged", "exclude", "suboptimal study"
OLDEST = 120
"""Years; higher ages are errors of the source."""


def needs(spec: Padchest) -> list[Need]:
    """The table; images may lie anywhere below its folder."""
    return [Need(_table(spec), ("ImageID", *COLUMNS))]


def read(spec: Padchest) -> Dataset:
    """One record an image; those of no use by their labels or projection are excluded.

    The classes of `findings` are the labels that at least `least` of the records bear, that is, counted after
    excluding, in alphabetical order; `normal` is one of them. An image can bear none of them.
    """
    folder, path = Path(spec.path), _table(spec)
    table, checksum = label_table(path, ["ImageID"], COLUMNS)
    table = table.mask(table.isin(MISSING))
    table["PatientID"] = text_ids(path, table, "PatientID")
    refuse(path, table["ImageID"].duplicated(), "column 'ImageID' names an image for the second time")
    text, places = np.unique(table["Labels"].fillna("[]").to_numpy(str), return_inverse=True)
    listed = [_listed(labels) for labels in text]
    reason = _reasons(spec, table, np.array([_unfit(labels) for labels in listed], dtype=object)[places])
    kept = reason == ""
    if not kept.any():
        raise UserError(f"{path}: no image is a record ({reason[0]} in row 1): correct the options, or the table")
    cohort, places = table[kept].reset_index(drop=True), places[kept]
    common = _common(listed, places, spec.least)
    task, classes, labels = _target(spec, listed, places, common, path)
    files = find_images(folder, cohort["ImageID"].tolist(), str(path))
    return Dataset(
        title="PadChest",
        task=task,
        classes=classes,
        record=cohort["ImageID"].to_numpy(object),
        patient=cohort["PatientID"].to_numpy(object),
        inputs=pictures(files, spec.shape, deep="full"),
        labels=labels,
        groups=_groups(spec, cohort, listed, places, common, path),
        features=[],
        licence=spec.terms,
        preprocessing=f"0 to 65,535 of 16 bits made 0 to 255; {gray(spec.shape)}",
        where=str(path),
        checksums={path.name: checksum},
        excluded=excluded(table["ImageID"][~kept], reason[~kept]),
    )


def _table(spec: Padchest) -> Path:
    return either(Path(spec.path), spec.table, f"{spec.table}.gz")


def _listed(text: str) -> list[str] | None:
    """Labels from the text of a Python list, in lower case with single spaces; None where it is no such text."""
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
    if not isinstance(found, list):
        return None
    names = (" ".join(str(name).lower().split()) for name in found)
    return list(dict.fromkeys(name for name in names if name))


def _unfit(labels: list[str] | None) -> str:
    """Why labels tell nothing of an image, "" where they do."""
    if labels is None:
        return "labels not readable"
    if not labels:
        return "no labels"
    if EXCLUDE in labels:
        return "labelled as to be excluded"
    if SUBOPTIMAL in labels:
        return "labelled as a suboptimal study"
    return "only stated as unchanged" if labels == [UNCHANGED] else ""


def _reasons(spec: Padchest, table: pd.DataFrame, unfit: NDArray[np.object_]) -> NDArray[np.object_]:
    """Why an image is no record, "" where it is one."""
    projection, method = table["Projection"], table["MethodLabel"]
    frontal = spec.views == "frontal"
    return np.select(
        [
            table["PatientID"].isna(),
            projection.eq("EXCLUDE"),
            projection.isna() | ~projection.isin(list(VIEWS)),
            ~projection.isin(list(FRONTAL)) & frontal,
            method.eq("RNN_model") & spec.physicians_only,
            ~method.isin(list(METHODS)) & spec.physicians_only,
        ],
        [
            "patient unknown",
            "projection marked as to be excluded",
            "projection unknown",
            "view not frontal",
            "labelled by a network",
            "not stated who labelled it",
        ],
        unfit,
    ).astype(object)


def _common(listed: list[list[str] | None], places: NDArray[np.intp], least: int) -> list[str]:
    """Labels that at least `least` records bear; `places` [N] says which of `listed` is a record's."""
    counts: Counter[str] = Counter()
    for labels, n in zip(listed, np.bincount(places, minlength=len(listed)), strict=True):
        counts.update(dict.fromkeys(labels or (), int(n)))
    return sorted(name for name, n in counts.items() if n >= least and name != UNCHANGED)


def _target(
    spec: Padchest, listed: list[list[str] | None], places: NDArray[np.intp], common: list[str], path: Path
) -> tuple[Task, list[str], NDArray[Any]]:
    if spec.target == "normal":
        normal = np.array([labels is not None and NORMAL in labels for labels in listed])
        return "binary", ["abnormal", "normal"], normal[places].astype(np.int64)
    if not common:
        raise UserError(f"{path}: no label is borne by {spec.least:,} images: set `least` to fewer")
    bears = np.array([[name in (labels or ()) for name in common] for labels in listed], dtype=np.float32)
    return "multilabel", common, bears[places]


def _groups(
    spec: Padchest,
    cohort: pd.DataFrame,
    listed: list[list[str] | None],
    places: NDArray[np.intp],
    common: list[str],
    path: Path,
) -> pd.DataFrame:
    birth = pd.to_numeric(cohort["PatientBirth"], errors="coerce")
    age = pd.to_numeric(cohort["StudyDate_DICOM"].str[:4], errors="coerce") - birth
    groups = pd.DataFrame(
        {
            "sex": cohort["PatientSex_DICOM"].map({"F": "female", "M": "male"}),
            "age": age_bands(path, pd.DataFrame({"age": age}), "age").where(age <= OLDEST),
            "view": cohort["Projection"].map(VIEWS),
            "labelled_by": cohort["MethodLabel"].map(METHODS),
        }
    )
    if spec.target == "normal":
        borne = [[name for name in labels or () if name in common] for labels in listed]
        groups["findings"] = pd.Series([borne[place] for place in places], dtype=object)
    return known(groups)
