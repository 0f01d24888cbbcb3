"""PadChest: the folder as downloaded, from its quirks to an audit."""

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from chest_folders import PADCHEST_TABLE, padchest_folder
from end_to_end import end_to_end
from PIL import Image
from real_sources import edit, refused, source

from tailrisk.datasets.needs import unmet
from tailrisk.datasets.padchest import needs
from tailrisk.datasets.prepare import read


@pytest.fixture
def folder(tmp_path) -> Path:
    return padchest_folder(tmp_path / "padchest")


def padchest(folder: Path, **options):
    return source(source="padchest", path=str(folder), **({"size": 16, "least": 10} | options))


def unpacked(folder: Path) -> Path:
    """The table without compression."""
    table = folder / PADCHEST_TABLE
    table.write_bytes(gzip.decompress((folder / f"{PADCHEST_TABLE}.gz").read_bytes()))
    return table


def test_padchest_end_to_end(folder) -> None:
    run = end_to_end(padchest(folder, validation=0.2, test=0.2), folder.parent)
    assert run.card["rows"] == 74
    assert run.card["excluded"] == {
        "labelled as a suboptimal study": 1,
        "labelled as to be excluded": 1,
        "labels not readable": 1,
        "no labels": 2,
        "only stated as unchanged": 1,
        "patient unknown": 1,
        "projection marked as to be excluded": 1,
        "projection unknown": 1,
        "view not frontal": 2,
    }
    # Twenty patients each have effusion, effusion and scoliosis, or nothing; beside them images a, c and d.
    assert run.card["classes"] == {"normal": 20 + 1, "pleural effusion": 40 + 1, "scoliosis": 20 + 1}
    assert run.card["input_shape"] == [1, 16, 16]
    assert run.reason("n_x.png") == "labels not readable"
    assert set(run.groups) == {"record", "sex", "age", "view", "labelled_by", "label"}
    assert run.audit["subgroups"]["variable"].isin(["sex", "age"]).any()


def test_groups(folder) -> None:
    groups = read(padchest(folder, views="all")).groups.set_index(read(padchest(folder, views="all")).record)
    assert groups.loc["a_x.png"].tolist() == ["female", "60 to under 80", "PA", "physician"]
    assert groups.loc["b_x.png", "view"] == "lateral"
    assert groups.loc["f_x.png", "view"] == "costal"
    assert groups.loc["d_x.png", "view"] == "AP supine"
    assert pd.isna(groups.loc["c_x.png", ["sex", "age"]]).all()  # None
    assert pd.isna(groups.loc["d_x.png", ["sex", "age"]]).all()  # O, and born 210 years before
    assert groups.loc["c_x.png", "labelled_by"] == "network"


def test_labels_are_cleaned(folder) -> None:
    dataset = read(padchest(folder, least=1))
    assert dataset.classes == ["normal", "pleural effusion", "rare thing", "scoliosis"]
    rows = dict(zip(dataset.record, dataset.labels.tolist(), strict=True))
    assert rows["c_x.png"] == [0, 1, 0, 0]
    assert rows["d_x.png"] == [0, 0, 1, 1]
    assert read(padchest(folder, least=22)).classes == ["pleural effusion"]
    refused(padchest(folder, least=42), "no label is borne by 42 images: set `least` to fewer")


def test_normal_against_abnormal(folder) -> None:
    dataset = read(padchest(folder, target="normal"))
    assert (dataset.task, dataset.classes) == ("binary", ["abnormal", "normal"])
    assert dataset.record[:3].tolist() == ["a_x.png", "c_x.png", "d_x.png"]
    assert dataset.labels[:3].tolist() == [1, 0, 0]
    assert dataset.labels.sum() == 21
    assert dataset.groups["findings"][:3].tolist() == [["normal"], ["pleural effusion"], ["scoliosis"]]


def test_only_what_physicians_labelled(folder) -> None:
    file = unpacked(folder)
    edit(file, 1, "MethodLabel", "None")
    dataset = read(padchest(folder, physicians_only=True, least=1))
    assert dataset.record.tolist() == ["d_x.png"]
    reasons = dataset.excluded["reason"].value_counts()
    assert reasons["labelled by a network"] == 61
    assert dataset.excluded.set_index("record").loc["a_x.png", "reason"] == "not stated who labelled it"
    assert len(dataset.excluded) == 73


def test_sixteen_bits_keep_their_range(tmp_path) -> None:
    folder = padchest_folder(tmp_path, patients=3)
    spec = padchest(folder, size=8, least=1)
    dataset = read(spec)
    number = dataset.record.tolist().index("a_x.png")
    # Not brightened: 0 to 25,700 of 65,535 are 0 to 100.
    pixels = np.repeat(np.arange(0, 25_701, 3671, dtype=np.uint16)[None], 8, axis=0)
    Image.fromarray(pixels).save(dataset.inputs.paths[number])
    decoded = dataset.inputs.decode(dataset.inputs.paths[number])
    assert decoded[0, 0].tolist() == [0, 14, 29, 43, 57, 71, 86, 100]


def test_images_lie_in_folders_or_flat(folder) -> None:
    dataset = read(padchest(folder))
    assert {path.parent.name for path in dataset.inputs.paths} == {"0", "1", "padchest"}
    for path in dataset.inputs.paths:
        if path.parent != folder:
            path.rename(folder / path.name)
    assert {path.parent for path in read(padchest(folder)).inputs.paths} == {folder}


def test_what_is_not_there_is_said(folder) -> None:
    assert not list(unmet(needs(padchest(folder))))
    unpacked(folder)
    (folder / f"{PADCHEST_TABLE}.gz").unlink()
    assert list(read(padchest(folder)).checksums) == [PADCHEST_TABLE]
    (folder / PADCHEST_TABLE).unlink()
    assert list(unmet(needs(padchest(folder)))) == [f"{folder / PADCHEST_TABLE} does not exist"]
    refused(padchest(folder), f"the table {folder / PADCHEST_TABLE} does not exist")


def test_patients_are_one_however_their_number_is_stored(folder) -> None:
    """In the table, rows 1 and 4 are images a and d of patients 1 and 3; others are called P0 and so on."""
    before = read(padchest(folder)).patient.tolist()
    file = unpacked(folder)
    edit(file, 1, "PatientID", "1.0")
    edit(file, 4, "PatientID", "3.0")
    found = read(padchest(folder)).patient.tolist()
    assert found == before
    assert found[:3] == ["1", "2", "3"]
    edit(file, 4, "PatientID", "8.39860488694292E+35")
    refused(
        padchest(folder), "column 'PatientID' has lost digits of ids (store them as text), such as 1.2E+15, in row 4"
    )


def test_bad_tables_are_refused(folder) -> None:
    file = unpacked(folder)
    whole = file.read_text()
    edit(file, 2, "ImageID", "a_x.png")
    refused(padchest(folder), "column 'ImageID' names an image for the second time in row 2")
    file.write_text(whole.replace("['", "[["))
    refused(padchest(folder), "no image is a record (labels not readable in row 1)")
    file.write_text(whole.replace(",Projection,", ",View,"))
    refused(padchest(folder), "has no column 'Projection'")
