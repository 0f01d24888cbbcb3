"""eICU: the open demo, and small tables with every trap, whose numbers are worked out by hand."""

import csv
import gzip
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from hospital_tables import raw, values
from real_sources import refused, source

from tailrisk.datasets.contract import Dataset
from tailrisk.datasets.eicu import APS, CONDITIONS, OF_STAY, needs
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read

HEADERS = {
    "patient": "patientunitstayid,patienthealthsystemstayid,gender,age,ethnicity,hospitalid,wardid,apacheadmissiondx,"
    "admissionheight,hospitaladmittime24,hospitaladmitoffset,hospitaladmitsource,hospitaldischargeyear,"
    "hospitaldischargetime24,hospitaldischargeoffset,hospitaldischargelocation,hospitaldischargestatus,unittype,"
    "unitadmittime24,unitadmitsource,unitvisitnumber,unitstaytype,admissionweight,dischargeweight,unitdischargetime24,"
    "unitdischargeoffset,unitdischargelocation,unitdischargestatus,uniquepid",
    "apacheApsVar": "apacheapsvarid,patientunitstayid,intubated,vent,dialysis,eyes,motor,verbal,meds,urine,wbc,"
    "temperature,respiratoryrate,sodium,heartrate,meanbp,ph,hematocrit,creatinine,albumin,pao2,pco2,bun,glucose,"
    "bilirubin,fio2",
    "apachePredVar": "apachepredvarid,patientunitstayid,sicuday,saps3day1,saps3today,saps3yesterday,gender,teachtype,"
    "region,bedcount,admitsource,graftcount,meds,verbal,motor,eyes,age,admitdiagnosis,thrombolytics,diedinhospital,"
    "aids,hepaticfailure,lymphoma,metastaticcancer,leukemia,immunosuppression,cirrhosis,electivesurgery,activetx,"
    "readmit,ima,midur,ventday1,oobventday1,oobintubday1,diabetes,managementsystem,var03hspxlos,pao2,fio2,ejectfx,"
    "creatinine,dischargelocation,visitnumber,amilocation,day1meds,day1verbal,day1motor,day1eyes,day1pao2,day1fio2",
    "lab": "labid,patientunitstayid,labresultoffset,labtypeid,labname,labresult,labresulttext,labmeasurenamesystem,"
    "labmeasurenameinterface,labresultrevisedoffset",
    "hospital": "hospitalid,numbedscategory,teachingstatus,region",
}
OUTCOMES = {
    "patient": {
        "hospitaldischargeyear",
        "hospitaldischargetime24",
        "hospitaldischargeoffset",
        "hospitaldischargelocation",
        "hospitaldischargestatus",
        "dischargeweight",
        "unitdischargetime24",
        "unitdischargeoffset",
        "unitdischargelocation",
        "unitdischargestatus",
    },
    "apachePredVar": {"diedinhospital", "dischargelocation", "var03hspxlos"},
}
"""Columns that tell how a stay ended, or were filled when it had."""
STAY = 900001
LOW, HIGH = 100000, 100001
"""Two plain stays of known values: 1 below and 1 above the usual."""
USUAL = {"heartrate": 100, "sodium": 140, "temperature": 37}


def spec(folder: Path, **options):
    return source(source="eicu", path=str(folder), **options)


Tables = dict[str, list[dict[str, object]]]


def stay(made: Tables, number: int, who: str, aps: dict | None = None, pred: dict | None = None, **patient) -> None:
    """A stay of three days whose patient goes home alive, with rows of both tables of APACHE (none where None)."""
    usual = {"gender": "Female", "age": "60", "ethnicity": "Caucasian", "hospitalid": 59, "unittype": "MICU"}
    usual |= {"unitadmitsource": "Floor", "unitstaytype": "admit", "unitvisitnumber": 1, "hospitaladmitoffset": -120}
    usual |= {"admissionheight": 170, "admissionweight": 80, "unitdischargeoffset": 4320}
    usual |= {"unitdischargestatus": "Alive", "hospitaldischargestatus": "Alive"}
    made["patient"].append({"patientunitstayid": number, "uniquepid": who} | usual | patient)
    if aps is not None:
        made["apacheApsVar"].append({"patientunitstayid": number} | dict.fromkeys(APS, -1) | USUAL | aps)
    if pred is not None:
        made["apachePredVar"].append({"patientunitstayid": number} | dict.fromkeys(CONDITIONS, 0) | pred)


def lab(made: Tables, number: int, offset: int, name: str, result: object) -> None:
    made["lab"].append({"patientunitstayid": number, "labresultoffset": offset, "labname": name, "labresult": result})


def tables() -> Tables:
    """70 plain stays, every third of which ends in death, and the traps."""
    made: Tables = {name: [] for name in HEADERS}
    for number in range(70):
        change = -1 if number % 2 == 0 else 1
        aps = {name: usual + change for name, usual in USUAL.items()}
        outcome = {"hospitaldischargestatus": "Expired" if number % 3 == 0 else "Alive"}
        stay(made, LOW + number, f"002-{number}", aps, {"diabetes": number % 2}, age=str(30 + number // 2), **outcome)
        lab(made, LOW + number, 60, "lactate", 3 + change)
    # Two rows of one stay, partial, and values that are missing or cannot be.
    stay(made, STAY, "002-900", {"heartrate": -1, "sodium": 150, "temperature": 60, "wbc": 0}, {"diabetes": -1})
    made["apacheApsVar"].append({"patientunitstayid": STAY} | dict.fromkeys(APS, -1) | {"heartrate": 120, "sodium": 99})
    made["apachePredVar"].append({"patientunitstayid": STAY} | dict.fromkeys(CONDITIONS, 0) | {"diabetes": 1})
    stay(made, STAY + 1, "002-900", {}, age="> 89", gender="", ethnicity="Other/Unknown", hospitalid=60)
    stay(made, STAY + 2, "002-901", {}, {}, age="18", ethnicity="African American", admissionweight=0.5)
    for offset, result in ((-1, 9), (0, 1.5), (700, ""), (900, 500), (1439, 2.5), (1440, 8), (3000, 7)):
        lab(made, STAY, offset, "lactate", result)
    lab(made, STAY, 100, "lactate - CSF", 6)
    # What is left out.
    stay(made, STAY + 10, "002-910", {}, {}, hospitaldischargestatus="")
    stay(made, STAY + 11, "002-910", {}, {}, unitdischargestatus="Expired")
    stay(made, STAY + 12, "002-910", {}, {}, age="")
    stay(made, STAY + 13, "002-910", {}, {}, age="17")
    stay(made, STAY + 14, "002-910", None, {})
    stay(made, STAY + 15, "002-910", {}, {}, unitdischargeoffset=1439)
    stay(made, STAY + 16, "002-911", {}, {}, unitdischargeoffset=1440)
    stay(made, STAY + 17, "002-911", {}, {}, unitdischargeoffset="")
    made["hospital"] += [
        {"hospitalid": 59, "teachingstatus": "f", "region": "Midwest"},
        {"hospitalid": 60, "teachingstatus": "t", "region": ""},
    ]
    return made


def write(made: Tables, folder: Path) -> Path:
    for name, rows in made.items():
        with gzip.open(folder / f"{name}.csv.gz", "wt", newline="") as file:
            writer = csv.DictWriter(file, HEADERS[name].split(","), restval="")
            writer.writeheader()
            writer.writerows(rows)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write(tables(), tmp_path_factory.mktemp("eicu"))


@pytest.fixture(scope="module")
def dataset(folder) -> Dataset:
    return read(spec(folder))


def test_small_tables_go_all_the_way(folder, tmp_path) -> None:
    run = end_to_end(spec(folder), tmp_path)
    assert (run.card["rows"], run.card["n_records"], run.card["n_patients"]) == (81, 74, 73)
    assert run.card["excluded"] == {
        "age unknown": 1,
        "end of the stay unknown": 1,
        "no row in apacheApsVar": 1,
        "outcome contradictory: died in the unit, left the hospital alive": 1,
        "outcome unknown": 1,
        "stay shorter than 24 hours": 1,
        "younger than 18 years": 1,
    }
    assert run.reason(str(STAY + 11)).startswith("outcome contradictory")
    assert run.card["classes"] == {"left the hospital alive": 50, "died in hospital": 24}
    assert len(set(run.prepared.features)) == run.card["features"]
    assert run.records.loc[run.record(str(STAY)), "patient"] == "002-900"
    names = ["apacheApsVar", "apachePredVar", "hospital", "lab", "patient"]
    assert sorted(run.card["checksums"]) == [f"{name}.csv.gz" for name in names]


def test_values_of_apache(dataset) -> None:
    # The first known value of the stay's rows: -1 is none, 60 degrees cannot be.
    assert raw(dataset, "heartrate", STAY, {LOW: 99, HIGH: 101}) == pytest.approx(120, abs=1e-3)
    assert raw(dataset, "sodium", STAY, {LOW: 139, HIGH: 141}) == pytest.approx(150, abs=1e-3)
    assert raw(dataset, "temperature", STAY, {LOW: 36, HIGH: 38}) == pytest.approx(37, abs=1e-3)
    assert values(dataset, "temperature = missing", [STAY, STAY + 1]) == [1, 0]
    assert raw(dataset, "diabetes", STAY, {LOW: 0, HIGH: 1}) == pytest.approx(1, abs=1e-4)
    # No row of apachePredVar: the median.
    assert values(dataset, "diabetes = missing", [STAY + 1, STAY]) == [1, 0]
    # Never known in any stay: no feature.
    assert "wbc" not in dataset.features


def test_laboratory_values_are_those_of_the_first_day(dataset) -> None:
    found = [raw(dataset, f"lab_lactate_{name}", STAY, {LOW: 2, HIGH: 4}) for name in ("min", "mean", "max")]
    assert found == pytest.approx([1.5, 2, 2.5], abs=1e-4)
    assert values(dataset, "lab_lactate = missing", [STAY, STAY + 1]) == [0, 1]


def test_ages(dataset) -> None:
    known = {LOW: 30, LOW + 2: 31}
    assert raw(dataset, "years", STAY + 1, known) == pytest.approx(90, abs=1e-3)
    assert raw(dataset, "years", STAY + 2, known) == pytest.approx(18, abs=1e-3)


def test_groups(dataset) -> None:
    rows = pd.Index(dataset.record).get_indexer([str(STAY), str(STAY + 1), str(STAY + 2)])
    found = dataset.groups.iloc[rows].astype(object)
    found = found.where(found.notna(), None)
    assert found.to_dict("list") == {
        "sex": ["female", None, "female"],
        "ethnicity": ["White", None, "Black"],
        "age": ["60 to under 80", "80 and over", "0 to under 20"],
        "unit": ["MICU", "MICU", "MICU"],
        "region": ["Midwest", None, "Midwest"],
        "hospital": ["not teaching", "teaching", "not teaching"],
    }


def test_no_feature_tells_how_the_stay_ended(dataset, tmp_path) -> None:
    made = tables()
    left_out = {str(record) for record in dataset.excluded["record"]}
    for row in made["patient"]:
        if str(row["patientunitstayid"]) not in left_out:
            row.update(dict.fromkeys(OUTCOMES["patient"], str(9000 + int(row["patientunitstayid"]) % 7)))
            row.update(hospitaldischargestatus="Expired", unitdischargestatus="Expired")
    for row in made["apachePredVar"]:
        row.update(dict.fromkeys(OUTCOMES["apachePredVar"], str(int(row["patientunitstayid"]) % 2)))
    changed = read(spec(write(made, tmp_path)))
    assert changed.features == dataset.features
    assert np.array_equal(np.asarray(changed.inputs), np.asarray(dataset.inputs))
    assert changed.labels.all() and not dataset.labels.all()


def test_forbidden_columns_are_none_of_the_features(dataset) -> None:
    assert not OUTCOMES["apachePredVar"] & {*CONDITIONS, *APS}
    stems = {name.split(" = ")[0] for name in dataset.features}
    assert not stems & (OUTCOMES["patient"] | OUTCOMES["apachePredVar"])
    assert not [name for name in stems if "discharge" in name or "died" in name or "actual" in name]
    assert OUTCOMES["patient"] & set(OF_STAY) == {
        "unitdischargeoffset",  # for the length of the stay
        "unitdischargestatus",  # for contradictions
        "hospitaldischargestatus",  # the label
    }


def test_without_the_laboratory_and_the_hospitals(folder, tmp_path) -> None:
    for name in ("patient", "apacheApsVar", "apachePredVar"):
        shutil.copy(folder / f"{name}.csv.gz", tmp_path)
    found = read(spec(tmp_path, laboratory=False))
    assert not [name for name in found.features if name.startswith("lab_")]
    assert isinstance(found.inputs, np.ndarray)
    assert list(found.groups) == ["sex", "ethnicity", "age", "unit"]
    assert list(unmet(needs(spec(tmp_path, laboratory=False)))) == []
    assert list(unmet(needs(spec(tmp_path)))) == [f"{tmp_path}/lab.csv.gz does not exist"]
    refused(spec(tmp_path), f"the table {tmp_path}/lab.csv.gz does not exist")


def test_shorter_stays_on_request(folder) -> None:
    assert str(STAY + 15) in read(spec(folder, min_hours=12)).record


@pytest.mark.parametrize(
    ("table", "column", "value", "sentence"),
    [
        ("patient", "age", "old", "column 'age' is not a number in row 2"),
        ("patient", "uniquepid", "", "column 'uniquepid' is blank in row 2"),
        ("patient", "patientunitstayid", LOW, "column 'patientunitstayid' holds an id for the second time in row 2"),
        (
            "patient",
            "hospitaldischargestatus",
            "Dead",
            "'hospitaldischargestatus' is neither Alive nor Expired in row 2",
        ),
        ("apacheApsVar", "heartrate", "fast", "column 'heartrate' is not a number in row 2"),
        ("apachePredVar", "patientunitstayid", "x", "column 'patientunitstayid' is not a whole number in row 2"),
        ("hospital", "hospitalid", 59, "column 'hospitalid' holds an id for the second time in row 2"),
    ],
)
def test_bad_cells_are_refused(tmp_path, table, column, value, sentence) -> None:
    made = tables()
    made[table][1][column] = value
    refused(spec(write(made, tmp_path)), sentence)


def demo(open_data: Path, folder: Path) -> Path:
    """The demo; of its table lab, only the rows of 169 stays are at hand."""
    folder.mkdir()
    for name in ("patient", "apacheApsVar", "apachePredVar", "hospital"):
        shutil.copy(open_data / "eicu_demo_2.0" / f"{name}.csv.gz", folder)
    shutil.copy(open_data / "eicu_demo_2.0" / "lab_169stays.csv.gz", folder / "lab.csv.gz")
    return folder


def test_the_demo(open_data, tmp_path) -> None:
    folder = demo(open_data, tmp_path / "demo")
    run = end_to_end(spec(folder), tmp_path)
    assert (run.card["rows"], run.card["n_records"], run.card["n_patients"]) == (2520, 1468, 1247)
    assert run.card["excluded"]["outcome unknown"] == 28
    stays = pd.read_csv(folder / "patient.csv.gz", dtype=str).set_index("patientunitstayid")
    stays = stays.loc[run.records["record"]]
    assert run.prepared.labels.tolist() == (stays["hospitaldischargestatus"] == "Expired").astype(int).tolist()
    assert run.records["patient"].tolist() == stays["uniquepid"].tolist()
    assert (run.groups["age"] == "80 and over").sum() == sum(
        age == "> 89" or (age.isdigit() and int(age) >= 80) for age in stays["age"]
    )
    worst = pd.read_csv(folder / "apacheApsVar.csv.gz").set_index("patientunitstayid")["heartrate"]
    worst = worst.loc[run.records["record"].astype(int)].to_numpy()
    found = run.prepared.inputs[:, run.prepared.features.index("heartrate")]
    assert np.corrcoef(found[worst > 0], worst[worst > 0])[0, 1] == pytest.approx(1, abs=1e-5)
    results = pd.read_csv(folder / "lab.csv.gz")
    results = results[(results["labname"] == "potassium") & results["labresultoffset"].between(0, 1439)]
    mean = results.groupby("patientunitstayid")["labresult"].mean().reindex(run.records["record"].astype(int))
    known = mean.notna().to_numpy()
    assert (
        known.sum() == (run.prepared.inputs[:, run.prepared.features.index("lab_potassium = missing")] == 0).sum() > 50
    )
    found = run.prepared.inputs[known, run.prepared.features.index("lab_potassium_mean")]
    assert np.corrcoef(found, mean[known])[0, 1] == pytest.approx(1, abs=1e-5)
