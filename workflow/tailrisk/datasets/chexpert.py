"""CheXpert: 224,316 chest radiographs of 65,240 patients (Irvin et al., AAAI 2019)."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import Chexpert
from tailrisk.datasets.chest import OBSERVATIONS, Target, borne, decided, gray, known, learned, stated
from tailrisk.datasets.chexpert_people import COLUMNS, people
from tailrisk.datasets.contract import Dataset, excluded, first
from tailrisk.datasets.images import pictures
from tailrisk.datasets.labels import age_bands, label_table, refuse
from tailrisk.datasets.needs import Need, either
from tailrisk.errors import UserError

TABLES = {"train": ("train.csv",), "valid": ("valid.csv",), "test": ("test.csv", "test_labels.csv")}
"""Parts of the source; the last, labelled by radiologists, is a download of its own (500 patients)."""
PERSONAL = ["Sex", "Age", "AP/PA"]
POSITIVE = {"Atelectasis": 33_376, "Cardiomegaly": 27_000, "Consolidation": 14_783, "Edema": 52_246}
POSITIVE |= {"Pleural Effusion": 86_187}
UNCERTAIN = {"Atelectasis": 33_739, "Cardiomegaly": 8_087, "Consolidation": 27_742, "Edema": 12_984}
UNCERTAIN |= {"Pleural Effusion": 11_628}
"""Images of train.csv."""
IMAGES = {"train": 223_414, "valid": 234, "test": 668}
PATIENTS = {"train": 64_540, "valid": 200, "test": 500}
FRONTAL = 191_027
"""Images of train.csv."""
LATERAL = "view not frontal"


def needs(spec: Chexpert) -> list[Need]:
    """The tables and folders of images of the parts that are read, and the demographics where they are named."""
    folder = Path(spec.path)
    wanted = []
    for part in _parts(spec):
        table = _located(folder, part)
        wanted.append(Need(table, ("Path", *(PERSONAL if part != "test" else ()), *OBSERVATIONS)))
        wanted.append(Need((_roots(folder, table, part) or [folder / part])[0]))
    return wanted + ([Need(Path(spec.demographics), COLUMNS)] if spec.demographics else [])


def read(spec: Chexpert) -> Dataset:
    """One record an image; images whose patient is of valid.csv or test.csv test, where the splits are official.

    Blank observations are negative, uncertain ones as the options say. Where the files lie is found from the part of
    `Path` below train/, so that the folder may have any name.
    """
    folder = Path(spec.path)
    path = _located(folder, "train")
    parts = {part: _part(folder, part, spec.target) for part in _parts(spec)}
    _refuse_crossing(parts, folder)
    table = pd.concat([table for table, _ in parts.values()], ignore_index=True)
    checksums = {_located(folder, part).name: checksum for part, (_, checksum) in parts.items()}
    table["race"] = table["ethnicity"] = None
    if spec.demographics:
        where = Path(spec.demographics)
        described, checksums[where.name] = people(where)
        _refuse_strangers(table["patient"], described, where)
        table[["race", "ethnicity"]] = described.reindex(table["patient"])[["race", "ethnicity"]].to_numpy(object)
    kept = table["frontal"] if spec.views == "frontal" else pd.Series(True, index=table.index)
    cohort = table[kept].reset_index(drop=True)
    values = decided(cohort[OBSERVATIONS].to_numpy(np.float32), spec.uncertain)
    task, classes, labels = learned(values, spec.target)
    if list(parts) == ["train", "valid"]:
        _refuse_untested(classes, labels[(cohort["split"] == "test").to_numpy()], folder)
    return Dataset(
        title="CheXpert",
        task=task,
        classes=classes,
        record=cohort["record"].to_numpy(object),
        patient=cohort["patient"].to_numpy(object),
        inputs=pictures(cohort["file"].tolist(), spec.shape),
        labels=labels,
        groups=_groups(cohort, values, spec),
        features=[],
        licence=spec.terms,
        preprocessing=gray(spec.shape),
        where=str(path),
        split=cohort["split"].to_numpy(object) if spec.splits == "official" else None,
        checksums=checksums,
        excluded=excluded(table["record"][~kept], LATERAL),
        expected=_expected(spec, list(parts)),
    )


def _parts(spec: Chexpert) -> list[str]:
    if spec.splits == "drawn":
        return ["train"]
    return ["train", "valid", *(["test"] if _located(Path(spec.path), "test").exists() else [])]


def _located(folder: Path, part: str) -> Path:
    """The table of a part: in the folder or, as the full-size release is unpacked, in one of its folders."""
    path = either(folder, *TABLES[part])
    below = [] if path.exists() else [table for name in TABLES[part] for table in folder.glob(f"*/{name}")]
    return below[0] if len(below) == 1 else path


def _roots(folder: Path, table: Path, part: str) -> list[Path]:
    """The folders of a part's patients: train/, or one for each "CheXpert-v1.0 batch 2 (train 1)" of the full size."""
    beside = [folder / part, table.parent / part, *sorted(folder.glob(f"*({part} *)"))]
    return list(dict.fromkeys(root for root in beside if root.is_dir()))


def _part(folder: Path, part: str, target: Target) -> tuple[pd.DataFrame, str]:
    """Records of a part: their ids, files, persons and observations; and the checksum of the table."""
    path = _located(folder, part)
    table, checksum = label_table(path, ["Path"], [*(PERSONAL if part != "test" else ()), *OBSERVATIONS])
    table = table.reindex(columns=["Path", *PERSONAL, *OBSERVATIONS])
    names = table["Path"].str.extract(rf"(?:^|/){part}/((patient\d+)/study\d+/[^/]+)\.(\w+)$")
    refuse(path, names[0].isna(), f"column 'Path' does not end in {part}/patient.../study.../view1_frontal.jpg")
    refuse(path, names[0].duplicated(), "column 'Path' names an image for the second time")
    frontal = ~names[0].str.contains("lateral")
    records = pd.DataFrame(
        {
            "split": np.full(len(table), None if part == "train" else "test", dtype=object),
            "record": f"{part}/" + names[0],
            "patient": names[1],
            "file": _files(folder, path, part, names[1].tolist(), (names[0] + "." + names[2]).tolist()),
            "frontal": frontal,
            "sex": table["Sex"].map({"Female": "female", "Male": "male"}),
            "age": age_bands(path, table, "Age").where(pd.to_numeric(table["Age"]) != 0),  # 0 stands for unknown
            "view": table["AP/PA"].where(table["AP/PA"].isin(["AP", "PA"])).where(frontal, "lateral"),
        }
    )
    return pd.concat([records, pd.DataFrame(stated(path, table, target), columns=OBSERVATIONS)], axis=1), checksum


def _files(folder: Path, table: Path, part: str, patients: list[str], names: list[str]) -> list[Path]:
    """Where the images `names` lie, of which a batch of the full-size release has all of a patient."""
    roots = _roots(folder, table, part)
    if not roots:
        raise UserError(f"the images of {table} are not in {folder / part}: unpack them there, or correct `path`")
    if len(roots) == 1:
        return [Path(f"{roots[0]}/{name}") for name in names]
    of_patient = {entry.name: root for root in reversed(roots) for entry in os.scandir(root)}
    return [of_patient.get(patient, roots[0]) / name for patient, name in zip(patients, names, strict=True)]


def _refuse_crossing(parts: dict[str, tuple[pd.DataFrame, str]], folder: Path) -> None:
    trained = set(parts["train"][0]["patient"])
    for part in list(parts)[1:]:
        crossing = parts[part][0]["patient"].isin(trained)
        refuse(_located(folder, part), crossing, "a patient of train.csv, who cannot test,")


def _refuse_untested(classes: list[str], labels: NDArray[Any], folder: Path) -> None:
    """The 234 images of valid.csv show no fracture; the 668 of the test set show all 14 observations."""
    if labels.ndim == 1:
        return
    lacking = [name for name, column in zip(classes, labels.T, strict=True) if not (column == 1).any()]
    if lacking:
        raise UserError(
            f"{_located(folder, 'valid')}: no image is positive for {first(lacking)}, which cannot be tested: put "
            "CheXpert's test set (test/, and test.csv or test_labels.csv) beside it, or set `splits` to drawn or "
            "`target` to competition"
        )


def _refuse_strangers(patients: pd.Series, described: pd.DataFrame, path: Path) -> None:
    if not patients.isin(described.index).any():
        raise UserError(f"{path}: column 'PATIENT' holds no patient of train.csv: is it the demographics of CheXpert?")


def _groups(cohort: pd.DataFrame, values: NDArray[np.float32], spec: Chexpert) -> pd.DataFrame:
    groups = cohort[["sex", "age", "race", "ethnicity", "view"]]
    return known(groups if spec.target == "findings" else groups.assign(findings=borne(values)))


def _expected(spec: Chexpert, parts: list[str]) -> dict[str, int]:
    images, patients = sum(IMAGES[part] for part in parts), sum(PATIENTS[part] for part in parts)
    if spec.views == "frontal":
        return {"rows": images} | ({"records": FRONTAL} if parts == ["train"] else {})
    counts = {"rows": images, "records": images, "patients": patients}
    if spec.target != "no-finding" and parts == ["train"]:
        more = UNCERTAIN if spec.uncertain == "positive" else dict.fromkeys(UNCERTAIN, 0)
        counts |= {f"class {name}": count + more[name] for name, count in POSITIVE.items()}
    return counts
