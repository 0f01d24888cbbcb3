"""Who the patients of MIMIC-IV are, and the order of what happened to them."""

import pandas as pd
import pytest
from hospital_tables import Release

from tailrisk.datasets.mimic_iv_patients import age, demographics, insurance, patients, race
from tailrisk.datasets.timeline import Timeline


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("WHITE - BRAZILIAN", "White"),
        ("BLACK/AFRICAN AMERICAN", "Black"),
        ("HISPANIC OR LATINO", "Hispanic"),
        ("HISPANIC/LATINO - CUBAN", "Hispanic"),
        ("ASIAN - KOREAN", "Asian"),
        ("AMERICAN INDIAN/ALASKA NATIVE", "other"),
        ("UNABLE TO OBTAIN", None),
        ("PATIENT DECLINED TO ANSWER", None),
        ("UNKNOWN", None),
        ("UNKNOWN/NOT SPECIFIED", None),
        ("Unknown", None),
        ("Unable to obtain", None),
        ("?", None),
        ("white", "White"),
        ("PORTUGUESE", "other"),
        (None, None),
    ],
)
def test_races(stated, expected) -> None:
    found = race(pd.Series([stated], dtype=object))[0]
    assert found == expected or (expected is None and pd.isna(found))


def test_demographics_of_patients(tmp_path) -> None:
    made = Release()
    for subject in (1, 2, 3, 4):
        made.person(subject, sex="FM"[subject % 2])
    made.admission(1, 11, "2150-01-01 10:00:00", "2150-01-02 10:00:00", race="WHITE", insurance="Other")
    made.admission(1, 12, "2149-01-01 10:00:00", "2149-01-02 10:00:00", race="WHITE - BRAZILIAN", insurance="Medicare")
    made.admission(2, 13, "2150-01-01 10:00:00", "2150-01-02 10:00:00", race="WHITE")
    made.admission(2, 14, "2151-01-01 10:00:00", "2151-01-02 10:00:00", race="ASIAN")
    made.admission(3, 15, "2150-01-01 10:00:00", "2150-01-02 10:00:00", race="ASIAN")
    made.admission(3, 16, "2151-01-01 10:00:00", "2151-01-02 10:00:00", race="UNKNOWN", insurance="")
    table, checksums = demographics(made.write(tmp_path))
    assert table.loc["1", ["sex", "race", "insurance", "anchor_age"]].tolist() == ["male", "White", "other", 50]
    assert pd.isna(table.loc["2", "race"])  # stated differently
    assert table.loc["3", ["race", "insurance"]].tolist() == ["Asian", "other"]
    assert pd.isna(table.loc["4", "race"])  # never admitted
    assert sorted(checksums) == ["hosp/admissions.csv.gz", "hosp/patients.csv.gz"]


def test_insurances() -> None:
    found = insurance(pd.Series(["Medicare", "Medicaid", "Other", "Private", "No charge", None], dtype=object))
    assert found[:5].tolist() == ["Medicare", "Medicaid", "other", "private", "no charge"]
    assert pd.isna(found[5])


def test_ages_are_those_of_the_year(tmp_path) -> None:
    made = Release()
    made.person(1, age=50, year=2150)
    people = patients(made.write(tmp_path)).table
    at = pd.to_datetime(pd.Series(["2150-12-31", "2153-01-01", "2149-06-01", "2150-01-01"]))
    found = age(pd.Series(["1", "1", "1", "2"]), at, people)
    assert found[:3].tolist() == [50, 53, 49]
    assert pd.isna(found[3])


def test_timelines() -> None:
    when = pd.to_datetime(pd.Series(["2100-01-02", "2100-01-01", None, "2100-01-03", "2100-01-01"]))
    timeline = Timeline(pd.Series(["b", "a", "a", "a", None], dtype=object), when)
    low, high = timeline.before(
        timeline.moments(
            pd.Series(["a", "a", "b", "c", None, "a"], dtype=object),
            pd.to_datetime(pd.Series(["2100-01-03", "2100-01-04", "2100-01-02", "2100-01-04", "2100-01-04", None])),
        )
    )
    assert [timeline.order[a:b].tolist() for a, b in zip(low, high, strict=True)] == [[1], [1, 3], [], [], [], []]
