"""Folders of CheXpert, MIMIC-CXR-JPG and PadChest as downloaded, with generated pixels and the traps of the sources."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

OBSERVATIONS = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
"""In the order of CheXpert's header."""
PERSONAL = ["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA"]
RACES = [
    ("White, non-Hispanic", "Non-Hispanic/Non-Latino"),
    ("Black or African American", "Non-Hispanic/Non-Latino"),
    ("Asian", "Non-Hispanic/Non-Latino"),
    ("Other, Hispanic", "Hispanic/Latino"),
]


def noise(file: Path, number: int, deep: bool = False) -> None:
    """An image of 40 × 32 random pixels, of 16 bits where it is deep."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 256, (32, 40))
    Image.fromarray(pixels.astype(np.uint16) * 257 if deep else pixels.astype(np.uint8)).save(file)


def pattern(number: int) -> list[str]:
    """Every third label positive, the next one negative, the third not mentioned; which is which goes by number."""
    return [("1.0", "0.0", "")[(number + place) % 3] for place in range(14)]


def spelt(labels: dict[str, str]) -> list[str]:
    """Labels in the order of the header, blank where not given."""
    return [labels.get(name, "") for name in OBSERVATIONS]


def chexpert_folder(root: Path, prefix: str = "CheXpert-v1.0-small", patients: int = 60) -> Path:
    """train.csv with 6 images of patients 1 to 4 and 80 of 60 others (every third has a lateral), valid.csv with 6."""
    train = [
        ("patient00001/study1/view1_frontal", "Female", "68", "AP", {"No Finding": "1.0", "Support Devices": "1.0"}),
        (
            "patient00002/study2/view1_frontal",
            "Female",
            "87",
            "AP",
            {"Cardiomegaly": "0.0", "Lung Opacity": "-1.0", "Consolidation": "-1.0", "Fracture": "1.0"},
        ),
        ("patient00002/study1/view1_frontal", "Female", "83", "AP", {"Edema": "1.0", "Pleural Effusion": "1.0"}),
        ("patient00002/study1/view2_lateral", "Female", "83", "", {"Edema": "1.0", "Pleural Effusion": "1.0"}),
        ("patient00003/study1/view1_frontal", "Unknown", "0", "PA", {}),
        ("patient00004/study1/view1_frontal", "Male", "20", "LL", {"Pneumonia": "1.0"}),
    ]
    rows = [[*row[:4], *spelt(row[4])] for row in train]
    for number in range(patients):
        person = [("Male", "Female")[number % 2], str(20 + number)]
        names = ["view1_frontal", "view2_lateral"][: 1 if number % 3 else 2]
        for name in names:
            view = ("AP", "PA")[number % 2] if name.endswith("frontal") else ""
            rows.append([f"patient{10 + number:05d}/study1/{name}", *person, view, *pattern(number)])
    _chexpert_table(root, "train", rows, prefix)
    valid = [
        [f"patient{64541 + number}/study1/view1_frontal", "Male", "50", "PA"]
        + [value or "0.0" for value in pattern(number)]
        for number in range(6)
    ]
    _chexpert_table(root, "valid", valid, prefix)
    return root


def chexpert_test_set(root: Path, prefix: str = "") -> None:
    """test_labels.csv with 3 images, laid out as in CheXlocalize: no columns on persons, no prefix of paths."""
    rows = [
        [f"patient{64741 + number}/study1/view1_frontal", "", "", "", *[value or "0.0" for value in pattern(number)]]
        for number in range(3)
    ]
    table = _chexpert_table(root, "test", rows, prefix)
    pd.read_csv(table, dtype=str).drop(columns=PERSONAL[1:]).to_csv(root / "test_labels.csv", index=False)
    table.unlink()


def _chexpert_table(root: Path, part: str, rows: list[list[str]], prefix: str) -> Path:
    for number, row in enumerate(rows):
        noise(root / part / f"{row[0]}.jpg", number)
    table = pd.DataFrame(rows, columns=[*PERSONAL[:3], "AP/PA", *OBSERVATIONS])
    table.insert(3, "Frontal/Lateral", np.where(table["Path"].str.contains("lateral"), "Lateral", "Frontal"))
    table["Path"] = f"{prefix}/{part}/".lstrip("/") + table["Path"] + ".jpg"
    table.to_csv(root / f"{part}.csv", index=False)
    return root / f"{part}.csv"


def chexpert_people(file: Path, patients: int = 60) -> Path:
    """CHEXPERT DEMO.xlsx: patient 2 twice, patient 4 not, and patient 10 with two races; 15 others of each of RACES."""
    rows = [
        ("patient00001", "Female", 68, " White, \u00a0non-Hispanic ", "Not \u00a0Hispanic"),
        ("patient00002", "Female", 83, "Black or\tAfrican  American", "Hispanic/Latino"),
        ("patient00002", "Female", 87, "Black or African American", "Hispanic/Latino "),
        ("patient00003", "Unknown", 0, "Patient Refused", "Unknown"),
        ("patient00010", "Male", 20, "Asian, non-Hispanic", None),
        *((f"patient{10 + number:05d}", "Male", 20 + number, *RACES[number % 4]) for number in range(patients)),
    ]
    columns = ["PATIENT", "GENDER", "AGE_AT_CXR", "PRIMARY_RACE", "ETHNICITY"]
    pd.DataFrame(rows, columns=columns).to_excel(file, index=False)
    return file


ALPHABETICAL = sorted(OBSERVATIONS)
METADATA = [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
    "Rows",
    "Columns",
    "StudyDate",
    "StudyTime",
    "ProcedureCodeSequence_CodeMeaning",
    "ViewCodeSequence_CodeMeaning",
    "PatientOrientationCodeSequence_CodeMeaning",
]


def dicom_id(number: int) -> str:
    return "-".join(f"{number * 5 + place:08x}" for place in range(5))


def mimic_cxr_folder(root: Path, patients: int = 60, ending: str = ".csv.gz") -> Path:
    """Images 0 to 7 of 6 patients with the traps, 80 images of 60 others (every third has a lateral), and labels.

    Images 5, 6 and 7: a study without labels, one that the labels give to another patient, one in no split.
    """
    images = [
        (10000032, 50414267, "PA", 21800506),
        (10000032, 50414267, "LATERAL", 21800506),
        (10000764, 57375967, "", 21211015),
        (10000898, 50771383, "LAO", 21880103),
        (10000935, 50578979, "LL", 21870823),
        (10000935, 51178377, "AP", 21870820),
        (10000980, 50985099, "AP", 21851210),
        (10001000, 50111111, "AP", 21851210),
    ]
    studies = {
        (10000032, 50414267): {"No Finding": "1.0"},
        (10000764, 57375967): {"Consolidation": "-1.0", "Edema": "0.0"},
        (10000898, 50771383): {},
        (10000935, 50578979): {"Edema": "1.0", "Support Devices": "1.0"},
        (10009999, 50985099): {"Edema": "1.0"},
        (10001000, 50111111): {"Edema": "1.0"},
    }
    spellings = {key: [labels.get(name, "") for name in ALPHABETICAL] for key, labels in studies.items()}
    splits = ["train"] * 7
    for number in range(patients):
        key = (11000000 + number, 58000000 + number)
        spellings[key] = pattern(number)
        for view in ("AP", "LATERAL")[: 1 if number % 3 else 2]:
            images.append((*key, view, 21500101))
            splits.append(("train", "train", "train", "validate", "test")[number // 3 % 5])
    rows = [
        [dicom_id(number), subject, study, "CHEST (PA AND LAT)", view, 3056, 2544, date, 213014.531, "", "", "Erect"]
        for number, (subject, study, view, date) in enumerate(images)
    ]
    metadata = pd.DataFrame(rows, columns=METADATA)
    for number, row in enumerate(metadata.itertuples()):
        patient = str(row.subject_id)
        noise(root / f"files/p{patient[:2]}/p{patient}/s{row.study_id}/{row.dicom_id}.jpg", number)
    table = {name: root / f"mimic-cxr-2.0.0-{name}{ending}" for name in ("metadata", "split", "negbio", "chexpert")}
    metadata.to_csv(table["metadata"], index=False)
    listed = metadata.drop(index=7)[["dicom_id", "study_id", "subject_id"]].assign(split=splits)
    listed.to_csv(table["split"], index=False)
    labels = pd.DataFrame(
        [[*key, *values] for key, values in spellings.items()], columns=["subject_id", "study_id", *ALPHABETICAL]
    )
    labels.to_csv(table["negbio"], index=False)
    labels.assign(Fracture=labels["Fracture"].replace({"1.0": "0.0", "0.0": "1.0"})).to_csv(
        table["chexpert"], index=False
    )
    return root


ADMISSIONS = [
    "subject_id",
    "hadm_id",
    "admittime",
    "dischtime",
    "deathtime",
    "admission_type",
    "admit_provider_id",
    "admission_location",
    "discharge_location",
    "insurance",
    "language",
    "marital_status",
    "race",
    "edregtime",
    "edouttime",
    "hospital_expire_flag",
]


def mimic_iv_folder(root: Path, patients: int = 60) -> Path:
    """hosp/patients and hosp/admissions of the patients of `mimic_cxr_folder` but 10000898.

    10000935 has two races, 10000764 an unstated one beside another.
    """
    people = [(10000032, "F", 52, 2180), (10000764, "M", 86, 2132), (10000935, "F", 52, 2182)]
    people += [(11000000 + number, "FM"[number % 2], 30 + number, 2150) for number in range(patients)]
    stays = [
        (10000032, "Medicaid", "WHITE"),
        (10000764, "Medicare", "UNKNOWN"),
        (10000764, "Medicare", "BLACK/AFRICAN AMERICAN"),
        (10000935, "Other", "WHITE"),
        (10000935, "Medicare", "ASIAN - CHINESE"),
    ]
    races = ["WHITE - RUSSIAN", "BLACK/CAPE VERDEAN", "HISPANIC/LATINO - CUBAN"]
    stays += [(11000000 + number, "Medicare", races[number % 3]) for number in range(patients)]
    (root / "hosp").mkdir(parents=True)
    table = pd.DataFrame(people, columns=["subject_id", "gender", "anchor_age", "anchor_year"])
    table.assign(anchor_year_group="2014 - 2016", dod="").to_csv(root / "hosp/patients.csv.gz", index=False)
    admissions = pd.DataFrame(stays, columns=["subject_id", "insurance", "race"]).reindex(columns=ADMISSIONS)
    number = np.arange(len(admissions))
    admissions["hadm_id"] = 22000000 + number
    admissions["admittime"] = [f"{2100 + one % 90}-05-06 22:23:00" for one in number]
    admissions["dischtime"] = [f"{2100 + one % 90}-05-07 17:15:00" for one in number]
    admissions.to_csv(root / "hosp/admissions.csv.gz", index=False)
    return root


PADCHEST_TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
PADCHEST = [
    "",
    "ImageID",
    "ImageDir",
    "StudyDate_DICOM",
    "StudyID",
    "PatientID",
    "PatientBirth",
    "PatientSex_DICOM",
    "ViewPosition_DICOM",
    "Projection",
    "MethodProjection",
    "Pediatric",
    "Modality_DICOM",
    "Manufacturer_DICOM",
    "PhotometricInterpretation_DICOM",
    "PixelRepresentation_DICOM",
    "PixelAspectRatio_DICOM",
    "SpatialResolution_DICOM",
    "BitsStored_DICOM",
    "WindowCenter_DICOM",
    "WindowWidth_DICOM",
    "Rows_DICOM",
    "Columns_DICOM",
    "XRayTubeCurrent_DICOM",
    "Exposure_DICOM",
    "ExposureInuAs_DICOM",
    "ExposureTime",
    "RelativeXRayExposure_DICOM",
    "ReportID",
    "Report",
    "MethodLabel",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
]


def padchest_folder(root: Path, patients: int = 60) -> Path:
    """Images a to n with the traps, and 60 of patients P0 to P59, in folders 0 and 1 and flat.

    Of the 60, a third each bear pleural effusion, that and scoliosis, or normal.
    """
    traps = [
        # image, patient, birth, sex, projection, method, labels
        ("a", "1", "1950.0", "F", "PA", "Physician", "['normal']"),
        ("b", "1", "1950.0", "F", "L", "Physician", "['normal']"),
        ("c", "2", "None", "None", "AP", "RNN_model", "[' pleural effusion', 'Pleural  effusion', '']"),
        ("d", "3", "1800.0", "O", "AP_horizontal", "Physician", "['scoliosis', 'unchanged', 'rare thing']"),
        ("e", "4", "1950.0", "M", "EXCLUDE", "Physician", "['normal']"),
        ("f", "5", "1950.0", "M", "COSTAL", "Physician", "['scoliosis']"),
        ("g", "6", "1950.0", "M", "PA", "Physician", ""),
        ("h", "7", "1950.0", "M", "PA", "Physician", "nan"),
        ("i", "8", "1950.0", "M", "PA", "Physician", "['exclude']"),
        ("j", "9", "1950.0", "M", "PA", "Physician", "['scoliosis', ' suboptimal study']"),
        ("k", "10", "1950.0", "M", "PA", "Physician", "['unchanged']"),
        ("l", "None", "1950.0", "M", "PA", "Physician", "['normal']"),
        ("m", "11", "1950.0", "M", "None", "Physician", "['normal']"),
        ("n", "12", "1950.0", "M", "PA", "Physician", "['normal'"),
    ]
    kinds = ["['pleural effusion']", "['scoliosis', 'pleural effusion']", "['normal']"]
    people = [
        (f"{number}", f"P{number}", f"{1940 + number}.0", "FM"[number % 2], "PA", "RNN_model", kinds[number % 3])
        for number in range(patients)
    ]
    columns = ["ImageID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection", "MethodLabel", "Labels"]
    table = pd.DataFrame(traps + people, columns=columns).reindex(columns=PADCHEST)
    table["ImageID"] += "_x.png"
    table[""] = np.arange(len(table))
    table["ImageDir"] = np.arange(len(table)) % 3
    table["StudyDate_DICOM"] = "20100520"
    table["Report"] = "sin cambios , \n atelectasia"
    for number, name in enumerate(table["ImageID"]):
        noise(root / ("0", "1", "")[number % 3] / name, number, deep=True)
    table.to_csv(root / f"{PADCHEST_TABLE}.gz", index=False)
    return root
