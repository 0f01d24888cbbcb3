"""MIMIC-IV-ED: 425,087 emergency stays with the 64 features of Xie et al. (Scientific Data 2022).

Who is hospitalised, from what is known at triage: age, sex, earlier stays, vital signs, the chief complaint, and
comorbidities from the diagnoses of earlier admissions.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from tailrisk.config.sources import MimicIvEd
from tailrisk.datasets.columns import by_value, ids, numbers, times, unique_ids
from tailrisk.datasets.comorbidities import COMORBIDITIES, comorbidities
from tailrisk.datasets.contract import Dataset, excluded
from tailrisk.datasets.encode import standardised
from tailrisk.datasets.labels import age_bands, refuse
from tailrisk.datasets.mimic_iv_patients import SEX, Part, admissions, age, latest, located, part, patients, race
from tailrisk.datasets.mimic_iv_patients import needs as patients_needs
from tailrisk.datasets.needs import Need
from tailrisk.datasets.timeline import Timeline

STAYS = ("subject_id", "stay_id", "intime")
STAYS_OPTIONAL = ("hadm_id", "gender", "race", "arrival_transport")
RANGES = {
    "temperature": (14.2, 26.0, 45.0, 47.0),
    "heartrate": (0, 0, 350, 390),
    "resprate": (0, 0, 300, 330),
    "o2sat": (0, 0, 100, 150),
    "sbp": (0, 0, 375, 375),
    "dbp": (0, 0, 375, 375),
    "pain": (0, 0, 10, 10),
    "acuity": (1, 1, 5, 5),
}
"""Of every value at triage: below the first and above the last it is missing; between, it is moved to the inner two."""
COMPLAINTS = {
    "chest_pain": "chest pain",
    "abdominal_pain": "abdominal pain|abd pain",
    "headache": "headache|lightheaded",
    "shortness_of_breath": "breath",
    "back_pain": "back pain",
    "cough": "cough",
    "nausea_vomiting": "nausea|vomit",
    "fever_chills": "fever|chill",
    "syncope": "syncope",
    "dizziness": "dizz",
}
"""Words in the free text of the chief complaint, whatever their case."""
WINDOWS = (30, 90, 365)
TRIAGE = ("subject_id", *RANGES, "chiefcomplaint")
ICU = ("subject_id", "hadm_id", "intime")
DIAGNOSES = ("hadm_id", "icd_code", "icd_version")
ADULT = 18
LEFT_OUT = ("patient not in hosp/patients of MIMIC-IV", "younger than 18 years", "no row in triage", "no triage acuity")


def needs(spec: MimicIvEd) -> list[Need]:
    """Two tables of MIMIC-IV-ED and four of MIMIC-IV."""
    folder, hospital = Path(spec.path), Path(spec.mimic_iv)
    return [
        Need(located(folder, "ed/edstays"), (*STAYS, *STAYS_OPTIONAL)),
        Need(located(folder, "ed/triage"), ("stay_id", *TRIAGE)),
        *patients_needs(hospital),
        Need(located(hospital, "hosp/diagnoses_icd"), DIAGNOSES),
        Need(located(hospital, "icu/icustays"), ICU),
    ]


def read(spec: MimicIvEd) -> Dataset:
    """Stays of adults with a triage acuity; hospitalised are those with an admission (hadm_id), as in the benchmark.

    Earlier stays and diagnoses end strictly before a stay begins, and the admission that it led to is none of them.
    """
    folder, hospital = Path(spec.path), Path(spec.mimic_iv)
    stays, triage = _stays(folder), _triage(folder)
    people, admitted = patients(hospital), admissions(hospital)
    table = stays.table.assign(age=age(stays.table["subject_id"], stays.table["intime"], people.table))
    row = triage.table.index.get_indexer(pd.Index(table["stay_id"]))
    values = triage.table.iloc[row].reset_index(drop=True)
    reason = np.select(
        [
            table["age"].isna(),
            table["age"] < ADULT,
            row < 0,
            values["acuity"].isna(),
        ],
        LEFT_OUT,
        "",
    )
    history = _earlier_stays(table, admitted.table, icu := _icu_stays(hospital))
    diagnosed, checksums = _earlier_diagnoses(table, admitted.table, hospital, spec.history)
    features = pd.concat([_triage_features(table, values), history, diagnosed], axis=1)[FEATURES]
    kept = reason == ""
    features, cohort = features[kept], table[kept].reset_index(drop=True)
    inputs, _ = standardised(features.fillna(features.median()).to_numpy(float))
    return Dataset(
        title="MIMIC-IV-ED",
        task="binary",
        classes=["not hospitalised", "hospitalised"],
        record=cohort["stay_id"].to_numpy(object),
        patient=cohort["subject_id"].to_numpy(object),
        inputs=inputs,
        labels=cohort["hadm_id"].notna().to_numpy(np.int64),
        groups=_groups(cohort, features, admitted.table, stays.path),
        features=FEATURES,
        licence=spec.terms,
        preprocessing="Vital signs outside what is possible missing or moved to it, as in the benchmark; temperatures "
        "in degrees Celsius, whichever they were stated in; missing values the median of all records; all features "
        "standardised over all records (the paper leaves them raw).",
        where=str(stays.path),
        checksums=stays.checksums
        | triage.checksums
        | people.checksums
        | admitted.checksums
        | icu.checksums
        | checksums,
        excluded=excluded(table["stay_id"][~kept], reason[~kept]),
        expected={"rows": 425_087, "records": 418_007, "patients": 201_213, "class hospitalised": 197_774},
    )


def _stays(folder: Path) -> Part:
    stays = part(folder, "ed/edstays", STAYS, STAYS_OPTIONAL)
    table = stays.table.assign(
        subject_id=ids(stays.path, stays.table, "subject_id"),
        stay_id=unique_ids(stays.path, stays.table, "stay_id"),
        hadm_id=ids(stays.path, stays.table, "hadm_id"),
        intime=times(stays.path, stays.table, "intime"),
    )
    return Part(table, stays.path, stays.checksums)


def _triage(folder: Path) -> Part:
    """Values at triage by stay_id, those that cannot be missing, and the chief complaint as it is."""
    triage = part(folder, "ed/triage", ("stay_id",), TRIAGE[1:])
    columns = {name: numbers(triage.path, triage.table, name) for name in RANGES if name != "pain"}
    columns["pain"] = by_value(triage.table["pain"], pain)
    columns["temperature"] = celsius(columns["temperature"])
    for name, (least, low, high, most) in RANGES.items():
        column = columns[name]
        columns[name] = column.where(column.between(least, most)).clip(low, high)
    table = pd.DataFrame(columns | {"chiefcomplaint": triage.table["chiefcomplaint"]})
    table.index = pd.Index(unique_ids(triage.path, triage.table, "stay_id"))
    return Part(table, triage.path, triage.checksums)


def pain(column: pd.Series) -> pd.Series:
    """The number that the free text on pain begins with ("7/10" is 7), the middle of a range ("5-6"), else missing."""
    parts = column.str.extract(r"^\s*(\d+(?:\.\d+)?)(?:\s*-\s*(\d+))?(?![\w.])").astype(float)
    return parts.mean(axis=1)


def celsius(column: pd.Series) -> pd.Series:
    """Temperatures in degrees Celsius: most are stated in Fahrenheit, in which 26 to 45 would be around freezing."""
    _, low, high, _ = RANGES["temperature"]
    return column.where(column.between(low, high), (column - 32) * 5 / 9)


def _triage_features(table: pd.DataFrame, values: pd.DataFrame) -> pd.DataFrame:
    complaint = values["chiefcomplaint"].fillna("")
    said = {
        f"chiefcom_{name}": complaint.str.contains(words, case=False, regex=True) for name, words in COMPLAINTS.items()
    }
    return pd.DataFrame(
        {"age": table["age"], "gender": table["gender"].map({"F": 0.0, "M": 1.0})}
        | {f"triage_{name}": values[name] for name in RANGES}
        | said
    ).astype(float)


def _icu_stays(hospital: Path) -> Part:
    icu = part(hospital, "icu/icustays", ICU)
    table = pd.DataFrame({name: ids(icu.path, icu.table, name) for name in ICU[:2]})
    return Part(table.assign(intime=times(icu.path, icu.table, "intime")), icu.path, icu.checksums)


def _earlier_stays(table: pd.DataFrame, admitted: pd.DataFrame, icu: Part) -> pd.DataFrame:
    """Numbers of emergency, hospital and ICU stays that began in the `WINDOWS` of days before each stay.

    Where the stay's own admission is on record as begun before the stay, it tells the label, and does not count.
    """
    columns = {}
    for name, events, begin in (("ed", table, "intime"), ("hosp", admitted, "admittime"), ("icu", icu.table, "intime")):
        of_person = Timeline(events["subject_id"], events[begin])
        moments = of_person.moments(table["subject_id"], table["intime"])
        of_admission = Timeline(events["hadm_id"], events[begin])
        own = of_admission.moments(table["hadm_id"], table["intime"])
        for days in WINDOWS:
            low, high = of_person.before(moments, days)
            low_own, high_own = of_admission.before(own, days)
            count = high - low if name == "ed" else (high - low) - (high_own - low_own)
            columns[f"n_{name}_{days}d"] = count.astype(float)
    return pd.DataFrame(columns)


def _earlier_diagnoses(
    table: pd.DataFrame, admitted: pd.DataFrame, hospital: Path, days: int
) -> tuple[pd.DataFrame, dict[str, str]]:
    """Comorbidities [N, 35] as 0 and 1, of the diagnoses of admissions that ended in the `days` before each stay."""
    diagnoses = part(hospital, "hosp/diagnoses_icd", DIAGNOSES)
    coded = diagnoses.table
    # 4.8 million rows, but less than 30,000 codes of less than half a million admissions.
    which = coded.groupby(["icd_code", "icd_version"], sort=False).ngroup().to_numpy()
    codes = coded.drop_duplicates(["icd_code", "icd_version"])
    known = codes["icd_version"].isin(["9", "10"]).to_numpy(bool)
    refuse(diagnoses.path, pd.Series(~known[which]), "column 'icd_version' is neither 9 nor 10")
    of_code = comorbidities(codes["icd_code"], codes["icd_version"])
    row = pd.Index(admitted["hadm_id"]).get_indexer(pd.Index(ids(diagnoses.path, coded, "hadm_id")))
    of_admission = np.zeros((len(admitted) + 1, len(COMORBIDITIES)), dtype=bool)  # the last is of unknown admissions
    for number in range(len(COMORBIDITIES)):
        of_admission[row[of_code[which, number]], number] = True
    found = np.zeros((len(table), len(COMORBIDITIES)), dtype=np.int32)
    for ids_of, sign in (("subject_id", 1), ("hadm_id", -1)):  # all of the person, less those of this very stay
        timeline = Timeline(admitted[ids_of], admitted["dischtime"])
        low, high = timeline.before(timeline.moments(table[ids_of], table["intime"]), days)
        total = np.zeros((len(timeline.order) + 1, len(COMORBIDITIES)), dtype=np.int32)
        np.cumsum(of_admission[timeline.order], axis=0, out=total[1:])
        found += sign * (total[high] - total[low])
    return pd.DataFrame((found > 0).astype(float), columns=COMORBIDITIES), diagnoses.checksums


def _groups(cohort: pd.DataFrame, features: pd.DataFrame, admitted: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Race is that stated at the stay; insurance that of its admission, else of the last one that began before it."""
    insured = admitted.set_index("hadm_id")["insurance"].reindex(cohort["hadm_id"]).reset_index(drop=True)
    before = latest(admitted, cohort["subject_id"], cohort["intime"], "insurance")
    arrival = cohort["arrival_transport"].where(cohort["arrival_transport"] != "UNKNOWN").str.lower()
    earlier = {
        name: np.where(features[of] == 1, "diagnosed before", "not diagnosed before")
        for name, of in (("cancer", "cci_Cancer1"), ("obesity", "eci_Obesity"))
    }
    return pd.DataFrame(
        {
            "race": by_value(cohort["race"], race),
            "sex": cohort["gender"].map(SEX),
            "age": age_bands(path, cohort, "age"),
            "insurance": insured.where(insured.notna(), before),
            "arrival": arrival,
            **earlier,
        }
    )


FEATURES = [
    "age",
    "gender",
    *(f"n_{kind}_{days}d" for kind in ("ed", "hosp", "icu") for days in WINDOWS),
    *(f"triage_{name}" for name in RANGES),
    *(f"chiefcom_{name}" for name in COMPLAINTS),
    *COMORBIDITIES,
]
"""The 64 features, by the names and in the order of the benchmark."""
