"""Copies under other patients are found, exactly; what is only similar is not."""

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from PIL import Image, ImageOps

from tailrisk.cli import main
from tailrisk.datasets import duplicates as stage
from tailrisk.datasets import near
from tailrisk.datasets.duplicates import duplicates
from tailrisk.datasets.images import picture
from tailrisk.tables import read_json, read_table, write_table

NONE = {"records": 0, "patients": 0, "pairs": 0, "across_splits": 0, "both_audited": 0, "different_labels": 0}


def prepared(folder: Path, inputs: np.ndarray, patients, splits=None, labels=None) -> Path:
    """A prepared dataset, as far as the search needs it; records are called by their row."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(inputs)
    records = pd.DataFrame({"record": [f"r{row}" for row in range(n)], "patient": list(patients)})
    write_table(folder / "records.parquet", "records", records.assign(split="audit" if splits is None else splits))
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", np.zeros(n, dtype=np.int64) if labels is None else labels)
    return folder


def each(n: int) -> list[str]:
    """Patients of one record each."""
    return [f"p{row}" for row in range(n)]


def listed(folder: Path) -> dict[tuple[int, int], str]:
    """Pairs of rows → kind, of duplicates.parquet."""
    table = read_table(folder / "duplicates.parquet", "duplicates")
    assert (table["patient_a"] != table["patient_b"]).all()
    rows = zip(table["record_a"].str[1:].astype(int), table["record_b"].str[1:].astype(int), table["kind"], strict=True)
    return {(a, b): str(kind) for a, b, kind in rows}


def search(folder: Path) -> dict[tuple[int, int], str]:
    duplicates(folder)
    found = listed(folder)
    summary = read_json(folder / "duplicates.json")
    for kind in ("identical", "near"):
        assert summary[kind]["listed"] == sum(one == kind for one in found.values())
    return found


@pytest.fixture(scope="module")
def radiographs(nih_folder) -> np.ndarray:
    """One image [1, 64, 64] of each of 264 patients."""
    table = pd.read_csv(nih_folder / "Data_Entry_2017_v2020_subset.csv").drop_duplicates("Patient ID")
    return np.stack([picture(nih_folder / "images" / name, (64, 64)) for name in table["Image Index"]])


def encoded(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after a JPEG file of that quality."""
    stream = BytesIO()
    Image.fromarray(image[0]).save(stream, format="JPEG", quality=quality)
    return np.asarray(Image.open(stream))[None]


def test_planted_copies_of_radiographs_are_found_and_no_others(radiographs, tmp_path) -> None:
    def brighter(image: np.ndarray) -> np.ndarray:
        return np.clip(image * 0.7 + 60, 0, 255).astype(np.uint8)

    half = Image.fromarray(radiographs[40, 0]).resize((48, 48), Image.Resampling.BILINEAR).resize((64, 64))
    planted = {
        0: radiographs[0],
        10: encoded(radiographs[10], 60),
        20: brighter(radiographs[20]),
        30: brighter(encoded(radiographs[30], 75)),
        40: np.asarray(half)[None],
    }
    not_found = [radiographs[50][:, :, ::-1], np.rot90(radiographs[60], axes=(1, 2)), 255 - radiographs[70]]
    not_found.append(np.asarray(Image.fromarray(radiographs[80, 0, 6:-6, 6:-6]).resize((64, 64)))[None])
    inputs = np.concatenate([radiographs, np.stack([*planted.values(), *not_found])])
    found = search(prepared(tmp_path, inputs, each(len(inputs))))
    expected = {(source, 264 + place): "near" for place, source in enumerate(planted)}
    assert found == expected | {(0, 264): "identical"}
    summary = read_json(tmp_path / "duplicates.json")
    assert summary["near"] == NONE | {"records": 8, "patients": 8, "pairs": 4, "both_audited": 4, "listed": 4}
    table = read_table(tmp_path / "duplicates.parquet", "duplicates")
    assert table["difference"].tolist() == sorted(table["difference"])
    assert table["difference"].iloc[0] == 0
    assert table["difference"].iloc[1] > 0
    assert table["difference"].iloc[-1] <= 0.1


def test_equal_records_are_counted_by_hand(tmp_path) -> None:
    """Records 0, 1 (patient A), 2 (B) and 5 (C, test) are equal; so are 3 and 4, of one patient D."""
    rng = np.random.default_rng(0)
    one, two, others = rng.normal(size=(1, 3, 50)), rng.normal(size=(1, 3, 50)), rng.normal(size=(2, 3, 50))
    inputs = np.concatenate([one, one, one, two, two, one, others]).astype(np.float32)
    folder = prepared(
        tmp_path, inputs, ["A", "A", "B", "D", "D", "C", "E", "F"],
        splits=["audit", "audit", "audit", "audit", "audit", "test", "validation", "audit"],
        labels=np.array([[0, np.nan], [0, np.nan], [1, 0], [0, 0], [1, 1], [0, np.nan], [0, 0], [0, 0]]),
    )  # fmt: skip
    assert search(folder) == dict.fromkeys([(0, 2), (0, 5), (1, 2), (1, 5), (2, 5)], "identical")
    summary = read_json(folder / "duplicates.json")
    assert summary["identical"] == {
        "records": 4, "patients": 3, "pairs": 5, "across_splits": 3, "both_audited": 2, "different_labels": 3,
        "listed": 5,
    }  # fmt: skip
    assert summary["near"] == NONE | {"listed": 0}
    assert summary["of_one_patient"] == 4
    table = read_table(folder / "duplicates.parquet", "duplicates").set_index(["record_a", "record_b"])
    assert table.loc[("r0", "r5")].to_dict() == {
        "patient_a": "A", "split_a": "audit", "patient_b": "C", "split_b": "test", "kind": "identical",
        "difference": 0.0, "same_label": True,
    }  # fmt: skip
    assert not table.loc[("r1", "r2"), "same_label"]


def test_near_groups_of_equal_records_are_counted_by_hand(tmp_path) -> None:
    """Records 0 (A) and 1 (B) are equal, 2 (A) and 3 (C) are equal, and all four are near; 4 (A) is near them, too."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=(1, 3, 50))
    inputs = np.concatenate([one, one, one * 2 + 1, one * 2 + 1, one * 3, rng.normal(size=(5, 3, 50))])
    folder = prepared(tmp_path, inputs.astype(np.float32), ["A", "B", "A", "C", "A", *"DEFGH"], labels=np.arange(10))
    found = search(folder)
    assert {pair for pair, kind in found.items() if kind == "identical"} == {(0, 1), (2, 3)}
    assert {pair for pair, kind in found.items() if kind == "near"} == {(0, 3), (1, 2), (1, 3), (1, 4), (3, 4)}
    counts = read_json(folder / "duplicates.json")["near"]
    assert counts == {
        "records": 5, "patients": 3, "pairs": 5, "across_splits": 0, "both_audited": 5, "different_labels": 5,
        "listed": 5,
    }  # fmt: skip


def brute_force(inputs: np.ndarray, patients: np.ndarray) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Identical and near pairs of different patients by comparing every pair."""
    flat = inputs.reshape(len(inputs), -1).astype(np.float64)
    if table := inputs.ndim == 2:
        flat = flat[:, flat.min(axis=0) < flat.max(axis=0)]
    axis = 0 if table else 1
    flat = (flat - flat.mean(axis, keepdims=True)) / flat.std(axis, keepdims=True)

    def near(a: int, b: int) -> bool:
        difference = np.abs(flat[a] - flat[b])
        return difference.max() <= 0.01 if table else np.sqrt((difference**2).mean()) <= 0.1

    identical, near_ones = set(), set()
    for a in range(len(flat)):
        for b in range(a + 1, len(flat)):
            if patients[a] != patients[b]:
                if np.array_equal(inputs[a], inputs[b]):
                    identical.add((a, b))
                elif near(a, b):
                    near_ones.add((a, b))
    return identical, near_ones


def crowded(kind: str) -> np.ndarray:
    """300 records in 100 heaps, of all distances around the threshold, some of them equal."""
    rng = np.random.default_rng(5)
    if kind == "mixed table":  # half the rows anew with another binary value, another number or both
        inputs = np.hstack([rng.integers(0, 2, (300, 6)), np.full((300, 3), 0.1), rng.normal(size=(300, 2))])
        inputs[150:] = inputs[:150]
        inputs[150:200, 0] = 1 - inputs[150:200, 0]
        inputs[180:260, 9] += rng.uniform(0, 0.015, 80)
        return inputs.astype(np.float32)
    if kind == "heavy table":  # of values up to a million times as large as others
        inputs = rng.standard_cauchy((300, 12)) ** 3
        inputs[150:] = inputs[:150] + inputs.std(axis=0) * rng.normal(0, 0.005, (150, 12))
        inputs[270:] = inputs[:30]
        return inputs.astype(np.float32)
    shape, spread = {"table": ((24,), 0.012), "signal": ((3, 40), 0.12), "image": ((3, 12, 12), 0.12)}[kind]
    heaps = rng.normal(size=(100, *shape))[rng.integers(0, 100, 300)]
    strength = rng.uniform(0, spread, (300, *[1] * len(shape)))
    inputs = heaps + strength * rng.normal(size=(300, *shape))
    inputs[250:280] = inputs[:30]
    return (inputs * 30 + 128).clip(0, 255).astype(np.uint8) if kind == "image" else inputs.astype(np.float32)


@pytest.mark.parametrize("kind", ["table", "mixed table", "heavy table", "signal", "image"])
def test_brute_force_agrees(kind: str, tmp_path, monkeypatch) -> None:
    inputs = crowded(kind)
    patients = np.array([f"p{row // 2}" for row in range(300)])
    identical, near_ones = brute_force(inputs, patients)
    folder = prepared(tmp_path, inputs, patients)
    found = search(folder)
    assert {pair for pair, kind in found.items() if kind == "identical"} == identical
    assert {pair for pair, kind in found.items() if kind == "near"} == near_ones
    assert min(len(identical), len(near_ones)) >= 25
    counts = read_json(folder / "duplicates.json")
    assert counts["near"]["pairs"] == len(near_ones)
    assert counts["near"]["records"] == len({row for pair in near_ones for row in pair})
    assert counts["near"]["patients"] == len({patients[row] for pair in near_ones for row in pair})
    tables = [(folder / name).read_bytes() for name in ("duplicates.parquet", "duplicates.json")]
    monkeypatch.setattr(near, "CANDIDATES", 7)
    monkeypatch.setattr(near, "COUNTED", 50)
    duplicates(folder, threads=2)  # other blocks and threads, equal tables
    assert [(folder / name).read_bytes() for name in ("duplicates.parquet", "duplicates.json")] == tables


def test_another_patient_in_one_of_many_features_is_not_near(tmp_path) -> None:
    """53 indicators, an age and 10 measurements; a year differs by 1/20.8 = 0.048 standard deviations."""
    rng = np.random.default_rng(0)
    inputs = np.hstack([rng.random((500, 53)) < 0.1, rng.integers(18, 90, (500, 1)), rng.normal(size=(500, 10))])
    inputs[1] = inputs[0]
    inputs[1, 53] += 1
    inputs[3] = inputs[2]
    inputs[3, 60] += 0.005
    scale = inputs.std(axis=0)
    assert 0.04 < 1 / scale[53] < 0.06 and 1 / scale[53] / np.sqrt(64) < 0.01
    folder = prepared(tmp_path, ((inputs - inputs.mean(axis=0)) / scale).astype(np.float32), each(500))
    assert search(folder) == {(2, 3): "near"}
    table = read_table(folder / "duplicates.parquet", "duplicates")
    assert table["difference"].tolist() == [pytest.approx(0.005 / scale[60], abs=2e-6)]


def test_constant_features_bring_nothing_nearer(tmp_path) -> None:
    """Two features that vary differ by 0.05 and 0.05; 62 constant ones would leave 0.009 of that."""
    rng = np.random.default_rng(0)
    inputs = np.hstack([rng.permutation(100)[:, None] * np.array([[1.0, 0.0]]), np.full((100, 62), 0.3)])
    inputs[:, 1] = rng.permutation(100)
    inputs[1, :2] = inputs[0, :2] + 0.05 * inputs[:, :2].std(axis=0)
    found = near.Standardised(prepared(tmp_path, inputs.astype(np.float32), each(100)) / "inputs.npy")
    assert found[np.arange(3)].shape == (3, 2)
    assert search(tmp_path) == {}


def test_single_precision_hides_no_pair_of_extreme_values(tmp_path, monkeypatch) -> None:
    """Points are kept in single precision, in which numbers of about 600 are 6e-5 apart: pairs seem further apart."""
    monkeypatch.setitem(near.NEAR, "table", 0.0101)
    inputs = np.zeros((1_000_000, 1))
    inputs[-2:, 0] = 1, 1 + 0.01009 * np.sqrt(2 / len(inputs))
    np.save(tmp_path / "inputs.npy", inputs)
    standardised = near.Standardised(tmp_path / "inputs.npy")
    seemed = []
    for n in range(12, 24):  # other records beside them, another centre, other digits that are lost
        rows = np.arange(len(inputs) - n, len(inputs))
        points = near.embedded(standardised, rows).astype(np.float64)
        assert 500 < np.abs(points).max() < 707
        seemed.append(np.linalg.norm(points[-2] - points[-1]))
        found = np.concatenate([np.stack(pairs[:2]) for pairs in near.near_pairs(standardised, rows)], axis=1)
        assert [n - 2, n - 1] in found.T.tolist()
    assert max(seemed) > 0.0101 + 1e-5


def test_too_many_pairs_are_not_looked_at(tmp_path, monkeypatch) -> None:
    """One value that stands for missing, in each column, and all other records lie within the threshold."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(60, 3))
    inputs[0] = 99999
    inputs[1] = -99999
    inputs[59] = inputs[58]
    folder = prepared(tmp_path, inputs.astype(np.float32), each(60))
    pairs = 57 * 56 // 2  # of 57 different records between
    monkeypatch.setattr(near, "COUNTED", 10)
    monkeypatch.setattr(near, "MOST", pairs)
    assert len(search(folder)) == 1 + pairs + 56  # record 59, equal to 58, is near the 56 others as well
    monkeypatch.setattr(near, "MOST", pairs - 1)
    assert search(folder) == {(58, 59): "identical"}
    summary = read_json(folder / "duplicates.json")
    assert summary["near"] == {"too_many": True, "listed": 0}
    assert summary["identical"]["pairs"] == 1


def test_small_blocks_change_nothing(radiographs, tmp_path, monkeypatch) -> None:
    inputs = np.concatenate([radiographs[:100], radiographs[:3], radiographs[3:6] // 2])
    folder = prepared(tmp_path, inputs, each(106))
    before = search(folder)
    assert set(before) == {(row, 100 + row) for row in range(6)}
    monkeypatch.setattr(near, "BLOCK", 8 * 64 * 64 * 5)  # five images
    monkeypatch.setattr(near, "SAMPLE", 20)
    assert search(folder) == before


def test_a_table_of_few_distinct_rows_is_counted_and_not_listed_in_full(tmp_path, monkeypatch) -> None:
    rows = np.repeat(np.array([[0, 0], [0, 1], [1, 1]], dtype=np.float32), [4000, 2500, 2], axis=0)
    patients = each(6502)
    patients[6501] = patients[6500]  # two equal records of one patient are no pair
    folder = prepared(tmp_path, rows, patients)
    duplicates(folder)
    counts = read_json(folder / "duplicates.json")
    assert counts["identical"] == {
        "records": 6500, "patients": 6500, "pairs": 4000 * 3999 // 2 + 2500 * 2499 // 2, "across_splits": 0,
        "both_audited": 4000 * 3999 // 2 + 2500 * 2499 // 2, "different_labels": 0, "listed": 2 * (100 * 99 // 2),
    }  # fmt: skip
    assert counts["near"]["pairs"] == 0
    assert counts["of_one_patient"] == 2
    monkeypatch.setattr(stage, "LISTED", 60)
    assert len(search(folder)) == 60
    assert read_json(folder / "duplicates.json")["identical"] == counts["identical"] | {"listed": 60}


def test_a_group_of_one_patient_and_a_late_other_is_listed(tmp_path) -> None:
    inputs = np.concatenate([np.ones((150, 2)), [[0, 1], [1, 0]]]).astype(np.float32)
    folder = prepared(tmp_path, inputs, ["A"] * 149 + ["B", "C", "D"])
    assert search(folder) == {(row, 149): "identical" for row in range(100)}
    assert read_json(folder / "duplicates.json")["identical"]["pairs"] == 149


def test_only_the_nearest_are_listed_where_there_are_many(tmp_path, monkeypatch) -> None:
    inputs = crowded("signal")
    folder = prepared(tmp_path, inputs, each(300))
    duplicates(folder)
    every = read_table(folder / "duplicates.parquet", "duplicates").query("kind == 'near'")
    monkeypatch.setattr(stage, "LISTED", 10)
    monkeypatch.setattr(near, "CANDIDATES", 50)
    duplicates(folder)
    few = read_table(folder / "duplicates.parquet", "duplicates").query("kind == 'near'")
    assert few["record_a"].tolist() == every["record_a"].tolist()[:10]
    assert read_json(folder / "duplicates.json")["near"]["pairs"] == len(every)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_smallest_datasets(n: int, tmp_path) -> None:
    folder = prepared(tmp_path, np.ones((n, 1, 8, 8), dtype=np.uint8), each(n))
    assert len(search(folder)) == n * (n - 1) // 2


def collections(open_data: Path, squared: bool) -> tuple[np.ndarray, list[str], list[str]]:
    """Images, patients and file names of Hannover and, after them, of covid-chestxray."""
    hannover = pd.read_csv(open_data / "covid19_hannover/data.csv")
    cohen = pd.read_csv(open_data / "covid_chestxray/metadata_subset.csv")
    paths = [open_data / "covid19_hannover/png" / f"{name}.png" for name in hannover["image_id"]]
    paths += [open_data / "covid_chestxray" / name for name in cohen["image_file"]]
    images = [Image.open(path).convert("L") for path in paths]
    if squared:  # as covid-chestxray did with the images of Hannover
        images = [ImageOps.fit(image, (min(image.size),) * 2) for image in images]
    inputs = np.stack([np.asarray(image.resize((64, 64), Image.Resampling.BILINEAR))[None] for image in images])
    patients = [f"h{name}" for name in hannover["patient_id"]] + [f"c{name}" for name in cohen["patientid"]]
    return inputs, patients, [path.stem for path in paths]


@pytest.mark.parametrize(("squared", "shared"), [(True, 76), (False, 7)])
def test_the_overlap_of_two_public_collections(open_data, tmp_path, squared: bool, shared: int) -> None:
    """82 images are in both under one name, most of them cropped to a square in one; crops are found only if undone.

    Six were not cropped to the middle. Patients of covid-chestxray alone share images, too.
    """
    inputs, patients, names = collections(open_data, squared)
    found = search(prepared(tmp_path, inputs, patients))
    across = [(a, b) for a, b in found if patients[a][0] != patients[b][0]]
    assert len(across) == shared
    assert all(names[a] == names[b] for a, b in across)
    own = {(patients[a], patients[b]) for a, b in found if patients[a][0] == patients[b][0]}
    assert own == {("c97", "c178"), ("c285", "c339"), ("c287", "c340")}


def test_real_subsets(nih_prepared, ptbxl_prepared, tmp_path) -> None:
    """No copies among 1,000 radiographs; among 500 ECGs one of two patients, and two of the same."""
    for folder, pairs, own in ((nih_prepared, 0, 0), (ptbxl_prepared, 1, 4)):
        copy = tmp_path / folder.name
        copy.mkdir()
        for name in ("records.parquet", "inputs.npy", "labels.npy"):
            (copy / name).symlink_to(folder / name)
        found = search(copy)
        assert len(found) == pairs
        assert read_json(copy / "duplicates.json")["of_one_patient"] == own
    table = read_table(copy / "duplicates.parquet", "duplicates")
    assert table[["patient_a", "patient_b", "kind"]].to_numpy().tolist() == [["16690", "16723", "near"]]


def test_the_command(tmp_path) -> None:
    folder = prepared(tmp_path, np.ones((2, 3), dtype=np.float32), each(2))
    done = CliRunner().invoke(main, ["duplicates", "--dataset", str(folder), "--threads", "2"])
    assert done.exit_code == 0, done.output
    assert json.loads((folder / "duplicates.json").read_text())["identical"]["pairs"] == 1
