"""CheXpert: the folder as downloaded, from its quirks to an audit."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chest_folders import OBSERVATIONS, chexpert_folder, chexpert_people, chexpert_test_set
from end_to_end import end_to_end
from real_sources import edit, refused, source

from tailrisk.datasets.chexpert import needs
from tailrisk.datasets.chexpert_people import ethnicity, people, race
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read, split_of

FIRST = "train/patient00001/study1/view1_frontal"
UNCERTAIN = "train/patient00002/study2/view1_frontal"
LATERAL = "train/patient00002/study1/view2_lateral"
SILENT = "train/patient00003/study1/view1_frontal"
LL = "train/patient00004/study1/view1_frontal"


@pytest.fixture
def folder(tmp_path) -> Path:
    return chexpert_folder(tmp_path / "renamed")


def chexpert(folder: Path, **options):
    return source(source="chexpert", path=str(folder), size=16, **options)


def labels_of(dataset, record: str) -> dict[str, float]:
    return dict(zip(dataset.classes, dataset.labels[dataset.record.tolist().index(record)].tolist(), strict=True))


def groups_of(dataset, record: str) -> dict[str, object]:
    return dataset.groups.iloc[dataset.record.tolist().index(record)].to_dict()


def test_chexpert_end_to_end(folder) -> None:
    where = chexpert_people(folder / "CHEXPERT DEMO.xlsx")
    run = end_to_end(chexpert(folder, demographics=str(where), validation=0.2, test=0.2), folder.parent)
    assert (run.card["n_records"], run.card["n_patients"], run.card["input_shape"]) == (86, 64, [1, 16, 16])
    assert run.excluded.empty
    assert sorted(run.card["checksums"]) == ["CHEXPERT DEMO.xlsx", "train.csv"]
    # 20 of the 60, whose labels come round every three patients, 7 of them with a lateral; and those of the first six.
    assert run.card["classes"]["No Finding"] == 20 + 20 + 1
    assert run.card["classes"]["Lung Opacity"] == 20 + 20 + 1
    assert run.card["classes"]["Edema"] == 20 + 2
    expected = {line["what"]: line["expected"] for line in run.card["expected"]}
    assert expected["rows"] == 223_414
    assert expected["class Atelectasis"] == 33_376 + 33_739
    assert set(run.groups) >= {"sex", "age", "race", "ethnicity", "view", "label"}
    assert run.groups["view"].value_counts().to_dict() == {"AP": 33, "PA": 31, "lateral": 21}
    assert run.groups["race"].isna().sum() == 2 + 2  # of patients 3, 4, and the two images of patient 10
    described = run.audit["subgroups"]
    assert {"sex", "race", "view"} <= set(described["variable"])


def test_groups_that_are_unknown(folder) -> None:
    dataset = read(chexpert(folder, demographics=str(chexpert_people(folder / "CHEXPERT DEMO.xlsx"))))
    assert groups_of(dataset, FIRST) == {
        "sex": "female",
        "age": "60 to under 80",
        "race": "White",
        "ethnicity": "not Hispanic",
        "view": "AP",
    }
    second = groups_of(dataset, LATERAL)
    assert (second["race"], second["ethnicity"], second["view"]) == ("Black", "Hispanic", "lateral")
    assert pd.isna(list(groups_of(dataset, SILENT).values())).tolist() == [True, True, True, True, False]
    fourth = groups_of(dataset, LL)
    assert (fourth["sex"], fourth["age"]) == ("male", "20 to under 40")
    assert pd.isna([fourth["race"], fourth["view"]]).all()
    # Two rows of the demographics contradict each other in race; of ethnicity only one speaks.
    tenth = groups_of(dataset, "train/patient00010/study1/view1_frontal")
    assert pd.isna(tenth["race"])
    assert tenth["ethnicity"] == "not Hispanic"
    assert "race" not in read(chexpert(folder)).groups


def test_uncertain_and_unmentioned_observations(folder) -> None:
    silent = dict.fromkeys(OBSERVATIONS, 0.0)
    for policy, value in (("positive", 1.0), ("negative", 0.0), ("unobserved", np.nan)):
        dataset = read(chexpert(folder, uncertain=policy))
        assert dataset.classes == OBSERVATIONS
        assert labels_of(dataset, SILENT) == silent  # neither is no finding made up
        assert labels_of(dataset, FIRST) == silent | {"No Finding": 1.0, "Support Devices": 1.0}
        found = labels_of(dataset, UNCERTAIN)
        assert np.array_equal([found["Lung Opacity"], found["Consolidation"]], [value, value], equal_nan=True)
        assert (found["Fracture"], found["Cardiomegaly"]) == (1.0, 0.0)


def test_targets(folder) -> None:
    five = read(chexpert(folder, target="competition", uncertain="negative"))
    assert five.classes == ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
    assert list(labels_of(five, LATERAL).values()) == [0, 0, 0, 1, 1]
    assert groups_of(five, UNCERTAIN)["findings"] == ["Fracture"]
    assert groups_of(five, SILENT)["findings"] == []
    assert five.expected["class Edema"] == 52_246
    none = read(chexpert(folder, target="no-finding"))
    assert (none.task, none.classes) == ("binary", ["any finding", "no finding"])
    assert none.labels[:6].tolist() == [1, 0, 0, 0, 0, 0]
    assert "findings" not in read(chexpert(folder)).groups


def test_laterals_can_be_left_out(folder) -> None:
    dataset = read(chexpert(folder, views="frontal"))
    assert len(dataset.record) == 65
    assert len(dataset.excluded) == 21
    assert set(dataset.excluded["reason"]) == {"view not frontal"}
    assert dataset.excluded["record"].tolist()[0] == LATERAL
    assert dataset.expected == {"rows": 223_414, "records": 191_027}


def test_official_split(folder) -> None:
    spec = chexpert(folder, splits="official", validation=0.3)
    dataset = read(spec)
    split = pd.Series(split_of(dataset, spec), index=dataset.record)
    assert split[split == "test"].index.tolist() == [f"valid/patient{64541 + n}/study1/view1_frontal" for n in range(6)]
    assert 10 < (split == "validation").sum() < 40
    assert sorted(dataset.checksums) == ["train.csv", "valid.csv"]
    assert dataset.expected["rows"] == 223_414 + 234
    chexpert_test_set(folder)
    dataset = read(spec)
    assert (dataset.split == "test").sum() == 6 + 3
    assert dataset.record[-1] == "test/patient64743/study1/view1_frontal"
    assert labels_of(dataset, "test/patient64742/study1/view1_frontal")["Support Devices"] == 0.0
    assert labels_of(dataset, "test/patient64741/study1/view1_frontal")["No Finding"] == 1.0
    assert dataset.inputs.paths[-1] == folder / "test/patient64743/study1/view1_frontal.jpg"
    assert (dataset.expected["rows"], dataset.expected["patients"]) == (224_316, 65_240)


def test_findings_that_valid_lacks_need_the_test_set(folder) -> None:
    table = pd.read_csv(folder / "valid.csv", dtype=str).assign(Fracture="0.0")
    table.to_csv(folder / "valid.csv", index=False)
    refused(chexpert(folder, splits="official"), "valid.csv: no image is positive for Fracture, which cannot be tested")
    assert len(read(chexpert(folder, splits="official", target="competition")).record) == 92
    chexpert_test_set(folder)
    assert len(read(chexpert(folder, splits="official")).record) == 95


def test_full_size_as_unpacked(tmp_path) -> None:
    folder = chexpert_folder(tmp_path / "chexpertchestxrays-u20210408", "CheXpert-v1.0", patients=6)
    first, *others = (
        folder / f"CheXpert-v1.0 batch {name}" for name in ("1 (validate & csv)", "2 (train 1)", "3 (train 2)")
    )
    first.mkdir()
    for name in ("train.csv", "valid.csv", "valid"):
        (folder / name).rename(first / name)
    for batch in others:
        batch.mkdir()
    for number, patient in enumerate(sorted((folder / "train").iterdir())):
        patient.rename(others[number // 5] / patient.name)
    (folder / "train").rmdir()
    dataset = read(chexpert(folder, splits="official"))
    assert len(dataset.inputs.paths) == 6 + 8 + 6
    assert all(path.is_file() for path in dataset.inputs.paths)
    assert not list(unmet(needs(chexpert(folder, splits="official"))))


def test_what_is_not_there_is_said(folder) -> None:
    spec = chexpert(folder, splits="official", demographics=str(folder / "demo.xlsx"))
    assert list(unmet(needs(spec))) == [f"{folder / 'demo.xlsx'} does not exist"]
    refused(spec, f"the table {folder / 'demo.xlsx'} does not exist")
    shutil.rmtree(folder / "train")
    (folder / "valid.csv").unlink()
    assert list(unmet(needs(chexpert(folder, splits="official")))) == [
        f"{folder / 'train'} does not exist",
        f"{folder / 'valid.csv'} does not exist",
    ]
    refused(chexpert(folder), f"the images of {folder / 'train.csv'} are not in {folder / 'train'}")


@pytest.mark.parametrize(
    ("row", "column", "value", "sentence"),
    [
        (4, "Edema", "2.0", "column 'Edema' is neither 1, 0, -1 nor blank in row 4"),
        (3, "Age", "old", "column 'Age' is not an age in years in row 3"),
        (
            2,
            "Path",
            "CheXpert/train/patient00001/study1/view1_frontal.jpg",
            "names an image for the second time in row",
        ),
        (
            2,
            "Path",
            "train/00002/view1.jpg",
            "column 'Path' does not end in train/patient.../study.../view1_frontal.jpg",
        ),
        (5, "No Finding", "-1.0", "column 'No Finding', which is the target, is uncertain (-1) in row 5"),
    ],
)
def test_bad_cells_are_refused(folder, row, column, value, sentence) -> None:
    edit(folder / "train.csv", row, column, value)
    refused(chexpert(folder, target="no-finding"), sentence)


def test_a_patient_of_train_cannot_test(folder) -> None:
    shutil.copytree(folder / "train/patient00001", folder / "valid/patient00001")
    edit(folder / "valid.csv", 2, "Path", "CheXpert-v1.0-small/valid/patient00001/study1/view1_frontal.jpg")
    refused(chexpert(folder, splits="official"), "valid.csv: a patient of train.csv, who cannot test, in row 2")
    read(chexpert(folder))


def test_demographics_of_others_are_refused(folder) -> None:
    where = chexpert_people(folder / "demo.xlsx")
    table = pd.read_excel(where).assign(PATIENT="subject1")
    table.to_excel(where, index=False)
    refused(chexpert(folder, demographics=str(where)), "column 'PATIENT' holds no patient of train.csv")
    table.rename(columns={"PRIMARY_RACE": "RACE"}).to_excel(where, index=False)
    refused(chexpert(folder, demographics=str(where)), "has no column 'PRIMARY_RACE'")
    where.write_bytes(b"PK\x03\x04 cut off")
    refused(chexpert(folder, demographics=str(where)), "is not a readable workbook")


def test_demographics_as_csv(folder) -> None:
    where = chexpert_people(folder / "demo.xlsx")
    pd.read_excel(where).to_csv(folder / "demo.csv", index=False)
    pd.testing.assert_frame_equal(people(folder / "demo.csv")[0], people(where)[0])


def test_vocabulary_of_race() -> None:
    vocabulary = {
        "white": ("White", None),
        "white, non-hispanic": ("White", "not Hispanic"),
        "white, hispanic": ("White", "Hispanic"),
        "white or caucasian": ("White", None),
        "black or african american": ("Black", None),
        "black, non-hispanic": ("Black", "not Hispanic"),
        "asian - historical conv": ("Asian", None),
        "asian, hispanic": ("Asian", "Hispanic"),
        "other, non-hispanic": ("other", "not Hispanic"),
        "native american, hispanic": ("other", "Hispanic"),
        "american indian or alaska native": ("other", None),
        "native hawaiian or other pacific islander": ("other", None),
        "pacific islander, non-hispanic": ("other", "not Hispanic"),
        "unknown": (None, None),
        "race and ethnicity unknown": (None, None),
        "patient refused": (None, None),
    }
    plain = pd.Series([*vocabulary, None])
    for found, place in ((race(plain), 0), (ethnicity(plain), 1)):
        expected = [*(words[place] for words in vocabulary.values()), None]
        assert [None if pd.isna(one) else one for one in found] == expected
    said = pd.Series(["hispanic/latino", "non-hispanic/non-latino", "not hispanic", "hispanic", "unknown"])
    assert ethnicity(said)[:4].tolist() == ["Hispanic", "not Hispanic", "not Hispanic", "Hispanic"]
    assert pd.isna(ethnicity(said)[4])
