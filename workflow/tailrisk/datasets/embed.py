"""EMBED, the open part: 480,323 mammograms of 23,253 patients (Jeong et al., Radiology: Artificial Intelligence 2023).

Two tables: metadata with one row a file, and clinical with one row a finding. The label is the density of the breast,
BI-RADS A to D, which is stated per exam.

The cohort is that of the paper (360,159 images, 53,817 exams, 19,429 patients): screening exams, views MLO and CC, race
stated (as unknown, too), women, density 1 to 4. Two exclusions are not the paper's: views of a spot or under
magnification, which a screening exam should not have; and exams whose findings state different densities, where the
paper takes the first.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tailrisk.config.sources import Embed
from tailrisk.datasets.columns import ids
from tailrisk.datasets.contract import Dataset, Files, excluded
from tailrisk.datasets.dicom import damage_told, gray, read_dicom
from tailrisk.datasets.draws import unit_hash
from tailrisk.datasets.images import find_images, pictures, resized
from tailrisk.datasets.labels import age_bands, label_table
from tailrisk.datasets.needs import Need
from tailrisk.errors import UserError

KEY = ["empi_anon", "acc_anon"]
"""Patient and exam."""
CLINICAL = ("desc", "side", "asses", "tissueden", "age_at_study", "ETHNIC_GROUP_DESC")
RACE = ("RACE_DESC", "ETHNICITY_DESC")
"""The column of the race: as the documentation calls it, or as some releases do."""
SEX = "GENDER_DESC"
METADATA = ("anon_dicom_path", "FinalImageType", "ImageLateralityFinal", "ViewPosition", "spot_mag")
PNG = "png_path"
"""A column that the reduced table lacks."""
DENSITIES = {1: "density A", 2: "density B", 3: "density C", 4: "density D"}
MALE = 5
"""The density of a man's breast."""
SEVERITY = ["N", "B", "P", "A", "S", "M", "K"]
"""Assessments from the mildest to the worst; that more images are needed (BI-RADS 0) lies before what is suspicious."""
ASSESSMENTS = {
    "A": "BI-RADS 0",
    "N": "BI-RADS 1",
    "B": "BI-RADS 2",
    "P": "BI-RADS 3",
    "S": "BI-RADS 4",
    "M": "BI-RADS 5",
    "K": "BI-RADS 6",
}
RACES = {"African American or Black": "Black", "Caucasian or White": "White", "Asian": "Asian"}
UNSTATED = {"Unknown, Unavailable or Unreported", "Not Recorded", "Patient Declines", "Unknown"}
HISPANIC = {
    "Hispanic or Latino": "Hispanic",
    "Unknown~Hispanic": "Hispanic",
    "Non-Hispanic or Latino": "not Hispanic",
    "Non-Hispanic~Unknown": "not Hispanic",
    "Unknown~Non-Hispanic": "not Hispanic",
}
KINDS = {"2d": "2D", "cview": "cview"}
VIEWS = ("MLO", "CC")
LOOKED_FOR = 1000
"""Images that are looked for, evenly over the cohort, to learn where the images lie."""
PAPER = {
    "records": 360_159,
    "patients": 19_429,
    "class density A": 41_899,
    "class density B": 153_523,
    "class density C": 146_108,
    "class density D": 18_629,
}
"""The paper's cohort, of both kinds of images."""


def needs(spec: Embed) -> list[Need]:
    """Both tables with the columns that are read, and the folder of the images."""
    clinical, metadata = _tables(spec)
    race = _race_column(_header(clinical))
    folder = [Need(Path(spec.images))] if spec.images is not None else []
    return [Need(clinical, (*KEY, *CLINICAL, race)), Need(metadata, (*KEY, *METADATA)), *folder]


def read(spec: Embed) -> Dataset:
    """One record an image of the cohort, called by its SOP instance UID (the file's name).

    An image bears the worst assessment among the findings of its own breast and of both, and none where only the other
    breast has any. A finding without a side counts for both, as the documentation says.
    """
    clinical_path, metadata_path = _tables(spec)
    findings, clinical_checksum = _findings(clinical_path)
    files, metadata_checksum = _files(metadata_path)
    screening = findings[findings["screening"]]
    files = files.join(findings.groupby(KEY)["screening"].any(), on=KEY).join(_exams(screening), on=KEY)
    reason = _reasons(spec, files)
    cohort = files[reason == ""].reset_index(drop=True)
    if cohort.empty:
        raise UserError(f"{metadata_path}: no image is of the cohort; most are left out as: {reason.mode()[0]}")
    patient = cohort["empi_anon"].to_numpy(object)
    return Dataset(
        title="EMBED",
        task="multiclass",
        classes=list(DENSITIES.values()),
        record=cohort["record"].to_numpy(object),
        patient=patient,
        inputs=_inputs(spec, cohort, str(metadata_path)),
        labels=cohort["density"].to_numpy(np.int64) - 1,
        groups=_groups(cohort, _worst(screening)),
        features=[],
        licence=spec.terms,
        preprocessing=_preprocessing(spec),
        where=str(metadata_path),
        split=_split(spec, patient, str(metadata_path)),
        checksums={clinical_path.name: clinical_checksum, metadata_path.name: metadata_checksum},
        excluded=excluded(files.loc[reason != "", "record"], reason[reason != ""].tolist()),
        expected={"rows": 480_323} | (PAPER if set(spec.kinds) == set(KINDS.values()) else {}),
    )


def _tables(spec: Embed) -> tuple[Path, Path]:
    """The clinical and the metadata table; the reduced ones are read sooner, but lack the names of PNG files."""
    folder = Path(spec.path)
    folder = folder / "tables" if (folder / "tables").is_dir() else folder
    found = []
    for name, full in (("clinical", False), ("metadata", spec.format == "png")):
        names = [f"EMBED_OpenData_{name}_reduced.csv", f"EMBED_OpenData_{name}.csv"]
        paths = [folder / name for name in (reversed(names) if full else names)]
        found.append(next((path for path in paths if path.exists()), folder / names[1]))
    return found[0], found[1]


def _header(path: Path) -> list[str]:
    """Names of a table's columns; none where it cannot be read, which is said where it is read."""
    try:
        return [str(name) for name in pd.read_csv(path, nrows=0, dtype=str, encoding="utf-8-sig").columns]
    except (OSError, ValueError):
        return []


def _race_column(header: Sequence[str]) -> str:
    return next((name for name in RACE if name in header), RACE[0])


def _findings(path: Path) -> tuple[pd.DataFrame, str]:
    """The clinical table with its values in plain words, missing where unknown; and its checksum."""
    header = _header(path)
    race, sex = _race_column(header), [SEX] if SEX in header else []
    table, checksum = label_table(path, complete=KEY, optional=[*CLINICAL, race, *sex])
    density = pd.to_numeric(table["tissueden"], errors="coerce")
    stated = _one_space(table[race])
    return pd.DataFrame(
        {
            **{name: ids(path, table, name) for name in KEY},
            "screening": table["desc"].str.contains("screen", case=False).fillna(False).astype(bool),
            "side": table["side"].str.upper(),
            "severity": table["asses"].str.upper().map({name: rank for rank, name in enumerate(SEVERITY)}),
            "density": density.where(density.isin(DENSITIES)),
            "male": (density == MALE) | (table[SEX].str.lower() == "male" if sex else False),
            "race_stated": stated.notna(),
            "race": stated.map(RACES).fillna("other").where(stated.notna() & ~stated.isin(UNSTATED)),
            "ethnicity": _one_space(table["ETHNIC_GROUP_DESC"]).map(HISPANIC),
            "age": age_bands(path, table, "age_at_study"),
        }
    ), checksum


def _one_space(column: pd.Series) -> pd.Series:
    """Values in which several spaces, which the release has in some, are one."""
    return column.str.replace(r"\s+", " ", regex=True)


def _exams(findings: pd.DataFrame) -> pd.DataFrame:
    """What the findings say of each exam: its density, and how many different ones they state; who the patient is."""
    exams = findings.groupby(KEY)
    return (
        exams[["density", "race", "ethnicity", "age"]]
        .first()
        .join(
            pd.DataFrame(
                {
                    "densities": exams["density"].nunique(),
                    "male": exams["male"].any(),
                    "race_stated": exams["race_stated"].any(),
                }
            )
        )
    )


def _worst(findings: pd.DataFrame) -> pd.Series:
    """The worst assessment, by breast ("L", "R" or "" where an image does not say), patient and exam."""
    ranks = {}
    for breast in ("L", "R", ""):
        own = findings[findings["side"].isna() | findings["side"].isin(["B", breast])]
        ranks[breast] = own.groupby(KEY)["severity"].max().dropna()
    return pd.concat(ranks).map(lambda rank: ASSESSMENTS[SEVERITY[int(rank)]])


def _files(path: Path) -> tuple[pd.DataFrame, str]:
    """The metadata table, and its checksum."""
    png = [PNG] if PNG in _header(path) else []
    table, checksum = label_table(path, complete=KEY, optional=[*METADATA, *png])
    magnified = pd.to_numeric(table["spot_mag"], errors="coerce") != 0
    name = table["anon_dicom_path"].str.rsplit("/", n=1).str[-1].str.removesuffix(".dcm")
    return pd.DataFrame(
        {
            **{key: ids(path, table, key) for key in KEY},
            "record": name.fillna(pd.Series([f"row {row}" for row in range(1, len(table) + 1)])),
            "path": table["anon_dicom_path"],
            "png": table[PNG] if png else None,
            "kind": table["FinalImageType"].str.lower().str.replace("-", "").map(KINDS),
            "breast": table["ImageLateralityFinal"].str.upper().where(lambda side: side.isin(["L", "R"]), ""),
            "view": table["ViewPosition"].str.upper(),
            "magnified": magnified & table["spot_mag"].notna(),
        }
    ), checksum


def _reasons(spec: Embed, files: pd.DataFrame) -> pd.Series:
    """Why a file is no record, "" where it is one."""
    tests = {
        "exam without a clinical row": files["screening"].isna(),
        "not a screening exam": files["screening"].eq(False),
        "kind of image not asked for": ~files["kind"].isin(spec.kinds),
        "view neither MLO nor CC": ~files["view"].isin(VIEWS),
        "view of a spot or magnified": files["magnified"],
        "male": files["male"].eq(True),
        "race not stated": ~files["race_stated"].eq(True),
        "density unknown": files["densities"].eq(0),
        "density differs between findings": files["densities"].gt(1),
        "no file in the source": files["path"].isna(),
    }
    chosen = np.select([test.to_numpy(bool) for test in tests.values()], list(tests), "")
    reason = pd.Series(chosen, index=files.index, dtype=object)
    # Among what is left only: a listing that is left out itself must not take the file's other one with it.
    left = files.loc[reason == "", "record"]
    reason[left.index[left.duplicated()]] = "file listed before"
    return reason


def _groups(cohort: pd.DataFrame, worst: pd.Series) -> pd.DataFrame:
    """Group variables of the images; a patient whose exams state different races has none that is known."""
    races = cohort.groupby("empi_anon")["race"].transform("nunique")
    breasts = pd.MultiIndex.from_frame(cohort[["breast", *KEY]])
    return pd.DataFrame(
        {
            "race": cohort["race"].where(races == 1),
            "ethnicity": cohort["ethnicity"],
            "age": cohort["age"],
            "assessment": worst.reindex(breasts).to_numpy(object),
            "kind": cohort["kind"].replace({"cview": "C-view"}),
            "view": cohort["view"],
        }
    )


def _split(spec: Embed, patient: NDArray[np.object_], where: str) -> NDArray[np.object_]:
    """The test patients, those with the smallest hashes; None for the others [N]."""
    patients = np.unique(patient.astype(str)).astype(object)
    if spec.test_patients >= len(patients):
        raise UserError(f"{where}: `test_patients` asks for {spec.test_patients} of {len(patients)} patients: lower it")
    drawn = patients[np.argsort(unit_hash("test patients", spec.split_seed, patients))[: spec.test_patients]]
    chosen = set(drawn)
    return np.array(["test" if one in chosen else None for one in patient], dtype=object)


def _inputs(spec: Embed, cohort: pd.DataFrame, where: str) -> Files:
    folder = Path(spec.path)
    folders = [Path(spec.images)] if spec.images is not None else [folder / "images", folder]
    if spec.format == "png":
        named = None if cohort["png"].isna().any() else _located(folders, cohort["png"].tolist())
        # The first folder that there is, as a search of all below it takes a while.
        below = next((folder for folder in folders if folder.exists()), folders[0])
        paths = named or find_images(below, (cohort["record"] + ".png").tolist(), where)
        return pictures(paths, spec.shape, deep="own")
    names = cohort["path"].tolist()
    paths = _located(folders, names) or []
    if not paths:
        raise UserError(
            f"none of the {len(names):,} images of the cohort in {where} is below {spec.images or spec.path}, such as "
            f"{names[0]} without the folders that it leads with: fetch them, or correct `images`"
        )
    # Processes, as working out what to show of each value holds Python's lock.
    decode = partial(mammogram, shape=spec.shape, mirror=spec.mirror)
    return Files(paths, decode, (1, *spec.shape), np.uint8, "images", workers="processes")


def _located(folders: Sequence[Path], names: Sequence[str]) -> list[Path] | None:
    """The files `names`, of which as many leading folders are dropped as it takes to find one of them below one of
    `folders`; None where none is found."""
    for looked in names[:: -(-len(names) // LOOKED_FOR)]:
        for dropped in range(looked.count("/") + 1):
            for folder in folders:
                if Path(folder, _tail(looked, dropped)).is_file():
                    return [Path(folder, _tail(name, dropped)) for name in names]
    return None


def _tail(name: str, dropped: int) -> str:
    return name.split("/", maxsplit=dropped)[-1]


@damage_told()
def mammogram(file: Path, shape: tuple[int, int], mirror: bool) -> NDArray[np.uint8]:
    """One DICOM image [1, height, width], mirrored where its breast points to the left (and `mirror` is set).

    The image says where its rows lead (to the patient's front or back); where it does not, right breasts point left,
    as the release's own conversion to PNG has it.
    """
    image = read_dicom(file)
    picture = resized(gray(image), shape)
    leads = image.get("PatientOrientation") or []
    side = image.get("ImageLaterality") or image.get("Laterality")
    leftwards = str(leads[0]).startswith("P") if len(leads) else side == "R"
    return np.ascontiguousarray(picture[..., ::-1]) if mirror and leftwards else picture


def _preprocessing(spec: Embed) -> str:
    size = " × ".join(map(str, spec.shape))
    if spec.format == "png":
        return f"PNG files: 16 bits by their own range of values; resized to {size} pixels (bilinear, antialiased)."
    mirrored = ", mirrored so that all breasts point to the right" if spec.mirror else ""
    return f"DICOM files: shown by their first window, resized to {size} pixels (bilinear, antialiased){mirrored}."
