"""ICU stays of MIMIC-IV: the open demo, and a small release with every trap, whose numbers are worked out by hand."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from hospital_tables import Release, raw, values
from real_sources import refused, source

from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.mimic_iv import LABORATORY, VITALS, needs
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read
from tailrisk.errors import UserError

SUBJECT, STAY = 20000001, 30000001
"""The stay that the traps are laid around: from 2150-06-15 at 12:00 to 2150-06-18 at 12:00."""
LAST = 10000069
"""Of the plain patients."""
LOW, HIGH = 39000000, 39000001
"""Two plain stays, whose measurements are known: every one of them 1 above or below its usual value."""
HEART_RATE, TEMPERATURE_C, TEMPERATURE_F, SODIUM, LACTATE, URINE_GLUCOSE = 220045, 223762, 223761, 50983, 50813, 51478
PLAIN = {HEART_RATE: 80, TEMPERATURE_C: 37}
PLAIN_LABORATORY = {SODIUM: 140}


def spec(folder: Path, **options):
    return source(source="mimic_iv", path=str(folder), **options)


class Unit(Release):
    """A release of which ICU stays are made."""

    def stay(self, subject: int, stay: int, hadm: int, begin: str, end: str, unit: str = "Medical (MICU)") -> None:
        values = {"subject_id": subject, "hadm_id": hadm, "stay_id": stay, "first_careunit": unit}
        self.add("icu/icustays", **values, last_careunit=unit, intime=begin, outtime=end)

    def chart(self, stay: int, at: str, item: int, value: object) -> None:
        self.add("icu/chartevents", stay_id=stay, charttime=at, itemid=item, value=value, valuenum=value)

    def lab(self, subject: int, at: str, item: int, value: object, hadm: object = "") -> None:
        self.add("hosp/labevents", subject_id=subject, hadm_id=hadm, charttime=at, itemid=item, valuenum=value)


def release() -> Unit:
    """70 patients of one plain stay, every third of whom dies, and the traps."""
    made = Unit()
    for number in range(70):
        subject, stay, hadm = 10000000 + number, LOW + number, 29000000 + number
        made.person(subject, sex="FM"[number % 2], age=30 + number // 2)
        died = {"hospital_expire_flag": int(number % 3 == 0)}
        if number % 3 == 0:
            died["deathtime"] = "2150-03-09 10:00:00"
        made.admission(subject, hadm, "2150-03-01 08:00:00", "2150-03-09 10:00:00", **died)
        made.stay(subject, stay, hadm, "2150-03-01 10:00:00", "2150-03-04 10:00:00")
        change = -1 if number % 2 == 0 else 1
        for item, usual in PLAIN.items():
            made.chart(stay, "2150-03-01 12:00:00", item, usual + change)
        for item, usual in PLAIN_LABORATORY.items():
            made.lab(subject, "2150-03-01 12:00:00", item, usual + change)
    traps_in_time(made)
    traps_in_cohort(made)
    return made


def traps_in_time(made: Unit) -> None:
    for subject in (SUBJECT, SUBJECT + 1):
        made.person(subject)
    made.admission(SUBJECT, 501, "2150-06-15 10:00:00", "2150-07-01 10:00:00", race="ASIAN", admission_type="ELECTIVE")
    made.stay(SUBJECT, STAY, 501, "2150-06-15 12:00:00", "2150-06-18 12:00:00")
    made.stay(SUBJECT, STAY + 1, 501, "2150-06-20 12:00:00", "2150-06-22 12:00:00")  # the same admission
    for at, value in (
        ("2150-06-15 11:59:59", 200),  # before the stay
        ("2150-06-15 12:00:00", 100),  # at its begin
        ("2150-06-15 20:00:00", 0),  # impossible
        ("2150-06-16 11:59:59", 130),  # the last second of the first day
        ("2150-06-16 12:00:00", 210),  # the second day
        ("2150-06-21 12:00:00", 220),  # long after
    ):
        made.chart(STAY, at, HEART_RATE, value)
    made.chart(STAY + 1, "2150-06-20 13:00:00", HEART_RATE, 60)
    made.chart(STAY, "2150-06-15 13:00:00", TEMPERATURE_F, 104)  # 40 degrees Celsius
    made.chart(STAY, "2150-06-15 14:00:00", TEMPERATURE_F, 38)  # Celsius among Fahrenheit: impossible
    made.chart(STAY, "2150-06-15 15:00:00", TEMPERATURE_C, 38)
    made.chart(99999999, "2150-06-15 13:00:00", HEART_RATE, 250)  # of no stay here
    for at, value in (
        ("2150-06-15 09:00:00", 170),  # before the stay
        ("2150-06-15 13:00:00", 150),
        ("2150-06-16 13:00:00", 110),  # the second day of the first stay
        ("2150-06-20 13:00:00", 130),  # the first day of the second
        ("2150-06-25 13:00:00", 100),  # after both
    ):
        made.lab(SUBJECT, at, SODIUM, value, hadm="" if value == 150 else 501)
    made.lab(SUBJECT + 1, "2150-06-15 13:00:00", SODIUM, 120)  # someone else's
    made.lab(SUBJECT, "2150-06-15 13:30:00", SODIUM, "")  # not measured
    # Taken a year before the patient's stay, while the patient before in the order of ids was in one.
    made.person(LAST + 1)
    made.admission(LAST + 1, 502, "2151-03-01 08:00:00", "2151-03-09 10:00:00")
    made.stay(LAST + 1, STAY + 2, 502, "2151-03-01 10:00:00", "2151-03-04 10:00:00")
    made.lab(LAST + 1, "2150-03-01 13:00:00", SODIUM, 190)
    made.lab(SUBJECT, "2150-06-15 13:00:00", LACTATE, 2.5)
    made.lab(SUBJECT, "2150-06-15 13:00:00", URINE_GLUCOSE, 500)


def traps_in_cohort(made: Unit) -> None:
    made.person(SUBJECT + 2, age=17)
    made.admission(SUBJECT + 2, 511, "2150-01-01 10:00:00", "2150-01-09 10:00:00")
    made.stay(SUBJECT + 2, STAY + 10, 511, "2150-01-01 10:00:00", "2150-01-04 10:00:00")  # a minor
    made.admission(SUBJECT + 1, 512, "2150-01-01 10:00:00", "2150-01-09 10:00:00")
    made.stay(SUBJECT + 1, STAY + 11, 512, "2150-01-01 10:00:00", "2150-01-02 09:59:59")  # a second short of a day
    made.stay(SUBJECT + 1, STAY + 12, 512, "2150-01-03 10:00:00", "2150-01-04 10:00:00")  # just a day
    made.stay(SUBJECT + 1, STAY + 13, 512, "2150-01-05 10:00:00", "")  # without an end
    made.admission(SUBJECT + 1, 513, "2150-02-01 10:00:00", "2150-02-09 10:00:00", hospital_expire_flag="")
    made.stay(SUBJECT + 1, STAY + 14, 513, "2150-02-01 10:00:00", "2150-02-04 10:00:00")  # outcome unknown
    made.stay(SUBJECT + 1, STAY + 15, 599, "2150-03-01 10:00:00", "2150-03-04 10:00:00")  # admission unknown
    made.admission(
        SUBJECT + 1,
        514,
        "2150-04-01 10:00:00",
        "2150-04-03 10:00:00",
        hospital_expire_flag=1,
        deathtime="2150-04-01 20:00:00",
    )
    made.stay(SUBJECT + 1, STAY + 16, 514, "2150-04-01 10:00:00", "2150-04-03 10:00:00")  # dead for most of it
    made.admission(SUBJECT + 9, 515, "2150-01-01 10:00:00", "2150-01-09 10:00:00")
    made.stay(SUBJECT + 9, STAY + 17, 515, "2150-01-01 10:00:00", "2150-01-04 10:00:00")  # patient unknown


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return release().write(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def dataset(folder) -> Dataset:
    return read(spec(folder))


def test_a_small_release_goes_all_the_way(folder, tmp_path) -> None:
    run = end_to_end(spec(folder), tmp_path)
    assert (run.card["rows"], run.card["n_records"], run.card["n_patients"]) == (81, 74, 73)
    assert run.card["excluded"] == {
        "died within 24 hours": 1,
        "end of the stay unknown": 1,
        "outcome unknown": 2,
        "patient not in hosp/patients of MIMIC-IV": 1,
        "stay shorter than 24 hours": 1,
        "younger than 18 years": 1,
    }
    assert run.reason(str(STAY + 16)) == "died within 24 hours"
    assert run.card["classes"] == {"left the hospital alive": 50, "died in hospital": 24}
    # Age, sex, one unit and two kinds of admission; 10 vital signs and 15 laboratory values, 4 features each.
    assert run.card["features"] == len(set(run.prepared.features)) == 1 + 2 + 1 + 2 + 4 * 25
    assert sorted(run.card["checksums"]) == [
        "hosp/admissions.csv.gz",
        "hosp/labevents.csv.gz",
        "hosp/patients.csv.gz",
        "icu/chartevents.csv.gz",
        "icu/icustays.csv.gz",
    ]


def test_vital_signs_are_those_of_the_first_day(dataset) -> None:
    known = {LOW: 79, HIGH: 81}
    found = [raw(dataset, f"heart_rate_{name}", STAY, known) for name in ("min", "mean", "max")]
    assert found == pytest.approx([100, 115, 130], abs=1e-3)
    assert raw(dataset, "heart_rate_max", STAY + 1, known) == pytest.approx(60, abs=1e-3)
    known = {LOW: 36, HIGH: 38}
    found = [raw(dataset, f"temperature_{name}", STAY, known) for name in ("min", "mean", "max")]
    assert found == pytest.approx([38, 39, 40], abs=1e-4)


def test_laboratory_values_go_to_the_stay_they_were_taken_in(dataset) -> None:
    known = {LOW: 139, HIGH: 141}
    assert raw(dataset, "lab_sodium_min", STAY, known) == pytest.approx(150, abs=1e-3)
    assert raw(dataset, "lab_sodium_max", STAY, known) == pytest.approx(150, abs=1e-3)
    assert raw(dataset, "lab_sodium_mean", STAY + 1, known) == pytest.approx(130, abs=1e-3)
    assert raw(dataset, "lab_sodium_max", LOW + 69, known) == pytest.approx(141, abs=1e-3)
    # Never measured in the patient's other stay: the median, 140 +- 1.
    assert values(dataset, "lab_sodium_max", [STAY + 12])[0] == pytest.approx(
        np.median(values(dataset, "lab_sodium_max", [*range(LOW, LOW + 70), STAY, STAY + 1]))
    )
    assert values(dataset, "lab_sodium = missing", [STAY, STAY + 1, STAY + 2, STAY + 12, LOW]) == [0, 0, 1, 1, 0]
    assert values(dataset, "lab_lactate = missing", [STAY, STAY + 1, LOW]) == [0, 1, 1]
    assert values(dataset, "lab_glucose = missing", [STAY, LOW]) == [1, 1]  # that of urine is no other


def test_nothing_after_the_first_day_is_a_feature(dataset, tmp_path) -> None:
    made = release()
    for row in made.rows["icu/icustays"]:
        if row["stay_id"] == STAY:
            row["outtime"], row["last_careunit"] = "2150-06-19 12:00:00", "elsewhere"
    for row in made.rows["hosp/admissions"]:
        row |= {"dischtime": "2150-09-01 10:00:00", "discharge_location": "DIED"}
        if row["hadm_id"] != 514:  # left out for its time of death
            row["deathtime"] = ""
        row["hospital_expire_flag"] = 1 - row["hospital_expire_flag"] if row["hospital_expire_flag"] != "" else ""
    for number in range(70):
        made.chart(LOW + number, "2150-03-02 10:00:00", HEART_RATE, 200)
        made.lab(10000000 + number, "2150-03-02 10:00:00", LACTATE, 20)
    found = read(spec(made.write(tmp_path)))
    assert found.features == dataset.features
    assert np.array_equal(np.asarray(found.inputs), np.asarray(dataset.inputs))
    assert (found.labels == 1 - dataset.labels).all()
    assert not [name for name in dataset.features if "death" in name or "expire" in name or "disch" in name]


def test_groups(dataset) -> None:
    row = pd.Index(dataset.record).get_loc(str(STAY))
    assert dataset.groups.loc[row].to_dict() == {
        "race": "Asian",
        "sex": "female",
        "age": "40 to under 60",
        "insurance": "other",
        "admission": "elective",
        "unit": "Medical (MICU)",
    }


def test_shorter_stays_on_request(folder) -> None:
    found = read(spec(folder, min_hours=0))
    assert "stay shorter than 0 hours" not in set(found.excluded["reason"])
    assert {str(STAY + 11), str(STAY + 16)} < set(found.record)


def test_large_tables_are_read_only_when_inputs_are_asked_for(tmp_path) -> None:
    made = release()
    made.chart(STAY, "2150-06-15 13:00:00", HEART_RATE, "fast")
    found = read(spec(made.write(tmp_path)))
    assert found.inputs.shape == (74, len(found.features))
    assert found.inputs.dtype == np.float32
    with pytest.raises(UserError) as caught:
        np.asarray(found.inputs)
    assert f"{tmp_path}/icu/chartevents.csv.gz is not a readable table" in str(caught.value)
    assert "fast" not in str(caught.value) and str(STAY) not in str(caught.value)
    assert np.asarray(read(spec(tmp_path, vitals=False)).inputs).shape == (74, 6 + 60)


def test_what_lacks_is_told_before_anything_is_read(folder, tmp_path) -> None:
    assert list(unmet(needs(spec(folder)))) == []
    made = release()
    made.write(tmp_path, [name for name in made.rows if name not in {"icu/chartevents", "hosp/labevents"}])
    assert list(unmet(needs(spec(tmp_path)))) == [
        f"{tmp_path}/hosp/labevents.csv.gz does not exist",
        f"{tmp_path}/icu/chartevents.csv.gz does not exist",
    ]
    refused(spec(tmp_path), f"the table {tmp_path}/hosp/labevents.csv.gz does not exist")
    refused(spec(folder / "nowhere"), "icustays.csv.gz does not exist")


def test_a_bad_outcome_is_refused(tmp_path) -> None:
    made = release()
    made.rows["hosp/admissions"][2]["hospital_expire_flag"] = "dead"
    sentence = "admissions.csv.gz: column 'hospital_expire_flag' is neither 0 nor 1 in row 3"
    refused(spec(made.write(tmp_path)), sentence)


def test_codes_name_one_measure_each() -> None:
    for measures in (VITALS, LABORATORY):
        codes = [code for measure in measures for code in (*measure.codes, *measure.fahrenheit)]
        assert len(set(codes)) == len(codes)
        assert all(measure.low < measure.high for measure in measures)


def test_codes_are_those_of_the_demo(open_data) -> None:
    """Each code is in the release's own dictionary, in blood, and under a name that goes with the measure."""
    items = pd.read_csv(open_data / "mimic_iv_demo_2.2/hosp/d_labitems.csv.gz").set_index("itemid")
    words = {
        "haemoglobin": "hemoglobin",
        "platelets": "platelet",
        "white_cells": "wbc|white blood",
        "prothrombin_ratio": "inr",
    }
    for measure in LABORATORY:
        name = measure.name.removeprefix("lab_")
        found = items.loc[list(measure.codes)]
        assert (found["fluid"] == "Blood").all()
        assert found["label"].str.lower().str.contains(words.get(name, name.replace("_", " "))).all(), name
    items = pd.read_csv(open_data / "mimic_iv_demo_2.2/icu/d_items.csv.gz").set_index("itemid")
    for measure in VITALS:
        found = items.loc[[*measure.codes, *measure.fahrenheit]]
        word = {"oxygen_saturation": "o2 saturation", "gcs_eye": "eye"}.get(measure.name, measure.name.split("_")[0])
        word = {"gcs": measure.name[4:], "mean": "mean"}.get(word, word)
        assert found["label"].str.lower().str.contains(word).all(), measure.name


def demo(open_data: Path, folder: Path) -> Path:
    """The demo with the table that it lacks here, icu/chartevents, from the same values in another form."""
    for name in ("hosp/patients", "hosp/admissions", "hosp/labevents", "icu/icustays"):
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copy(open_data / "mimic_iv_demo_2.2" / f"{name}.csv.gz", folder / f"{name}.csv.gz")
    events = pd.read_parquet(open_data / "mimic_iv_demo_meds/mimic_iv_demo_meds_events.parquet")
    codes = pd.Series(events["code"].unique())
    wanted = codes[codes.str.match(r"LAB//(2200|2202|22376|22390)")]  # vital signs and some others
    events = events[events["code"].isin(wanted) & events["value"].notna()]
    stays = pd.read_csv(folder / "icu/icustays.csv.gz", parse_dates=["intime", "outtime"])
    events = events.merge(stays, on="subject_id")
    events = events[(events["time"] >= events["intime"]) & (events["time"] < events["outtime"])]
    item = events["code"].str.split("//").str[1]
    chart = events[["subject_id", "hadm_id", "stay_id"]].assign(
        caregiver_id="", charttime=events["time"], storetime=events["time"], itemid=item, value=events["value"]
    )
    chart = chart.assign(valuenum=chart["value"], valueuom="", warning=0)
    chart.to_csv(folder / "icu/chartevents.csv.gz", index=False, compression={"method": "gzip", "compresslevel": 1})
    return folder


def test_the_demo_with_vital_signs(open_data, tmp_path) -> None:
    """140 stays of 100 patients, 23 of them shorter than a day; the first day's heart rates counted again."""
    folder = demo(open_data, tmp_path / "demo")
    run = end_to_end(spec(folder, test=0.25, validation=0.2), tmp_path)
    assert (run.card["rows"], run.card["n_records"], run.card["n_patients"]) == (140, 117, 88)
    assert run.card["excluded"] == {"stay shorter than 24 hours": 23}
    assert run.card["classes"] == {"left the hospital alive": 103, "died in hospital": 14}
    stays = pd.read_csv(folder / "icu/icustays.csv.gz", parse_dates=["intime"])
    chart = pd.read_csv(folder / "icu/chartevents.csv.gz", parse_dates=["charttime"])
    beats = chart[(chart["itemid"] == HEART_RATE) & (chart["valuenum"] > 0)].merge(stays[["stay_id", "intime"]])
    beats = beats[beats["charttime"] < beats["intime"] + pd.Timedelta(days=1)]
    sodium = pd.read_csv(folder / "hosp/labevents.csv.gz", parse_dates=["charttime"], low_memory=False)
    sodium = sodium[sodium["itemid"].isin([50983, 50824])].merge(
        stays[["subject_id", "stay_id", "intime"]], on="subject_id"
    )
    since = sodium["charttime"] - sodium["intime"]
    sodium = sodium[(since >= pd.Timedelta(0)) & (since < pd.Timedelta(days=1))]
    order = run.records["record"].astype(int)
    for feature, expected in (
        ("heart_rate_mean", beats.groupby("stay_id")["valuenum"].mean()),
        ("lab_sodium_min", sodium.groupby("stay_id")["valuenum"].min()),
    ):
        found = run.prepared.inputs[:, run.prepared.features.index(feature)]
        known = expected.reindex(order)
        present = known.notna().to_numpy()
        assert present.mean() > 0.9
        assert np.corrcoef(found[present], known[present])[0, 1] == pytest.approx(1, abs=1e-5)


def test_the_demo_without_vital_signs(open_data) -> None:
    dataset = read(spec(open_data / "mimic_iv_demo_2.2", vitals=False))
    assert np.asarray(dataset.inputs).shape == (117, len(dataset.features))
    assert not [name for name in dataset.features if name.startswith("heart_rate")]
