"""Diabetes 130: the archive as downloaded, its codes, and cells that no message shows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from real_sources import edit, source

from tailrisk.datasets.diabetes130 import NEEDED, chapter
from tailrisk.datasets.prepare import prepare, read
from tailrisk.errors import UserError


def test_diabetes130(open_data, tmp_path) -> None:
    spec = source(source="diabetes130", path=str(open_data / "diabetes130"))
    run = end_to_end(spec, tmp_path)
    card = run.card
    assert (card["n_records"], card["n_patients"]) == (101766, 71518)
    assert (card["patients_with_several_records"], card["most_records_of_a_patient"]) == (16773, 40)
    assert card["classes"] == {"other": 90409, "readmitted within 30 days": 11357}
    assert card["checksums"]["diabetic_data.csv"].startswith("0689e7ec0312")
    race = run.groups["race"]
    assert race.value_counts().to_dict() == {
        "Caucasian": 76099,
        "AfricanAmerican": 19210,
        "Hispanic": 2037,
        "Other": 1506,
        "Asian": 641,
    }
    assert race.isna().sum() == 2273
    with pytest.raises(UserError, match="not the configured one"):
        prepare("d", spec.model_copy(update={"sha256": "0" * 64}), tmp_path / "other")


def encounters(path: Path) -> Path:
    """A table of 90 encounters of 60 patients with the columns of UCI 296 that are needed."""
    rows = np.arange(90)
    frame = pd.DataFrame(dict.fromkeys(NEEDED, "1"), index=rows)
    frame["encounter_id"], frame["patient_nbr"] = rows + 1000, rows % 60
    frame["readmitted"] = np.where(rows % 3, "NO", "<30")
    frame["race"], frame["gender"], frame["age"], frame["payer_code"] = "Asian", "Female", "[50-60)", "?"
    frame["time_in_hospital"], frame["diag_1"] = 1 + rows % 7, np.where(rows % 2, "V57", "250.83")
    frame.to_csv(path / "diabetic_data.csv", index=False)
    return path / "diabetic_data.csv"


@pytest.mark.parametrize(
    ("column", "fault"),
    [
        ("num_lab_procedures", "column 'num_lab_procedures' is not a number"),
        ("diag_2", "column 'diag_2' is neither a code of ICD-9 nor ?"),
        ("readmitted", "column 'readmitted' is neither NO, >30 nor <30"),
        ("patient_nbr", "column 'patient_nbr' is not a whole number"),
    ],
)
def test_no_cell_of_diabetes130_is_shown(tmp_path, column: str, fault: str) -> None:
    """A patient's name in the wrong column is not for messages: they say where it is."""
    table = encounters(tmp_path)
    edit(table, 4, "patient_nbr", "3.0")
    spec = source(source="diabetes130", path=str(tmp_path))
    assert read(spec).patient.tolist() == [str(row % 60) for row in range(90)]
    edit(table, 7, column, "Doe, Jane")
    with pytest.raises(UserError) as caught:
        read(spec)
    assert str(caught.value) == f"{table}: {fault} in row 7"


@pytest.mark.parametrize(
    ("code", "group"),
    [
        ("250.83", "diabetes"),
        ("428", "circulatory"),
        ("785", "circulatory"),
        ("786", "respiratory"),
        ("V57", "other"),
        ("E909", "other"),
        ("197", "neoplasms"),
        ("996", "injury"),
        ("715", "musculoskeletal"),
        ("590", "genitourinary"),
        ("577", "digestive"),
        ("38", "other"),
    ],
)
def test_diagnosis_groups(code: str, group: str) -> None:
    assert chapter(code) == group
