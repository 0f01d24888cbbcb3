"""NIH ChestX-ray14: real files against independent readers, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from png_by_hand import png
from real_sources import NIH_TABLE, edit, nih, refused, source

from tailrisk.datasets.card import expected
from tailrisk.datasets.contract import open_prepared
from tailrisk.datasets.labels import age_bands
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.nih_chestxray14 import needs
from tailrisk.datasets.prepare import prepare, read
from tailrisk.errors import UserError
from tailrisk.tables import read_table


@pytest.fixture
def few_images(nih_folder, tmp_path) -> Path:
    """The first 8 rows of NIH with their images, laid out as in the full release."""
    rows = pd.read_csv(nih_folder / NIH_TABLE, dtype=str).head(8)
    rows.to_csv(tmp_path / NIH_TABLE, index=False)
    for number, name in enumerate(rows["Image Index"]):
        part = tmp_path / f"images_{1 + number // 4:03d}/images"
        part.mkdir(parents=True, exist_ok=True)
        shutil.copy(nih_folder / "images" / name, part)
    return tmp_path


@pytest.fixture
def some_images(nih_folder, tmp_path) -> Path:
    """300 rows of NIH, and links to their images."""
    folder = tmp_path / "nih"
    folder.mkdir()
    rows = pd.read_csv(nih_folder / NIH_TABLE, dtype=str).iloc[300:600]
    rows.to_csv(folder / NIH_TABLE, index=False)
    for name in rows["Image Index"]:
        (folder / name).symlink_to(nih_folder / "images" / name)
    return folder


def test_nih_is_prepared(nih_folder, nih_prepared) -> None:
    card, data = json.loads((nih_prepared / "card.json").read_text()), open_prepared(nih_prepared)
    assert (card["n_records"], card["n_patients"], card["patients_with_several_records"]) == (1000, 264, 136)
    assert card["most_records_of_a_patient"] == 66
    assert card["input_shape"] == [1, 64, 64]
    assert card["classes"] == {"no finding": 499, "finding": 501}
    assert list(card["checksums"]) == [NIH_TABLE]
    assert data.inputs.dtype == np.uint8
    assert pd.DataFrame({"p": data.patient, "s": data.split}).groupby("p")["s"].nunique().max() == 1
    # The tutorial that the subset comes from labels one image otherwise.
    table = pd.read_csv(nih_folder / NIH_TABLE)
    assert (data.labels != (table["kcr_label"] == "1_abnormal")).sum() == 1
    for row in (0, 1, 499, 999):
        assert np.array_equal(data.inputs[row, 0], png(nih_folder / "images" / data.record[row]))


def test_nih_groups(nih_folder, nih_prepared) -> None:
    frame = read_table(nih_prepared / "groups.parquet", "groups")
    table = pd.read_csv(nih_folder / NIH_TABLE)
    assert frame["sex"].value_counts().to_dict() == {"female": 509, "male": 491}
    assert frame["view"].value_counts().to_dict() == {"PA": 637, "AP": 363}
    named = [0 if text == "No Finding" else text.count("|") + 1 for text in table["Finding Labels"]]
    assert frame["finding"].astype(str).tolist() == [("none", "one", "several")[min(n, 2)] for n in named]
    young = table["Patient Age"].between(20, 39)
    assert np.array_equal(frame["age"] == "20 to under 40", young)


def test_nih_targets(few_images) -> None:
    labels = ["Mass|Hernia", "No Finding", "Pleural_Thickening", "Mass", "No Finding", "Hernia", "Mass", "Mass"]
    for row, text in enumerate(labels, start=1):
        edit(few_images / NIH_TABLE, row, "Finding Labels", text)
        edit(few_images / NIH_TABLE, row, "View Position", "AP" if row % 3 else "PA")
    several = read(nih(few_images, target="findings"))
    assert several.task == "multilabel"
    for row, text in enumerate(labels):
        found = {several.classes[number] for number in np.flatnonzero(several.labels[row])}
        assert found == set(text.split("|")) - {"No Finding"}
    assert read(nih(few_images)).labels.tolist() == [1, 0, 1, 1, 0, 1, 1, 1]
    view = read(nih(few_images, target="view"))
    assert view.classes == ["PA", "AP"]
    assert view.labels.tolist() == [1, 1, 0, 1, 1, 0, 1, 1]


def test_missing_and_doubled_images(few_images) -> None:
    first = next(few_images.rglob("images_001/images/*.png"))
    shutil.copy(first, few_images)
    refused(nih(few_images), f"the image {first.name} lies in ")
    (few_images / first.name).unlink()
    first.unlink()
    paths = read(nih(few_images)).inputs.paths
    assert [path for path in paths if not path.exists()] == [few_images / first.name]
    for file in few_images.rglob("*.png"):
        file.unlink()
    refused(nih(few_images), f"none of the 8 images in {few_images / NIH_TABLE} is below {few_images}, such as ")


def test_images_that_cannot_be_used_are_quarantined(some_images, tmp_path) -> None:
    names = pd.read_csv(some_images / NIH_TABLE)["Image Index"]
    (some_images / names[5]).unlink()
    whole = (some_images / names[17]).read_bytes()
    for name, content in ((names[17], whole[: len(whole) // 2]), (names[40], b"not a picture")):
        (some_images / name).unlink()  # a link
        (some_images / name).write_bytes(content)
    with pytest.raises(UserError, match=r"3 of 300 images cannot be used .* more than the share 0\.005"):
        prepare("x", nih(some_images, size=16, max_quarantined=0.005), tmp_path / "strict")
    prepare("x", nih(some_images, size=16), tmp_path / "dataset")
    card = json.loads((tmp_path / "dataset/card.json").read_text())
    assert (card["rows"], card["n_records"]) == (300, 297)
    assert card["quarantined"] == {"missing": 1, "unreadable": 2}
    left_out = read_table(tmp_path / "dataset/excluded.parquet", "excluded").set_index("record")
    assert left_out["reason"].to_dict() == {names[5]: "missing", names[17]: "unreadable", names[40]: "unreadable"}
    assert left_out.loc[names[40], "detail"].startswith(f"{some_images / names[40]}: ")


def test_official_split(some_images, tmp_path) -> None:
    table = pd.read_csv(some_images / NIH_TABLE, dtype=str)
    tested = table["Patient ID"].astype(int) % 4 == 0
    unlisted = table["Patient ID"] == table["Patient ID"][0]
    assert not tested[unlisted].any()
    spec = nih(some_images, size=16, splits="official", validation=0.2)
    refused(spec, f"cannot read the list {some_images / 'train_val_list.txt'} of the official split (No such file")
    assert list(unmet(needs(spec))) == [
        f"{some_images / 'train_val_list.txt'} does not exist",
        f"{some_images / 'test_list.txt'} does not exist",
    ]
    for name, rows in (("train_val_list.txt", ~tested & ~unlisted), ("test_list.txt", tested)):
        # As in the release: in another order, and without an end of the last line.
        (some_images / name).write_text("\n".join(sorted(table["Image Index"][rows], reverse=True)))
    run = end_to_end(spec, tmp_path)
    assert run.card["excluded"] == {"in neither list of the official split": unlisted.sum()}
    assert run.card["splits"]["test"]["records"] == tested.sum()
    assert run.records.loc[run.records["split"] == "test", "record"].tolist() == table["Image Index"][tested].tolist()
    assert 0.1 < run.card["splits"]["validation"]["patients"] / run.card["n_patients"] < 0.3
    assert set(run.card["checksums"]) == {NIH_TABLE, "train_val_list.txt", "test_list.txt"}
    assert run.groups["record"].tolist() == run.records["record"].tolist()
    sexes = table.set_index("Image Index")["Patient Gender"].map({"F": "female", "M": "male"})
    assert run.groups["sex"].astype(str).tolist() == sexes[run.records["record"]].tolist()


def test_lists_that_contradict_each_other_are_refused(few_images) -> None:
    names = pd.read_csv(few_images / NIH_TABLE)["Image Index"]
    (few_images / "train_val_list.txt").write_text("\n".join(names[:5]))
    (few_images / "test_list.txt").write_text("\n".join(names[4:]))
    refused(
        nih(few_images, splits="official"),
        f"train_val_list.txt and test_list.txt name an image for the second time: {names[4]}",
    )
    for name in ("train_val_list.txt", "test_list.txt"):
        (few_images / name).write_text("")
    refused(nih(few_images, splits="official"), "no image is in the lists of the official split")


def test_the_complete_table_has_what_is_expected(nih_folder, tmp_path) -> None:
    """Counts of the complete table, of which one image is enough to read the labels of all."""
    shutil.copy(nih_folder / "Data_Entry_2017_v2020.csv.gz", tmp_path)
    shutil.copy(nih_folder / "images/00000001_000.png", tmp_path)
    for target in ("findings", "view"):
        dataset = read(source(source="nih_chestxray14", path=str(tmp_path), target=target))
        counts = expected(dataset)
        assert len(counts) == 3 + len(dataset.classes)
        assert [line["found"] for line in counts] == [line["expected"] for line in counts]


@pytest.mark.parametrize(
    ("row", "column", "value", "sentence"),
    [
        (3, "Finding Labels", "Mass|Masss", "names something else than the 14 findings in row 3"),
        (4, "Finding Labels", "Mass|No Finding", "has 'No Finding' beside a finding in row 4"),
        (2, "Patient ID", " ", "column 'Patient ID' is blank in row 2"),
        (7, "Patient ID", "7a", "column 'Patient ID' is not a whole number in row 7"),
        (5, "Patient Age", "058Y", "column 'Patient Age' is not an age in years in row 5"),
        (6, "View Position", "LL", "column 'View Position' is neither PA nor AP in row 6"),
    ],
)
def test_bad_cells_of_nih_are_refused(few_images, row, column, value, sentence) -> None:
    edit(few_images / NIH_TABLE, row, column, value)
    refused(nih(few_images, target="view"), sentence)


def test_patients_are_one_however_their_number_is_stored(few_images) -> None:
    before = read(nih(few_images)).patient.tolist()
    edit(few_images / NIH_TABLE, 1, "Patient ID", f"{before[0]}.0")
    edit(few_images / NIH_TABLE, 6, "Patient ID", f"{before[5]}.")
    assert read(nih(few_images)).patient.tolist() == before


def test_bad_tables_of_nih_are_refused(few_images) -> None:
    table = few_images / NIH_TABLE
    text = table.read_text()
    table.write_text(text.replace("Patient ID", "Patient"))
    refused(nih(few_images), f"{table} has no column 'Patient ID'")
    table.write_text(text.splitlines()[0] + "\n")
    refused(nih(few_images), f"{table} has no rows")
    table.write_text(text.replace("normal\n", "normal,more\n"))
    refused(nih(few_images), "rows hold more or fewer values than the header")
    table.write_bytes(b"\xff\xfe\x00")
    refused(nih(few_images), f"{table} is not a readable table")
    table.unlink()
    refused(nih(few_images), f"the table {table} does not exist")


def test_ages_beyond_120_are_unknown(few_images) -> None:
    for row, age in enumerate(["0", "19", "20", "79", "80", "120", "121", "414"], start=1):
        edit(few_images / NIH_TABLE, row, "Patient Age", age)
    known = ["0 to under 20"] * 2 + ["20 to under 40", "60 to under 80"] + ["80 and over"] * 2
    ages = read(nih(few_images)).groups["age"]
    assert ages[:6].tolist() == known
    assert ages[6:].isna().all()


def test_age_bands_of_blanks() -> None:
    table = pd.DataFrame({"age": ["300", None, "-1", "39.9"]})
    bands = age_bands(Path("x.csv"), table, "age")
    assert bands.isna().tolist() == [False, True, True, False]
    assert bands[[0, 3]].tolist() == ["80 and over", "20 to under 40"]


def test_linked_folders_of_images_are_followed(few_images, tmp_path) -> None:
    elsewhere = tmp_path / "study"
    elsewhere.mkdir()
    shutil.copy(few_images / NIH_TABLE, elsewhere)
    for part in ("images_001", "images_002"):
        (elsewhere / part).symlink_to(few_images / part)
    assert sum(path.exists() for path in read(nih(elsewhere)).inputs.paths) == 8
