"""Fitzpatrick 17k: the real table against its published counts, and a small part of it with made-up images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from picture_folders import photographs
from real_sources import edit, refused, source

from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read

THREE = {"non-neoplastic": 12_080, "benign": 2_234, "malignant": 2_263}
NO_SKIN = "e69165b3455bb3a5a8b33a0f6fd8a1d3"


def fitzpatrick(table: Path, images: Path, **options):
    return source(source="fitzpatrick17k", path=str(table), images=str(images), **options)


@pytest.fixture(scope="session")
def table(open_data) -> Path:
    return open_data / "fitzpatrick17k/fitzpatrick17k.csv.gz"


@pytest.fixture(scope="session")
def rows(table) -> pd.DataFrame:
    return pd.read_csv(table, dtype=str, keep_default_na=False)


@pytest.fixture
def part(rows, tmp_path) -> Path:
    """40 rows of each of the three classes, 10 of them rated as diagnostic, as an unpacked table with all images."""
    chosen = []
    for name in THREE:
        of_class = rows[(rows["three_partition_label"] == name) & (rows["url"] != "")]
        chosen += [of_class[of_class["qc"] == "1 Diagnostic"].head(10), of_class[of_class["qc"] == ""].head(30)]
    together = pd.concat(chosen)
    together.to_csv(tmp_path / "fitzpatrick17k.csv", index=False)
    photographs(tmp_path / "images", together["md5hash"].tolist())
    return tmp_path


def test_the_released_table(table, rows, tmp_path) -> None:
    images = photographs(tmp_path, [rows["md5hash"][0]])
    dataset = read(fitzpatrick(table, images, splits="official"))
    assert dict(dataset.excluded["reason"].value_counts()) == {"no image in the source": 41, "no photograph of skin": 3}
    assert len(dataset.record) + len(dataset.excluded) == dataset.expected["rows"] == 16_577
    assert {name: dataset.expected[f"class {name}"] for name in THREE} == THREE
    counts = dict(zip(dataset.classes, np.bincount(dataset.labels).tolist(), strict=True))
    # 35, 3 and 3 of the rows without an image, and the three without skin, of the published counts.
    assert counts == {"non-neoplastic": 12_080 - 35 - 3, "benign": 2_234 - 3, "malignant": 2_263 - 3}
    assert (dataset.split == "test").sum() == 348
    assert np.array_equal(dataset.record, dataset.patient)
    # Of the published counts of each pair and of unknown types, those without an image, and the three without skin.
    assert dataset.groups["skin_type"].value_counts().to_dict() == {
        "I-II": 2_947 + 4_808 - 5 - 11,
        "III-IV": 3_308 + 2_781 - 7 - 5,
        "V-VI": 1_533 + 635 - 4 - 6,
    }
    assert dataset.groups["skin_type"].isna().sum() == 565 - 3 - 3
    assert dataset.groups["single_skin_type"].dropna().unique().size == 6
    assert len(read(fitzpatrick(table, images, target="nine")).classes) == 9
    assert len(read(fitzpatrick(table, images, target="condition")).classes) == 114


def test_rows_without_a_link_count_where_the_file_is_there(table, rows, tmp_path) -> None:
    unlinked = rows.loc[rows["url"] == "", "md5hash"].tolist()
    dataset = read(fitzpatrick(table, photographs(tmp_path, unlinked[:5])))
    assert (dataset.excluded["reason"] == "no image in the source").sum() == 36
    assert set(unlinked[:5]) <= set(dataset.record)


def test_classes_that_are_too_rare_can_be_left_out(table, rows, tmp_path) -> None:
    images = photographs(tmp_path, [rows["md5hash"][0]])
    dataset = read(fitzpatrick(table, images, target="condition", least=300))
    with_image = rows[(rows["url"] != "") & (rows["md5hash"] != NO_SKIN)]
    common = with_image["label"].value_counts()
    assert dataset.classes == sorted(common.index[common >= 300])
    assert np.bincount(dataset.labels).min() >= 300
    assert len(dataset.record) + len(dataset.excluded) == 16_577
    assert "class with fewer than 300 images" in set(dataset.excluded["reason"])
    two = read(fitzpatrick(table, images, least=2_231))  # of the three, benign has 2,231 images, malignant 2,260
    assert two.classes == ["non-neoplastic", "benign", "malignant"]
    two = read(fitzpatrick(table, images, least=2_232))
    assert (two.classes, two.task) == (["non-neoplastic", "malignant"], "binary")
    refused(fitzpatrick(table, images, least=20_000), "no two classes have 20,000 images: lower `least`")


def test_a_small_part_goes_all_the_way(part) -> None:
    missing = pd.read_csv(part / "fitzpatrick17k.csv", dtype=str)["md5hash"][3]
    (part / f"images/{missing}.jpg").rename(part / "elsewhere.jpg")
    options = {"splits": "official", "size": 16, "validation": 0.2, "max_quarantined": 0.01}
    run = end_to_end(fitzpatrick(part, part / "images", **options), part / "run")
    assert run.card["quarantined"] == {"missing": 1}
    assert run.reason(missing) == "missing"
    assert run.card["splits"]["test"]["records"] == 29
    assert run.prepared.inputs.shape == (119, 3, 16, 16)
    assert list(run.groups.columns) == ["record", "skin_type", "single_skin_type", "nine_partition", "label"]
    # The fixture's red depends on the last digit of the name.
    red = run.prepared.inputs[:, 0].mean(axis=(1, 2))
    digits = np.array([int(name[-1], 16) for name in run.records["record"]])
    assert np.corrcoef(red, digits)[0, 1] > 0.95


def test_images_can_be_gray_and_deeper_in_the_folder(part) -> None:
    (part / "images/a/b").mkdir(parents=True)
    file = next((part / "images").glob("*.jpg"))
    file.rename(part / "images/a/b" / file.name)
    dataset = read(fitzpatrick(part / "fitzpatrick17k.csv", part / "images", colour=False))
    assert dataset.inputs.shape == (1, 64, 64)
    assert part / "images/a/b" / file.name in dataset.inputs.paths


def test_wrongly_labelled_images_stay(part) -> None:
    edit(part / "fitzpatrick17k.csv", 1, "qc", "3 Wrongly labelled")
    dataset = read(fitzpatrick(part, part / "images", splits="official"))
    assert len(dataset.record) == 120
    assert dataset.split[0] is None


@pytest.mark.parametrize(
    ("column", "value", "sentence"),
    [
        ("fitzpatrick_scale", "7", "column 'fitzpatrick_scale' is neither 1 to 6 nor -1 in row 2"),
        (
            "three_partition_label",
            "Benign",
            "column 'three_partition_label' has values that the source does not know: Be",
        ),
        ("md5hash", "", "column 'md5hash' is blank in row 2"),
    ],
)
def test_bad_cells_are_refused(part, column, value, sentence) -> None:
    edit(part / "fitzpatrick17k.csv", 2, column, value)
    refused(fitzpatrick(part, part / "images"), sentence)


def test_doubled_rows_are_refused(part) -> None:
    first = pd.read_csv(part / "fitzpatrick17k.csv", dtype=str)["md5hash"][0]
    edit(part / "fitzpatrick17k.csv", 5, "md5hash", first)
    refused(fitzpatrick(part, part / "images"), "column 'md5hash' names an image for the second time in row 5")


def test_what_lacks_is_told_before_anything_is_read(part) -> None:
    from tailrisk.datasets.fitzpatrick17k import needs

    assert list(unmet(needs(fitzpatrick(part, part / "images")))) == []
    gone = list(unmet(needs(fitzpatrick(part / "x.csv", part / "y"))))
    assert gone == [f"{part / 'x.csv'} does not exist", f"{part / 'y'} does not exist"]
    refused(fitzpatrick(part, part / "run"), f"none of the 120 images in {part / 'fitzpatrick17k.csv'} is below")
