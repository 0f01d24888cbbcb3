"""EMBED: made-up exams in the released layout, each quirk of the tables once, and DICOM and PNG files all the way."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from picture_folders import ELSEWHERE, Embed, dicom
from PIL import Image
from real_sources import edit, refused, source

from tailrisk.datasets.embed import mammogram, needs
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read
from tailrisk.errors import UserError

LEFT, RIGHT = {"ImageLateralityFinal": "L"}, {"ImageLateralityFinal": "R"}
FINDINGS, FILES = "tables/EMBED_OpenData_clinical_reduced.csv", "tables/EMBED_OpenData_metadata_reduced.csv"


def embed(folder: Path, **options):
    return source(source="embed", path=str(folder), **({"test_patients": 2} | options))


@pytest.fixture
def tables(tmp_path) -> Embed:
    """Tables with three plain patients; the file of the first image is there, so that the images are found."""
    built = Embed(tmp_path)
    for patient in (1, 2, 3):
        built.exam(patient)
    name = built.files[0]["anon_dicom_path"].removeprefix(ELSEWHERE)
    dicom(tmp_path / "images" / name, np.arange(20, dtype=np.uint16).reshape(4, 5))
    return built


@pytest.fixture
def cohort(tmp_path) -> Path:
    """64 patients with two images each (three of them with two exams), of all four densities, and their files."""
    built = Embed(tmp_path)
    races = ["Caucasian or White", "African American  or Black", "Asian", "Unknown, Unavailable or Unreported"]
    for patient in range(64):
        for number in range(2 if patient < 3 else 1):
            finding = {"tissueden": f"{1 + patient % 4}.0", "RACE_DESC": races[patient // 4 % 4]}
            images = [LEFT | {"ViewPosition": "MLO"}, RIGHT | {"FinalImageType": "cview", "spot_mag": ""}]
            built.exam(patient, [finding], [dict(image) for image in images], number)
    built.exam(100, [{"desc": "MG Diagnostic Left w/CAD"}])
    built.pixels()
    return built.write()


def by_record(dataset) -> pd.DataFrame:
    return dataset.groups.assign(label=dataset.labels, patient=dataset.patient).set_index(pd.Index(dataset.record))


def reasons(dataset) -> dict[str, str]:
    return dataset.excluded.set_index("record")["reason"].to_dict()


def test_findings_of_one_breast_do_not_leak_to_the_other(tables) -> None:
    both = [dict(LEFT, name="left"), dict(RIGHT, name="right"), {"ImageLateralityFinal": "", "name": "neither"}]

    def exam(patient, findings):
        tables.exam(patient, findings, [dict(image, name=f"{patient}.{image['name']}") for image in both])

    exam(10, [{"side": "L", "asses": "A"}, {"side": "R", "asses": "N", "numfind": 2}])
    exam(11, [{"side": "L", "asses": "B"}, {"side": "L", "asses": "S"}, {"side": "L", "asses": "N"}])
    exam(12, [{"side": "B", "asses": "B"}])
    exam(13, [{"side": "", "asses": "N"}, {"side": "R", "asses": "K"}])
    exam(14, [{"side": "", "asses": "X"}])
    exam(15, [{"side": "L", "asses": "P"}, {"side": "B", "asses": "A"}, {"side": "R", "asses": "M"}])
    found = by_record(read(embed(tables.write())))["assessment"]
    expected = {
        10: ("BI-RADS 0", "BI-RADS 1", None),
        11: ("BI-RADS 4", None, None),
        12: ("BI-RADS 2", "BI-RADS 2", "BI-RADS 2"),
        13: ("BI-RADS 1", "BI-RADS 6", "BI-RADS 1"),
        14: (None, None, None),
        15: ("BI-RADS 0", "BI-RADS 5", "BI-RADS 0"),
    }
    for patient, words in expected.items():
        for side, word in zip(("left", "right", "neither"), words, strict=True):
            value = found[f"{patient}.{side}"]
            assert value == word or (word is None and pd.isna(value)), (patient, side)


def test_who_is_of_the_cohort(tables) -> None:
    def odd(name, finding=None, image=None, findings=None):
        tables.exam(20 + len(tables.files), findings or [finding or {}], [(image or {}) | {"name": name}])

    odd("diagnostic", {"desc": "MG Diagnostic Bilateral"})
    odd("undescribed", {"desc": ""})
    odd("screensave", image={"FinalImageType": "ROI_SSC"})
    odd("rolled", image={"ViewPosition": "XCCL"})
    odd("viewless", image={"ViewPosition": ""})
    odd("spot", image={"spot_mag": "1.0"})
    odd("man", {"GENDER_DESC": "Male"})
    odd("man by density", {"tissueden": "5.0"})
    odd("race blank", {"RACE_DESC": "  "})
    odd("density blank", {"tissueden": ""})
    odd("density odd", {"tissueden": "7"})
    odd("contradictory", findings=[{"tissueden": "2"}, {"tissueden": "3"}])
    odd("half stated", findings=[{"tissueden": ""}, {"tissueden": "3"}])
    odd("full field unsaid", image={"spot_mag": ""})
    odd("shouted", {"desc": "SCREENING BILAT"}, image={"ViewPosition": "mlo", "FinalImageType": "C-View"})
    odd("twice")
    odd("twice", image={"anon_dicom_path": tables.files[-1]["anon_dicom_path"]})
    odd("pathless", image={"anon_dicom_path": ""})
    tables.exam(90, findings=[], images=[{"name": "no clinical row"}])
    tables.exam(91, images=[{"name": "of another patient", "empi_anon": 92}])
    tables.findings.append(
        tables.findings[0] | {"desc": "MG Diagnostic Bilateral", "tissueden": "4"}
    )  # beside its screening
    dataset = read(embed(tables.write()))
    assert reasons(dataset) == {
        "diagnostic": "not a screening exam",
        "undescribed": "not a screening exam",
        "screensave": "kind of image not asked for",
        "rolled": "view neither MLO nor CC",
        "viewless": "view neither MLO nor CC",
        "spot": "view of a spot or magnified",
        "man": "male",
        "man by density": "male",
        "race blank": "race not stated",
        "density blank": "density unknown",
        "density odd": "density unknown",
        "contradictory": "density differs between findings",
        "twice": "file listed before",
        "row 21": "no file in the source",
        "no clinical row": "exam without a clinical row",
        "of another patient": "exam without a clinical row",
    }
    kept = by_record(dataset)
    assert set(kept.index[3:]) == {"half stated", "full field unsaid", "shouted", "twice"}
    assert kept["label"]["half stated"] == 2
    assert kept["label"].iloc[0] == 1
    assert kept.loc["shouted", ["view", "kind"]].tolist() == ["MLO", "C-view"]
    assert len(dataset.record) + len(dataset.excluded) == len(tables.files)
    assert dataset.expected["rows"] == 480_323 and dataset.expected["records"] == 360_159


def test_a_listing_that_is_left_out_takes_no_other_with_it(tables) -> None:
    """An image whose first row names an exam without a clinical row, or a kind not asked for: its second row stays."""
    for patient, first_row in ((20, {"acc_anon": 999_999}), (21, {"FinalImageType": "ROI_SSC"})):
        tables.exam(patient, images=[{"name": f"twice {patient}"}])
        listed = tables.files.pop()
        tables.files += [listed | first_row, listed, dict(listed)]
    dataset = read(embed(tables.write()))
    assert list(dataset.record[3:]) == ["twice 20", "twice 21"]
    assert dataset.excluded[["record", "reason"]].to_numpy().tolist() == [
        ["twice 20", "exam without a clinical row"],
        ["twice 20", "file listed before"],
        ["twice 21", "kind of image not asked for"],
        ["twice 21", "file listed before"],
    ]


def test_kinds_that_are_not_asked_for(tables) -> None:
    tables.exam(20, images=[{"name": "synthetic", "FinalImageType": "cview"}])
    only = read(embed(tables.write(), kinds=["2D"]))
    assert reasons(only) == {"synthetic": "kind of image not asked for"}
    assert list(only.expected) == ["rows"]


def test_race_and_ethnicity_in_plain_words(tables) -> None:
    stated = {
        "a": ("African American  or Black", "Hispanic or Latino", "Black", "Hispanic"),
        "b": ("Asian ", "Unknown~Hispanic", "Asian", "Hispanic"),
        "c": ("Multiple", "Non-Hispanic~Unknown", "other", "not Hispanic"),
        "d": ("Unknown, Unavailable or Unreported", "Not Recorded", None, None),
        "e": ("Native Hawaiian or Other Pacific Islander", "Unknown~Non-Hispanic", "other", "not Hispanic"),
        "f": ("Patient Declines", "", None, None),
    }
    for number, (name, (race, ethnicity, _, _)) in enumerate(stated.items(), start=30):
        tables.exam(number, [{"RACE_DESC": race, "ETHNIC_GROUP_DESC": ethnicity}], [{"name": name}])
    for number, race in enumerate(
        ("Asian", "Caucasian or White", "Unknown")
    ):  # who is Asian at one visit, White at another
        tables.exam(50, [{"RACE_DESC": race}], [{"name": f"changing {number}"}], number)
    for number, race in enumerate(("Asian", "Unknown")):
        tables.exam(51, [{"RACE_DESC": race}], [{"name": f"once said {number}"}], number)
    kept = by_record(read(embed(tables.write())))
    for name, (_, _, race, ethnicity) in stated.items():
        for value, word in ((kept["race"][name], race), (kept["ethnicity"][name], ethnicity)):
            assert value == word or (word is None and pd.isna(value)), name
    assert kept["race"][["changing 0", "changing 1", "changing 2"]].isna().all()
    assert kept["race"]["once said 0"] == "Asian"
    assert kept["age"].unique().tolist() == ["40 to under 60"]


def test_other_names_of_tables_and_columns(tables) -> None:
    folder = tables.write()
    path = folder / FINDINGS
    path.write_text(path.read_text().replace("RACE_DESC", "ETHNICITY_DESC").replace("GENDER_DESC", "SOMETHING"))
    path.rename(folder / "tables/EMBED_OpenData_clinical.csv")
    assert list(unmet(needs(embed(folder)))) == []
    dataset = read(embed(folder))
    assert dataset.groups["race"].tolist() == ["White"] * 3
    assert list(dataset.checksums) == ["EMBED_OpenData_clinical.csv", "EMBED_OpenData_metadata_reduced.csv"]
    assert read(embed(folder / "tables", images=str(folder / "images"))).record.tolist() == dataset.record.tolist()


def test_ids_written_as_floating_point_numbers(tables) -> None:
    folder = tables.write()
    for row in range(1, 4):
        edit(folder / FINDINGS, row, "empi_anon", f"{row}.0")
        edit(folder / FINDINGS, row, "acc_anon", f"40000000000000{row}0.0")
    assert read(embed(folder)).patient.tolist() == ["1", "2", "3"]
    edit(folder / FILES, 2, "acc_anon", "4.00000000000002e+15")  # digits are lost
    refused(embed(folder), "column 'acc_anon' is not a whole number in row 2")


def test_test_patients_are_drawn_by_their_ids(cohort) -> None:
    dataset = read(embed(cohort, test_patients=12))
    chosen = set(dataset.patient[dataset.split == "test"])
    assert len(chosen) == 12
    assert set(dataset.split[~np.isin(dataset.patient, list(chosen))]) == {None}
    assert (
        set(read(embed(cohort, test_patients=11)).patient[read(embed(cohort, test_patients=11)).split == "test"])
        < chosen
    )
    other = read(embed(cohort, test_patients=12, split_seed=1))
    assert set(other.patient[other.split == "test"]) != chosen
    refused(embed(cohort, test_patients=64), "`test_patients` asks for 64 of 64 patients: lower it")


def test_dicom_files_all_the_way(cohort) -> None:
    damaged = sorted((cohort / "images").rglob("*.dcm"))[7]
    damaged.write_bytes(b"no image")
    options = {"test_patients": 14, "validation": 0.25, "size": (16, 12), "max_quarantined": 0.02, "split_seed": 3}
    run = end_to_end(embed(cohort, **options), cohort / "run")
    assert (run.card["n_records"], run.card["n_patients"]) == (2 * (64 + 3) - 1, 64)
    assert run.card["quarantined"] == {"unreadable": 1}
    assert run.card["excluded"] == {"not a screening exam": 1}
    assert run.prepared.inputs.shape[1:] == (1, 16, 12)
    assert list(run.groups.columns) == ["record", "race", "ethnicity", "age", "assessment", "kind", "view", "label"]
    assert set(run.prepared.classes) == {f"density {letter}" for letter in "ABCD"}
    # The fixture's breasts, at the left of 20 columns up to the 12th, are the brighter the denser they are.
    left = run.prepared.inputs[:, 0, :, :6].mean(axis=(1, 2))
    assert np.corrcoef(left, run.prepared.labels)[0, 1] > 0.99
    assert run.prepared.inputs[:, 0, :, 8:].max() < 30
    tested = run.records["split"] == "test"
    assert run.records.loc[tested, "patient"].nunique() == 14


def png_files(cohort: Path, folder: Path, name) -> Path:
    """PNG files of 16 bits with a range of their own, called as `name` says of the path in the table."""
    for row, path in enumerate(pd.read_csv(cohort / FILES, dtype=str)["anon_dicom_path"]):
        file = folder / name(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.linspace(1000 + row, 3000, 300).reshape(20, 15)
        Image.fromarray(pixels.astype(np.uint16)).save(file)
    return folder


def test_png_files_all_the_way(cohort) -> None:
    folder = png_files(cohort, cohort / "png", lambda path: f"{Path(path).parts[-3]}/{Path(path).stem}.png")
    options = {"test_patients": 14, "validation": 0.25, "size": (16, 12), "split_seed": 3}
    run = end_to_end(embed(cohort, format="png", images=str(folder), **options), cohort / "run")
    assert run.card["n_records"] == 134
    inputs = run.prepared.inputs
    assert (inputs.min(axis=(1, 2, 3)) < 10).all() and (inputs.max(axis=(1, 2, 3)) > 245).all()


def test_png_files_where_the_full_table_says(cohort) -> None:
    png_files(cohort, cohort / "png", lambda path: f"out/{Path(path).stem[::-1]}.png")
    table = pd.read_csv(cohort / FILES, dtype=str).assign(cohort_num="1")
    table["png_path"] = [f"/data/mammo/out/{Path(path).stem[::-1]}.png" for path in table["anon_dicom_path"]]
    table.to_csv(cohort / "tables/EMBED_OpenData_metadata.csv", index=False)
    dataset = read(embed(cohort, format="png", images=str(cohort / "png")))
    assert all(path.is_file() for path in dataset.inputs.paths)
    assert list(dataset.checksums)[1] == "EMBED_OpenData_metadata.csv"
    assert list(read(embed(cohort)).checksums)[1] == "EMBED_OpenData_metadata_reduced.csv"


def test_images_lie_wherever_they_were_copied_to(cohort) -> None:
    expected = [path.name for path in read(embed(cohort)).inputs.paths]
    (cohort / "images/cohort_1").rename(cohort / "cohort_1")
    (cohort / "images").rmdir()
    assert [path.name for path in read(embed(cohort)).inputs.paths] == expected
    (cohort / "cohort_1").rename(cohort / "elsewhere")
    assert read(embed(cohort, images=str(cohort / "elsewhere"))).inputs.paths[0].is_file()
    refused(embed(cohort), f"none of the 134 images of the cohort in {cohort / FILES} is below {cohort}")


def test_breasts_point_the_same_way(tmp_path) -> None:
    stored = np.zeros((8, 8), np.uint16)
    stored[:, :3] = 4000
    file = tmp_path / "image.dcm"

    def bright_side(mirror=True, **attributes) -> str:
        dicom(file, stored, **attributes)
        image = mammogram(file, (8, 8), mirror)[0].astype(int)
        return "left" if image[:, :3].sum() > image[:, -3:].sum() else "right"

    assert bright_side() == "left"
    assert bright_side(PatientOrientation=["A", "R"], ImageLaterality="R") == "left"
    assert bright_side(PatientOrientation=["P", "L"], ImageLaterality="L") == "right"
    assert bright_side(ImageLaterality="R") == "right"
    assert bright_side(PatientOrientation="", ImageLaterality="R") == "right"
    assert bright_side(ImageLaterality="L") == "left"
    assert bright_side(mirror=False, PatientOrientation=["P", "L"]) == "left"


def test_damage_that_shows_late_has_a_reason(tmp_path) -> None:
    """The kind of a value is looked at when the value is: here one that says where the breast points."""
    file = tmp_path / "image.dcm"
    dicom(file, np.arange(20, dtype=np.uint16).reshape(4, 5), PatientOrientation=["P", "L"])
    content = file.read_bytes()
    place = content.index(b"\x20\x00\x20\x00CS")
    file.write_bytes(content[: place + 4] + b"CO" + content[place + 6 :])
    with pytest.raises(UserError, match=r"^not a readable DICOM file \(Unknown Value Representation 'CO'"):
        mammogram(file, (4, 4), True)


def test_what_is_refused(tables) -> None:
    folder = tables.write()
    assert list(unmet(needs(embed(folder, images=str(folder / "gone"))))) == [f"{folder / 'gone'} does not exist"]
    edit(folder / FINDINGS, 2, "age_at_study", "old")
    refused(embed(folder), "column 'age_at_study' is not an age in years in row 2")
    for row in range(1, 4):
        edit(folder / FINDINGS, row, "age_at_study", "")
        edit(folder / FINDINGS, row, "desc", "MG Diagnostic Left")
    refused(embed(folder), "no image is of the cohort; most are left out as: not a screening exam")
    text = (folder / FINDINGS).read_text()
    (folder / FINDINGS).write_text(text.replace("RACE_DESC", "RACE"))
    refused(embed(folder), f"{folder / FINDINGS} has no column 'RACE_DESC'; did you mean 'RACE'?")
    assert any("has no column 'RACE_DESC'" in line for line in unmet(needs(embed(folder))))
    (folder / FINDINGS).unlink()
    refused(embed(folder), f"the table {folder / 'tables/EMBED_OpenData_clinical.csv'} does not exist")
