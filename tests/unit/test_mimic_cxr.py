"""MIMIC-CXR-JPG: the folder as downloaded beside MIMIC-IV, from its quirks to an audit."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chest_folders import OBSERVATIONS, dicom_id, mimic_cxr_folder, mimic_iv_folder
from end_to_end import end_to_end
from real_sources import edit, refused, source

from tailrisk.datasets.mimic_cxr import needs
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read

FIRST, LATERAL, BLANK, RARE, LL, UNLABELLED, FOREIGN, UNSPLIT = map(dicom_id, range(8))


@pytest.fixture
def folder(tmp_path) -> Path:
    return mimic_cxr_folder(tmp_path / "mimic-cxr-jpg")


@pytest.fixture
def hospital(tmp_path) -> Path:
    return mimic_iv_folder(tmp_path / "mimiciv")


def mimic_cxr(folder: Path, **options):
    return source(source="mimic_cxr", path=str(folder), size=16, **options)


def labels_of(dataset, record: str) -> dict[str, float]:
    return dict(zip(dataset.classes, dataset.labels[dataset.record.tolist().index(record)].tolist(), strict=True))


def groups_of(dataset, record: str) -> dict[str, object]:
    return dataset.groups.iloc[dataset.record.tolist().index(record)].to_dict()


def test_mimic_cxr_end_to_end(folder, hospital) -> None:
    spec = mimic_cxr(folder, mimic_iv=str(hospital), splits="official")
    run = end_to_end(spec, folder.parent)
    assert run.card["rows"] == 88
    assert run.card["excluded"] == {
        "in no part of the official split": 1,
        "no labels of its study": 1,
        "study or patient differs between the tables": 1,
    }
    assert run.reason(UNLABELLED) == "no labels of its study"
    assert run.reason(FOREIGN) == "study or patient differs between the tables"
    assert run.reason(UNSPLIT) == "in no part of the official split"
    # 60 patients in runs of three, of which every fifth run is validation, and every fifth test.
    parts = {name: part["patients"] for name, part in run.card["splits"].items()}
    assert parts == {"audit": 36 + 4, "validation": 12, "test": 12}
    assert run.records["patient"][0] == "10000032"
    assert sorted(run.card["checksums"]) == [
        "hosp/admissions.csv.gz",
        "hosp/patients.csv.gz",
        "mimic-cxr-2.0.0-metadata.csv.gz",
        "mimic-cxr-2.0.0-negbio.csv.gz",
        "mimic-cxr-2.0.0-split.csv.gz",
    ]
    assert set(run.groups) == {"record", "sex", "age", "race", "insurance", "view", "label"}
    assert {"sex", "race", "view", "insurance"} <= set(run.audit["subgroups"]["variable"])


def test_labels_are_those_of_the_study(folder) -> None:
    silent = dict.fromkeys(OBSERVATIONS, 0.0)
    dataset = read(mimic_cxr(folder))
    assert dataset.classes == OBSERVATIONS  # the tables are alphabetical
    assert labels_of(dataset, FIRST) == labels_of(dataset, LATERAL) == silent | {"No Finding": 1.0}
    assert labels_of(dataset, BLANK) == silent | {"Consolidation": 1.0}
    assert labels_of(dataset, RARE) == silent
    assert labels_of(dataset, LL) == silent | {"Edema": 1.0, "Support Devices": 1.0}
    assert np.isnan(labels_of(read(mimic_cxr(folder, uncertain="unobserved")), BLANK)["Consolidation"])
    assert labels_of(read(mimic_cxr(folder, uncertain="negative")), BLANK) == silent
    # The first of the 60 patients has all 14 in turn positive, negative, blank; the other labeler swaps fractures.
    first = list(labels_of(dataset, dicom_id(8)).values())
    alphabetical = dict(zip(sorted(OBSERVATIONS), [1.0, 0.0, 0.0] * 5, strict=False))
    assert first == [alphabetical[name] for name in OBSERVATIONS]
    other = read(mimic_cxr(folder, labeler="chexpert"))
    changed = (other.labels != dataset.labels).any(axis=0)
    assert [name for name, one in zip(OBSERVATIONS, changed, strict=True) if one] == ["Fracture"]
    none = read(mimic_cxr(folder, target="no-finding"))
    assert none.labels[:5].tolist() == [1, 1, 0, 0, 0]
    assert none.groups["findings"][4] == ["Edema", "Support Devices"]


def test_drawn_splits_need_no_table_of_splits(folder) -> None:
    (folder / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    dataset = read(mimic_cxr(folder))
    assert dataset.split is None
    assert UNSPLIT in dataset.record
    assert len(dataset.record) == 86


def test_persons_come_from_mimic_iv(folder, hospital) -> None:
    dataset = read(mimic_cxr(folder, mimic_iv=str(hospital)))
    assert groups_of(dataset, LATERAL) == {
        "sex": "female",
        "age": "40 to under 60",
        "race": "White",
        "insurance": "Medicaid",
        "view": "lateral",
    }
    # 86 in 2132 is 75 in 2121; one race beside an unstated one; no view.
    second = groups_of(dataset, BLANK)
    assert (second["sex"], second["age"], second["race"]) == ("male", "60 to under 80", "Black")
    assert pd.isna(second["view"])
    # No patient of MIMIC-IV, and a rare view.
    third = groups_of(dataset, RARE)
    assert pd.isna([third[name] for name in ("sex", "age", "race", "insurance")]).all()
    assert third["view"] == "other"
    # Two races at two admissions; the insurance is that of the last.
    fourth = groups_of(dataset, LL)
    assert pd.isna(fourth["race"])
    assert (fourth["insurance"], fourth["view"]) == ("Medicare", "left lateral")
    assert dataset.groups["race"].value_counts().to_dict() == {"White": 40 + 2, "Black": 20 + 1, "Hispanic": 20}
    assert list(read(mimic_cxr(folder)).groups) == ["view"]


def test_ages_beyond_the_anchor(folder, hospital) -> None:
    table = pd.read_csv(hospital / "hosp/patients.csv.gz")
    table.loc[table["subject_id"] == 10000032, ["anchor_age", "anchor_year"]] = [91, 2180]
    table.to_csv(hospital / "hosp/patients.csv.gz", index=False)
    assert groups_of(read(mimic_cxr(folder, mimic_iv=str(hospital))), FIRST)["age"] == "80 and over"


def test_views_can_be_frontal_only(folder) -> None:
    dataset = read(mimic_cxr(folder, views="frontal"))
    reasons = dataset.excluded.set_index("record")["reason"]
    assert (reasons[LATERAL], reasons[RARE], reasons[LL]) == ("view not frontal",) * 3
    assert reasons[BLANK] == "view unknown"
    assert reasons[UNLABELLED] == "no labels of its study"
    assert len(dataset.record) == 60 + 2  # of the 60 patients, and the first and the last of the eight images
    assert len(dataset.record) + len(dataset.excluded) == 88
    assert dataset.expected == {"rows": 377_110}


def test_a_split_of_another_study_is_not_believed(folder) -> None:
    table = pd.read_csv(folder / "mimic-cxr-2.0.0-split.csv.gz", dtype=str)
    table.loc[0, "study_id"] = "59999999"
    table.to_csv(folder / "mimic-cxr-2.0.0-split.csv.gz", index=False)
    dataset = read(mimic_cxr(folder, splits="official"))
    assert dataset.excluded.set_index("record").loc[FIRST, "reason"] == "study or patient differs between the tables"


def test_unpacked_tables_and_rewritten_ids(tmp_path) -> None:
    folder = mimic_cxr_folder(tmp_path / "unpacked", ending=".csv")
    expected = read(mimic_cxr(folder))
    for name in ("metadata", "negbio"):
        file = folder / f"mimic-cxr-2.0.0-{name}.csv"
        pd.read_csv(file).astype({"subject_id": float, "study_id": float}).to_csv(file, index=False)
    assert "10000032.0" in (folder / "mimic-cxr-2.0.0-negbio.csv").read_text()
    dataset = read(mimic_cxr(folder))
    assert dataset.patient.tolist() == expected.patient.tolist()
    assert dataset.inputs.paths == expected.inputs.paths
    assert dataset.inputs.paths[0] == folder / f"files/p10/p10000032/s50414267/{FIRST}.jpg"
    assert np.array_equal(dataset.labels, expected.labels)


def test_what_is_not_there_is_said(folder, hospital) -> None:
    spec = mimic_cxr(folder, mimic_iv=str(hospital), splits="official")
    assert not list(unmet(needs(spec)))
    shutil.rmtree(folder / "files")
    shutil.rmtree(hospital / "hosp")
    (folder / "mimic-cxr-2.0.0-split.csv.gz").unlink()
    said = list(unmet(needs(spec)))
    assert said[:2] == [
        f"{folder / 'mimic-cxr-2.0.0-split.csv.gz'} does not exist",
        f"{folder / 'files'} does not exist",
    ]
    assert len(said) == 4
    refused(mimic_cxr(folder), f"the folder {folder / 'files'} does not exist")


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "sentence"),
    [
        ("metadata", 2, "dicom_id", FIRST, "column 'dicom_id' holds an id for the second time in row 2"),
        ("metadata", 3, "subject_id", "p10000764", "column 'subject_id' is not a whole number in row 3"),
        ("metadata", 3, "study_id", "", "column 'study_id' is blank in row 3"),
        ("negbio", 4, "Edema", "yes", "column 'Edema' is neither 1, 0, -1 nor blank in row 4"),
        ("negbio", 2, "study_id", "50414267", "column 'study_id' holds an id for the second time in row 2"),
        ("split", 5, "split", "val", "column 'split' is none of train, validate, test in row 5"),
    ],
)
def test_bad_cells_are_refused(tmp_path, table, row, column, value, sentence) -> None:
    folder = mimic_cxr_folder(tmp_path, patients=1, ending=".csv")
    edit(folder / f"mimic-cxr-2.0.0-{table}.csv", row, column, value)
    refused(mimic_cxr(folder, splits="official"), sentence)


def test_tables_that_do_not_belong_together_are_refused(folder, hospital) -> None:
    file = folder / "mimic-cxr-2.0.0-negbio.csv.gz"
    table = pd.read_csv(file)
    table.assign(study_id=table["study_id"] + 1).drop_duplicates("study_id").iloc[:1].to_csv(file, index=False)
    refused(mimic_cxr(folder), "no image is a record (no labels of its study in row 1): are all tables of one release?")
    table.to_csv(file, index=False)
    people = pd.read_csv(hospital / "hosp/patients.csv.gz")
    people.assign(subject_id=people["subject_id"] + 5_000_000).to_csv(hospital / "hosp/patients.csv.gz", index=False)
    refused(mimic_cxr(folder, mimic_iv=str(hospital)), "none of the patients is in hosp/patients of ")
