"""MIMIC-CXR-JPG: 377,110 chest radiographs of 65,379 patients (Johnson et al., 2019), with patients of MIMIC-IV."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import MimicCxr
from tailrisk.datasets.chest import OBSERVATIONS, borne, decided, gray, known, learned, stated
from tailrisk.datasets.columns import ids, unique_ids
from tailrisk.datasets.contract import Dataset, excluded
from tailrisk.datasets.images import pictures
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.datasets.mimic_iv_patients import demographics
from tailrisk.datasets.mimic_iv_patients import needs as patients_needs
from tailrisk.datasets.needs import Need, either
from tailrisk.errors import UserError

METADATA = ("dicom_id", "subject_id", "study_id")
METADATA_OPTIONAL = ("ViewPosition", "StudyDate")
LABELS = ("subject_id", "study_id")
SPLIT = ("dicom_id", "study_id", "subject_id", "split")
SPLITS = {"train": "audit", "validate": "validation", "test": "test"}
FRONTAL = ["AP", "PA"]
VIEWS = {"AP": "AP", "PA": "PA", "LATERAL": "lateral", "LL": "left lateral"}
"""The four views of nearly all images; others are together "other"."""
DIFFERS = "study or patient differs between the tables"
UNLABELLED = "no labels of its study"
UNSPLIT = "in no part of the official split"
NOT_FRONTAL, NO_VIEW = "view not frontal", "view unknown"


def needs(spec: MimicCxr) -> list[Need]:
    """Two or three tables, files/, and what is read of MIMIC-IV."""
    folder = Path(spec.path)
    return [
        Need(_located(folder, "metadata"), (*METADATA, *METADATA_OPTIONAL)),
        Need(_located(folder, spec.labeler), (*LABELS, *OBSERVATIONS)),
        *([Need(_located(folder, "split"), SPLIT)] if spec.splits == "official" else []),
        Need(folder / "files"),
        *(patients_needs(Path(spec.mimic_iv)) if spec.mimic_iv else []),
    ]


def read(spec: MimicCxr) -> Dataset:
    """One record an image (dicom_id), labelled as its study is. The table of images is that of metadata.

    Blank observations are negative, uncertain ones as the options say. The official split is train, validate and test.
    """
    folder = Path(spec.path)
    path, labels_path = _located(folder, "metadata"), _located(folder, spec.labeler)
    images, checksum = label_table(path, METADATA, METADATA_OPTIONAL)
    images = images.assign(**{name: ids(path, images, name) for name in ("subject_id", "study_id")})
    refuse(path, images["dicom_id"].duplicated(), "column 'dicom_id' holds an id for the second time")
    studies, labels_checksum = label_table(labels_path, LABELS, OBSERVATIONS)
    checksums = {path.name: checksum, labels_path.name: labels_checksum}
    subjects = ids(labels_path, studies, "subject_id")
    study = pd.Index(unique_ids(labels_path, studies, "study_id")).get_indexer(images["study_id"])
    differs = (study >= 0) & (subjects.to_numpy(object)[study] != images["subject_id"].to_numpy(object))
    split = np.full(len(images), "", dtype=object)
    if spec.splits == "official":
        split, elsewhere, checksums[_located(folder, "split").name] = _split(folder, images)
        differs |= elsewhere
    reason = _reasons(spec, images, study, differs, split)
    kept = reason == ""
    if not kept.any():
        raise UserError(f"{path}: no image is a record ({reason[0]} in row 1): are all tables of one release?")
    cohort = images[kept].reset_index(drop=True)
    values = decided(stated(labels_path, studies, spec.target)[study[kept]], spec.uncertain)
    task, classes, labels = learned(values, spec.target)
    groups, more = _groups(cohort, values, spec, path)
    return Dataset(
        title="MIMIC-CXR-JPG",
        task=task,
        classes=classes,
        record=cohort["dicom_id"].to_numpy(object),
        patient=cohort["subject_id"].to_numpy(object),
        inputs=pictures(_files(folder, cohort), spec.shape),
        labels=labels,
        groups=groups,
        features=[],
        licence=spec.terms,
        preprocessing=gray(spec.shape),
        where=str(path),
        split=split[kept] if spec.splits == "official" else None,
        checksums=checksums | more,
        excluded=excluded(images["dicom_id"][~kept], reason[~kept]),
        expected={"rows": 377_110} | ({"patients": 65_379} if spec.views == "all" else {}),
    )


def _located(folder: Path, name: str) -> Path:
    """A table, compressed as downloaded or unpacked; release 2.1.0 calls them the same."""
    return either(folder, f"mimic-cxr-2.0.0-{name}.csv.gz", f"mimic-cxr-2.0.0-{name}.csv")


def _split(folder: Path, images: pd.DataFrame) -> tuple[NDArray[np.object_], NDArray[np.bool_], str]:
    """Split of every image, "" where the table lacks it; whether study or patient differ there; and the checksum."""
    path = _located(folder, "split")
    table, checksum = label_table(path, SPLIT)
    refuse(path, table["dicom_id"].duplicated(), "column 'dicom_id' holds an id for the second time")
    refuse(path, ~table["split"].isin(list(SPLITS)), f"column 'split' is none of {', '.join(SPLITS)}")
    row = pd.Index(table["dicom_id"]).get_indexer(images["dicom_id"])
    elsewhere = np.zeros(len(images), dtype=bool)
    for name in ("subject_id", "study_id"):
        elsewhere |= ids(path, table, name).to_numpy(object)[row] != images[name].to_numpy(object)
    split = table["split"].map(SPLITS).to_numpy(object)[row]
    return np.where(row >= 0, split, ""), elsewhere & (row >= 0), checksum


def _reasons(
    spec: MimicCxr,
    images: pd.DataFrame,
    study: NDArray[np.intp],
    differs: NDArray[np.bool_],
    split: NDArray[np.object_],
) -> NDArray[np.object_]:
    """Why an image is no record, "" where it is one."""
    view, frontal = images["ViewPosition"], spec.views == "frontal"
    return np.select(
        [
            study < 0,
            differs,
            (split == "") & (spec.splits == "official"),
            view.isna().to_numpy() & frontal,
            ~view.isin(FRONTAL).to_numpy() & frontal,
        ],
        [UNLABELLED, DIFFERS, UNSPLIT, NO_VIEW, NOT_FRONTAL],
        "",
    ).astype(object)


def _files(folder: Path, cohort: pd.DataFrame) -> list[Path]:
    """files/p10/p10000032/s50414267/<dicom_id>.jpg; UserError where there is no files/."""
    files = folder / "files"
    if not files.is_dir():
        raise UserError(f"the folder {files} does not exist: put the images there, or correct `path`")
    columns = (cohort[name].tolist() for name in ("subject_id", "study_id", "dicom_id"))
    return [
        Path(f"{files}/p{subject[:2]}/p{subject}/s{study}/{image}.jpg")
        for subject, study, image in zip(*columns, strict=True)
    ]


def _groups(
    cohort: pd.DataFrame, values: NDArray[np.float32], spec: MimicCxr, path: Path
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Group variables, and checksums of the tables of MIMIC-IV."""
    view = cohort["ViewPosition"]
    groups = pd.DataFrame({"view": view.map(VIEWS).fillna("other").where(view.notna())})
    checksums: dict[str, str] = {}
    if spec.mimic_iv:
        people, checksums = demographics(Path(spec.mimic_iv))
        person = people.reindex(cohort["subject_id"]).reset_index(drop=True)
        if person.isna().all(axis=None):
            raise UserError(f"{path}: none of the patients is in hosp/patients of {spec.mimic_iv}: correct `mimic_iv`")
        year = pd.to_numeric(cohort["StudyDate"].str[:4], errors="coerce")
        person["age"] = year - person["anchor_year"] + person["anchor_age"]
        groups = person[["sex"]].assign(
            age=age_bands(path, person, "age"), race=person["race"], insurance=person["insurance"], view=groups["view"]
        )
    return known(groups if spec.target == "findings" else groups.assign(findings=borne(values))), checksums
