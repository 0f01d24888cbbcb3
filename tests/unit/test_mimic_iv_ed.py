"""MIMIC-IV-ED: the open demo, and a small release with every trap, whose numbers are worked out by hand."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from hospital_tables import Release, raw, values
from real_sources import refused, source

from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.mimic_iv_ed import FEATURES, celsius, needs, pain
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read

SUBJECT = 20000001
STAY = 30000001
"""The stay that the traps are laid around: it begins on 2150-06-15 at 12:00 and leads to the admission 501."""


def spec(folder: Path, **options):
    return source(source="mimic_iv_ed", path=str(folder), mimic_iv=str(folder), **options)


def release() -> Release:
    """70 patients of one or two plain stays, every second of which leads to an admission, and the traps."""
    made = Release()
    for number in range(70):
        subject = 10000001 + number
        made.person(subject, sex="FM"[number % 2], age=20 + number, year=2150)
        for visit in range(1 + number % 2):
            stay, begin = 39000001 + 2 * number + visit, f"2150-03-{1 + visit:02d} 10:00:00"
            hadm = 29000001 + 2 * number + visit if (number // 2 + visit) % 2 else ""
            if hadm:
                made.admission(subject, hadm, f"2150-03-{1 + visit:02d} 20:00:00", "2150-03-20 10:00:00")
            made.emergency(subject, stay, begin, hadm=hadm, heartrate=60 + number, acuity=1 + number % 5)
    for subject in (SUBJECT, SUBJECT + 1):
        made.person(subject)
    traps_in_time(made)
    traps_at_triage(made)
    traps_in_cohort(made)
    for itemised in ("icu/icustays", "hosp/diagnoses_icd"):
        assert made.rows[itemised]
    return made


def traps_in_time(made: Release) -> None:
    """Earlier, simultaneous and later stays of one patient, and their diagnoses."""
    made.emergency(SUBJECT, STAY, "2150-06-15 12:00:00", hadm=501)
    made.emergency(SUBJECT, STAY + 1, "2150-05-16 12:00:00")  # 30 days before to the second: within 30 days
    made.emergency(SUBJECT, STAY + 2, "2150-05-16 11:59:59")  # a second more: within 90 days only
    made.emergency(SUBJECT, STAY + 3, "2150-06-15 12:00:00")  # at the same time: not before
    made.emergency(SUBJECT, STAY + 4, "2150-06-16 12:00:00")  # later
    made.emergency(SUBJECT + 1, STAY + 5, "2150-06-14 12:00:00")  # of someone else
    # The stay's own admission, recorded as begun before the stay, would tell that it led to one.
    made.admission(SUBJECT, 501, "2150-06-15 00:02:00", "2150-06-20 10:00:00", insurance="Medicaid")
    made.admission(SUBJECT, 502, "2150-03-01 10:00:00", "2150-03-05 10:00:00")  # 106 days before
    made.admission(SUBJECT, 503, "2150-07-01 10:00:00", "2150-07-05 10:00:00")  # later
    made.admission(SUBJECT, 504, "2140-01-01 10:00:00", "2140-01-05 10:00:00")  # ten years before
    made.admission(SUBJECT, 505, "2150-06-10 10:00:00", "2150-06-15 12:00:01")  # ended after the stay began
    made.admission(SUBJECT + 1, 506, "2150-01-01 10:00:00", "2150-01-05 10:00:00")
    for hadm, code, version in (
        (501, "4280", 9),  # own: heart failure
        (502, "2500", 9),  # earlier: diabetes, ICD-9 of five years before
        (502, "C509", 10),  # earlier: cancer
        (503, "I21", 10),  # later: infarction
        (504, "E66", 10),  # too long ago: obesity
        (505, "J44", 10),  # not yet ended: lung disease
        (506, "B20", 10),  # someone else's: HIV
    ):
        subject = SUBJECT + 1 if hadm == 506 else SUBJECT
        made.add("hosp/diagnoses_icd", subject_id=subject, hadm_id=hadm, seq_num=1, icd_code=code, icd_version=version)
    for stay, hadm, begin in ((41, 502, "2150-03-02 10:00:00"), (42, 502, "2150-03-03 10:00:00")):
        made.add("icu/icustays", subject_id=SUBJECT, hadm_id=hadm, stay_id=stay, intime=begin, outtime=begin)
    made.add("icu/icustays", subject_id=SUBJECT, hadm_id=501, stay_id=43, intime="2150-06-15 11:00:00")  # own


def traps_at_triage(made: Release) -> None:
    made.person(SUBJECT + 2)
    at = "2151-01-01 10:00:00"
    other = {"temperature": 36.5, "o2sat": 120, "dbp": 879, "heartrate": "", "pain": "uta", "race": "UNKNOWN"}
    made.emergency(SUBJECT + 2, STAY + 10, at, chiefcomplaint="ABD PAIN, Nausea", **other)
    other = {"temperature": 97.7, "o2sat": 100, "dbp": 70, "pain": "7/10", "race": "BLACK/CAPE VERDEAN"}
    made.emergency(SUBJECT + 2, STAY + 11, at, chiefcomplaint="shortness of breath; Chest Pain", **other)
    made.emergency(
        SUBJECT + 2, STAY + 12, at, temperature=7.2, pain="13", sbp=375, chiefcomplaint="", race="PORTUGUESE"
    )


def traps_in_cohort(made: Release) -> None:
    made.person(SUBJECT + 3, age=17, year=2150)
    made.emergency(SUBJECT + 3, STAY + 20, "2150-12-31 10:00:00")  # 17
    made.emergency(SUBJECT + 3, STAY + 21, "2151-01-01 10:00:00")  # 18 in the next year
    made.emergency(SUBJECT + 3, STAY + 22, "2152-01-01 10:00:00", acuity="")
    made.emergency(SUBJECT + 4, STAY + 23, "2150-01-01 10:00:00")  # not in hosp/patients
    made.emergency(SUBJECT + 3, STAY + 24, "2152-01-01 10:00:00")
    made.rows["ed/triage"].pop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return release().write(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def dataset(folder) -> Dataset:
    return read(spec(folder))


def group(dataset: Dataset, name: str, stay: int) -> object:
    return dataset.groups.loc[pd.Index(dataset.record).get_loc(str(stay)), name]


def test_a_small_release_goes_all_the_way(folder, tmp_path) -> None:
    run = end_to_end(spec(folder), tmp_path)
    # 105 plain stays, 6 around the patient of the traps, 3 at triage, and 5 of which 4 are left out.
    assert (run.card["rows"], run.card["n_records"], run.card["n_patients"]) == (119, 115, 74)
    assert run.card["excluded"] == {
        "no row in triage": 1,
        "no triage acuity": 1,
        "patient not in hosp/patients of MIMIC-IV": 1,
        "younger than 18 years": 1,
    }
    assert run.reason(str(STAY + 20)) == "younger than 18 years"
    assert run.record(str(STAY + 21)) >= 0
    # 34 first and 18 second visits lead to an admission, and that of the traps.
    assert run.card["classes"] == {"not hospitalised": 62, "hospitalised": 53}
    assert run.prepared.features == FEATURES
    assert sorted(run.card["checksums"]) == [
        "ed/edstays.csv.gz",
        "ed/triage.csv.gz",
        "hosp/admissions.csv.gz",
        "hosp/diagnoses_icd.csv.gz",
        "hosp/patients.csv.gz",
        "icu/icustays.csv.gz",
    ]


def test_the_features_are_the_64_of_the_benchmark() -> None:
    assert len(set(FEATURES)) == len(FEATURES) == 64
    assert FEATURES[:11] == [
        "age",
        "gender",
        "n_ed_30d",
        "n_ed_90d",
        "n_ed_365d",
        "n_hosp_30d",
        "n_hosp_90d",
        "n_hosp_365d",
        "n_icu_30d",
        "n_icu_90d",
        "n_icu_365d",
    ]
    assert {"triage_heartrate", "triage_pain", "chiefcom_chest_pain", "cci_Cancer1", "eci_Obesity"} < set(FEATURES)
    # What is known only after triage, or is the outcome.
    assert not [name for name in FEATURES if "disposition" in name or "outtime" in name or "hadm" in name]


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("n_ed_30d", 1),
        ("n_ed_90d", 2),
        ("n_ed_365d", 2),
        ("n_hosp_30d", 1),  # 505; not the stay's own, begun 12 hours before it
        ("n_hosp_90d", 1),
        ("n_hosp_365d", 2),  # and 502
        ("n_icu_30d", 0),  # the own one began an hour before
        ("n_icu_90d", 0),
        ("n_icu_365d", 2),
    ],
)
def test_earlier_stays_are_counted_and_no_later_ones(feature, expected) -> None:
    made = release()
    # Two patients whose numbers of stays before are 0 and 1 by construction.
    made.person(SUBJECT + 8)
    for number, day in enumerate(("01", "03")):
        made.emergency(SUBJECT + 8, STAY + 80 + number, f"2155-01-{day} 10:00:00")
    made.admission(SUBJECT + 8, 801, "2155-01-02 10:00:00", "2155-01-02 20:00:00")
    made.add("icu/icustays", subject_id=SUBJECT + 8, hadm_id=801, stay_id=81, intime="2155-01-02 11:00:00")
    found = read_release(made)
    assert raw(found, feature, STAY, {STAY + 80: 0, STAY + 81: 1}) == pytest.approx(expected, abs=1e-4)


def read_release(made: Release, **options) -> Dataset:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return read(spec(made.write(Path(folder)), **options))


def diagnosed(dataset: Dataset, stay: int) -> set[str]:
    """Comorbidities of a stay: the standardised value of an indicator is positive where it is 1."""
    return {name for name in FEATURES if name[:4] in {"cci_", "eci_"} and values(dataset, name, [stay])[0] > 0}


def test_only_diagnoses_of_ended_admissions_count(dataset) -> None:
    assert diagnosed(dataset, STAY) == {"cci_DM1", "cci_Cancer1"}
    # The day after, the admission 505 has ended; its own 501 is of the other stay, and has not.
    assert diagnosed(dataset, STAY + 4) == {"cci_DM1", "cci_Cancer1", "cci_Pulmonary"}
    assert diagnosed(dataset, STAY + 5) == {"cci_HIV"}
    assert diagnosed(dataset, STAY + 10) == set()
    assert (group(dataset, "cancer", STAY), group(dataset, "obesity", STAY)) == (
        "diagnosed before",
        "not diagnosed before",
    )


def test_history_is_as_long_as_stated(folder) -> None:
    assert "eci_Obesity" in diagnosed(read(spec(folder, history=4000)), STAY)
    assert diagnosed(read(spec(folder, history=30)), STAY) == set()


def test_own_admission_that_ended_before_the_stay_tells_nothing() -> None:
    made = release()
    for row in made.rows["hosp/admissions"]:
        if row["hadm_id"] == 501:
            row["dischtime"] = "2150-06-15 10:00:00"
    assert "cci_CHF" not in diagnosed(read_release(made), STAY)


def test_values_at_triage(dataset) -> None:
    # 36.5 is in degrees Celsius already, 97.7 Fahrenheit is the same; 7.2 is neither, and becomes the median, 98.6.
    same = values(dataset, "triage_temperature", [STAY + 10, STAY + 11])
    assert same[0] == pytest.approx(same[1], abs=1e-4)
    assert values(dataset, "triage_temperature", [STAY + 12]) == values(dataset, "triage_temperature", [STAY])
    known = {STAY + 11: 36.5, STAY: 37.0}
    assert raw(dataset, "triage_temperature", STAY + 12, known) == pytest.approx(37.0)
    # 120 % oxygen is taken as 100; a pressure of 879 is missing, so the median.
    assert len(set(values(dataset, "triage_o2sat", [STAY + 10, STAY + 11]))) == 1
    assert len(set(values(dataset, "triage_dbp", [STAY, STAY + 10, STAY + 11]))) == 1
    assert values(dataset, "triage_sbp", [STAY + 12])[0] > 0
    # Pain of 7/10 is 7; "uta" and 13 are missing, so the median, 0.
    assert len(set(values(dataset, "triage_pain", [STAY, STAY + 10, STAY + 12]))) == 1
    assert values(dataset, "triage_pain", [STAY + 11])[0] > 5


def test_complaints(dataset) -> None:
    said = {
        stay: {name[9:] for name in FEATURES if name.startswith("chiefcom_") and values(dataset, name, [stay])[0] > 0}
        for stay in (STAY + 10, STAY + 11, STAY + 12)
    }
    assert list(said.values()) == [{"abdominal_pain", "nausea_vomiting"}, {"chest_pain", "shortness_of_breath"}, set()]


def test_pain_is_read_from_text() -> None:
    said = ["8", "7/10", "5-6", "7 - 9", "10", "uta", "13", "o", None, "-1", "6.5", "3 at rest", "UA 4", "4uta", ""]
    expected = [8, 7, 5.5, 8, 10, None, 13, None, None, None, 6.5, 3, None, None, None]
    np.testing.assert_array_equal(pain(pd.Series(said)).to_numpy(), np.array(expected, dtype=float))


def test_temperatures_are_told_apart() -> None:
    found = celsius(pd.Series([98.6, 36.5, 26.0, 45.0, 104.0, np.nan]))
    np.testing.assert_allclose(found, [37.0, 36.5, 26.0, 45.0, 40.0, np.nan])


def test_groups(dataset) -> None:
    # Race is that of the stay; what was not learned is missing.
    assert [group(dataset, "race", stay) for stay in (STAY, STAY + 11, STAY + 12)] == ["White", "Black", "other"]
    assert pd.isna(group(dataset, "race", STAY + 10))
    # The stay's own admission, though begun later than others; else the last one that had begun; else unknown.
    assert group(dataset, "insurance", STAY) == "Medicaid"
    assert group(dataset, "insurance", STAY + 4) == "Medicaid"
    assert group(dataset, "insurance", STAY + 1) == "other"
    assert pd.isna(group(dataset, "insurance", STAY + 10))
    assert group(dataset, "age", STAY + 21) == "0 to under 20"
    assert set(dataset.groups["arrival"]) == {"walk in"}


def test_ids_that_were_saved_as_floating_point_numbers(folder, tmp_path) -> None:
    for path in folder.rglob("*.csv.gz"):
        table = pd.read_csv(path, dtype=str)
        if "hadm_id" in table:
            table["hadm_id"] = table["hadm_id"] + ".0"
        (tmp_path / path.parent.name).mkdir(exist_ok=True)
        table.to_csv(tmp_path / path.parent.name / path.name.removesuffix(".gz"), index=False)
    found, expected = read(spec(tmp_path)), read(spec(folder))
    assert np.array_equal(found.inputs, expected.inputs)
    assert np.array_equal(found.labels, expected.labels)
    assert "ed/edstays.csv" in found.checksums  # not compressed either


def change(folder: Path, table: str, row: int, column: str, value: str) -> Path:
    """Set one cell of a table; rows are counted from 1 without the header."""
    path = folder / f"{table}.csv.gz"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[row - 1, column] = value
    frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "sentence"),
    [
        (
            "ed/edstays",
            3,
            "intime",
            "soon",
            "column 'intime' is not a date and time such as 2150-01-31 08:00:00 in row 3",
        ),
        ("ed/edstays", 3, "stay_id", "39000001", "column 'stay_id' holds an id for the second time in row 3"),
        ("ed/edstays", 3, "subject_id", "", "column 'subject_id' is blank in row 3"),
        ("ed/edstays", 3, "hadm_id", "12x", "column 'hadm_id' is not a whole number in row 3"),
        ("ed/triage", 2, "stay_id", "39000001", "column 'stay_id' holds an id for the second time in row 2"),
        ("ed/triage", 2, "heartrate", "fast", "column 'heartrate' is not a number in row 2"),
        ("hosp/patients", 2, "subject_id", "10000001", "column 'subject_id' holds an id for the second time in row 2"),
        ("hosp/admissions", 2, "hadm_id", "29000004", "column 'hadm_id' holds an id for the second time in row 2"),
        ("hosp/diagnoses_icd", 4, "icd_version", "11", "column 'icd_version' is neither 9 nor 10 in row 4"),
    ],
)
def test_bad_cells_are_refused(tmp_path, table, row, column, value, sentence) -> None:
    path = change(release().write(tmp_path), table, row, column, value)
    refused(spec(tmp_path), f"{path}: {sentence}")


def test_what_lacks_is_told_before_anything_is_read(folder, tmp_path) -> None:
    assert list(unmet(needs(spec(folder)))) == []
    made = release()
    made.write(tmp_path, [name for name in made.rows if name not in {"ed/triage", "icu/icustays"}])
    (tmp_path / "hosp" / "patients.csv.gz").write_bytes(gzip.compress(b"subject_id,gender,anchor_age\n1,F,20\n"))
    assert list(unmet(needs(spec(tmp_path)))) == [
        f"{tmp_path}/ed/triage.csv.gz does not exist",
        f"{tmp_path}/hosp/patients.csv.gz has no column 'anchor_year'; did you mean 'anchor_age'?",
        f"{tmp_path}/icu/icustays.csv.gz does not exist",
    ]
    refused(spec(tmp_path), f"the table {tmp_path}/ed/triage.csv.gz does not exist")


def test_the_demo(open_data, tmp_path) -> None:
    """222 stays of 64 patients; the 15 without an acuity were counted in the table."""
    demo = source(
        source="mimic_iv_ed",
        path=str(open_data / "mimic_iv_ed_demo_2.2"),
        mimic_iv=str(open_data / "mimic_iv_demo_2.2"),
        test=0.25,
        validation=0.2,
    )
    run = end_to_end(demo, tmp_path)
    assert (run.card["rows"], run.card["n_records"], run.card["excluded"]) == (222, 207, {"no triage acuity": 15})
    stays = pd.read_csv(open_data / "mimic_iv_ed_demo_2.2/ed/edstays.csv.gz", dtype=str).set_index("stay_id")
    stays = stays.loc[run.records["record"]]
    assert run.records["patient"].tolist() == stays["subject_id"].tolist()
    assert run.prepared.labels.tolist() == stays["hadm_id"].notna().astype(int).tolist()
    assert (run.groups["race"] == "Black").tolist() == stays["race"].str.startswith("BLACK").tolist()
    assert run.card["patients_with_several_records"] == (stays["subject_id"].value_counts() > 1).sum()


def test_earlier_stays_of_the_demo(open_data) -> None:
    """Counted again by a loop over the stays."""
    demo = source(
        source="mimic_iv_ed",
        path=str(open_data / "mimic_iv_ed_demo_2.2"),
        mimic_iv=str(open_data / "mimic_iv_demo_2.2"),
    )
    dataset = read(demo)
    stays = pd.read_csv(open_data / "mimic_iv_ed_demo_2.2/ed/edstays.csv.gz", parse_dates=["intime"])
    admissions = pd.read_csv(open_data / "mimic_iv_demo_2.2/hosp/admissions.csv.gz", parse_dates=["admittime"])
    icu = pd.read_csv(open_data / "mimic_iv_demo_2.2/icu/icustays.csv.gz", parse_dates=["intime"])
    kept = stays[stays["stay_id"].astype(str).isin(dataset.record)]
    for name, events, begin in (("ed", stays, "intime"), ("hosp", admissions, "admittime"), ("icu", icu, "intime")):
        counts = []
        for stay in kept.itertuples():
            days = (stay.intime - events.loc[events["subject_id"] == stay.subject_id, begin]).dt.total_seconds() / 86400
            own = events.loc[days.index, "hadm_id"] == stay.hadm_id if name != "ed" else False
            counts.append(int(((days > 0) & (days <= 90) & ~np.asarray(own, dtype=bool)).sum()))
        found = np.asarray(dataset.inputs)[:, FEATURES.index(f"n_{name}_90d")]
        assert np.corrcoef(found, counts)[0, 1] == pytest.approx(1, abs=1e-5)
