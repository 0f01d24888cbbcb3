"""FairVision: made-up patients in the released layout, its variants, and blank images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from end_to_end import end_to_end
from picture_folders import fairvision as release
from PIL import Image
from real_sources import edit, refused, source

from tailrisk.datasets.decode import BlankError
from tailrisk.datasets.fairvision import fundus, needs
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.prepare import read
from tailrisk.errors import UserError

CLASSES = [
    "healthy",
    "non-vision-threatening DR",
    "vision-threatening DR",
    "glaucoma",
    "early AMD",
    "intermediate AMD",
    "late AMD",
]


def fairvision(folder: Path, **options):
    return source(source="fairvision", path=str(folder), **options)


@pytest.fixture
def folder(tmp_path) -> Path:
    return release(tmp_path / "FairVision")


def test_labels_ids_and_groups(folder) -> None:
    dataset = read(fairvision(folder, splits="official"))
    assert (dataset.task, dataset.classes) == ("multiclass", CLASSES)
    assert len(set(dataset.record)) == 180  # numbers start anew in each part
    assert dataset.record[[0, 60, 120]].tolist() == ["amd-00001", "dr-00001", "glaucoma-00001"]
    assert np.array_equal(dataset.record, dataset.patient)
    # By the fixture: AMD 1 to 4 are early, intermediate, late, normal; DR 1 is threatening, 2 is not; 1 has glaucoma.
    named = [CLASSES[label] for label in dataset.labels]
    assert named[:4] == ["early AMD", "intermediate AMD", "late AMD", "healthy"]
    assert named[60:62] == ["vision-threatening DR", "non-vision-threatening DR"]
    assert named[120:122] == ["glaucoma", "healthy"]
    first = dataset.groups.iloc[[0, 1, 2]]
    assert first["race"].tolist() == ["Black", "White", "Asian"]
    assert first["sex"].tolist() == ["male", "female", "male"]
    assert first["ethnicity"].tolist()[:1] == ["not Hispanic"] and first["ethnicity"].isna().tolist() == [
        False,
        True,
        False,
    ]
    assert first["age"].tolist() == ["20 to under 40"] * 3
    assert dataset.groups["disease"].value_counts().to_dict() == {
        "age-related macular degeneration": 60,
        "diabetic retinopathy": 60,
        "glaucoma": 60,
    }
    # 12 of 60 numbers end in 0 or 5; of the other 48, 8 are multiples of 6.
    assert {name: (dataset.split == name).sum() for name in ("audit", "validation", "test")} == {
        "audit": 3 * 40,
        "validation": 3 * 8,
        "test": 3 * 12,
    }
    assert read(fairvision(folder)).split is None
    assert dataset.expected == {"rows": 30_000, "records": 30_000, "patients": 30_000}
    assert sorted(dataset.checksums) == ["data_summary_amd.csv", "data_summary_dr.csv", "data_summary_glaucoma.csv"]


def test_all_the_way_without_blank_images(folder) -> None:
    spec = fairvision(folder, splits="official", size=16, max_quarantined=0.15)
    run = end_to_end(spec, folder / "run")
    blank = [number for number in range(1, 61) if number % 7 == 0]
    assert run.card["quarantined"] == {"constant": 3 * len(blank)}
    assert set(run.excluded["record"]) == {f"{name}-{n:05d}" for name in ("amd", "dr", "glaucoma") for n in blank}
    assert run.excluded["detail"].str.contains("standard deviation 0.").all()
    assert run.prepared.inputs.shape == (180 - 24, 1, 16, 16)
    assert list(run.groups.columns) == ["record", "race", "sex", "ethnicity", "age", "disease", "label"]


def test_one_disease_alone(folder) -> None:
    dataset = read(fairvision(folder, diseases=["Glaucoma"]))
    assert (dataset.task, dataset.classes, len(dataset.record)) == ("binary", ["healthy", "glaucoma"], 60)
    assert dataset.expected["rows"] == 10_000
    assert list(unmet(needs(fairvision(folder, diseases=["Glaucoma"])))) == []
    assert read(fairvision(folder, diseases=["DR", "AMD"])).classes == [CLASSES[n] for n in (0, 1, 2, 4, 5, 6)]


def test_documented_variants_of_the_layout(folder) -> None:
    expected = read(fairvision(folder)).record.tolist()
    (folder / "AMD/ReadMe/data_summary_amd.csv").rename(folder / "data_summary_amd.csv")
    (folder / "DR/ReadMe/data_summary_dr.csv").rename(folder / "DR/data_summary_dr.csv")
    (folder / "DR/Dataset").mkdir()
    (folder / "DR/Training").rename(folder / "DR/Dataset/Training")
    for name, other in (("Training", "train"), ("Validation", "val"), ("Test", "test")):
        (folder / "AMD" / name).rename(folder / "AMD" / other)
    for file in list(folder.rglob("slo_fundus_*.jpg")):
        file.rename(file.with_name(file.name.replace("slo_fundus_", "slo_")))
    dataset = read(fairvision(folder))
    assert dataset.record.tolist() == expected
    assert all(path.is_file() for path in dataset.inputs.paths)


def test_arrays_where_there_are_no_pictures(tmp_path) -> None:
    pictures, arrays = release(tmp_path / "jpg"), release(tmp_path / "npz", file="data_{}.npz")
    two = [read(fairvision(folder)).inputs for folder in (pictures, arrays)]
    assert [files.paths[0].name for files in two] == ["slo_fundus_00001.jpg", "data_00001.npz"]
    for row in (0, 70, 150):
        assert np.abs(two[0].decode(two[0].paths[row]).astype(int) - two[1].decode(two[1].paths[row])).mean() < 8
    # Both are never mixed, as their brightness differs: a picture that is missing stays missing.
    release(pictures, file="data_{}.npz")
    gone = read(fairvision(pictures)).inputs.paths[0]
    gone.unlink()
    assert gone in read(fairvision(pictures)).inputs.paths


def write(file: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(file)
    return file


def test_blank_images_by_their_own_pixels(tmp_path) -> None:
    stripes = np.tile([0, 6], (50, 40))  # mean 3, standard deviation 3
    with pytest.raises(BlankError, match=r"^mean 3\.0, standard deviation 3\.0$"):
        fundus(write(tmp_path / "x.png", stripes), (8, 8))
    # Without its stripes at the small size, which would be blank if it were measured there.
    assert fundus(write(tmp_path / "x.png", stripes + stripes // 3), (8, 8)).shape == (1, 8, 8)
    speck = np.zeros((50, 80))
    speck[0, :10] = 250  # mean 0.625, standard deviation 12.5
    with pytest.raises(BlankError, match=r"^mean 0\.6, standard deviation 12\.5$"):
        fundus(write(tmp_path / "x.png", speck), (8, 8))
    colours = np.stack([np.tile([0, 200], (8, 8)), np.zeros((8, 16)), np.full((8, 16), 255)], axis=2)
    assert fundus(write(tmp_path / "x.png", colours), (8, 16))[0].tolist() == colours[..., 0].tolist()


def test_damaged_files_have_a_reason(tmp_path) -> None:
    def unfit(file: Path, sentence: str) -> None:
        with pytest.raises(UserError, match=sentence):
            fundus(file, (8, 8))

    file = tmp_path / "data_00001.npz"
    np.savez(file, slo_fundus=np.zeros((0, 0), np.uint8))
    unfit(file, "its array slo_fundus is no image")
    np.savez(file, oct_bscans=np.zeros((2, 2, 2)))
    unfit(file, "it holds no array slo_fundus")
    np.savez(file, slo_fundus=np.array([{"a": 1}], dtype=object))
    unfit(file, "not a readable NPZ file")
    np.savez_compressed(file, slo_fundus=np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8))
    content = bytearray(file.read_bytes())
    damaged = content.copy()
    damaged[100:400] = bytes(300)
    file.write_bytes(damaged)
    unfit(file, r"not a readable NPZ file \(Error -3 while decompressing data")
    damaged = content.copy()
    damaged[content.index(b"PK\x01\x02") + 10] = 77  # how the directory says that it is compressed
    file.write_bytes(damaged)
    unfit(file, r"not a readable NPZ file \(That compression method is not supported\)")
    file.write_bytes(file.read_bytes()[:50])
    unfit(file, "not a readable NPZ file")
    file.write_bytes(b"")
    unfit(file, "not a readable NPZ file")
    picture = write(tmp_path / "slo_fundus_00001.jpg", np.random.default_rng(0).integers(0, 255, (64, 64)))
    picture.write_bytes(picture.read_bytes()[:900])
    unfit(picture, "truncated")
    for gone in (tmp_path / "x.npz", tmp_path / "x.jpg"):
        with pytest.raises(FileNotFoundError):
            fundus(gone, (8, 8))


@pytest.mark.parametrize(
    ("disease", "column", "value", "sentence"),
    [
        ("AMD", "filename", "slo_00003.jpg", "column 'filename' is not of the form data_<number>.npz in row 3"),
        ("AMD", "filename", "data_00001.npz", "column 'filename' names a file for the second time in row 3"),
        ("DR", "dr", "yes", "column 'dr' has values that the source does not know: yes"),
        ("Glaucoma", "glaucoma", "", "column 'glaucoma' is blank in row 3"),
        ("Glaucoma", "use", "tuning", "column 'use' is none of training, validation, test in row 3"),
        ("DR", "age", "unknown", "column 'age' is not an age in years in row 3"),
    ],
)
def test_bad_cells_are_refused(folder, disease, column, value, sentence) -> None:
    edit(folder / disease / f"ReadMe/data_summary_{disease.lower()}.csv", 3, column, value)
    refused(fairvision(folder), sentence)


def test_values_in_other_letters_are_the_same(folder) -> None:
    table = folder / "AMD/ReadMe/data_summary_amd.csv"
    frame = pd.read_csv(table, dtype=str).assign(
        amd=lambda rows: rows["amd"].str.upper(), race="White ", gender="FEMALE"
    )
    expected = read(fairvision(folder)).labels
    frame.to_csv(table, index=False, encoding="utf-8-sig")
    dataset = read(fairvision(folder))
    assert np.array_equal(dataset.labels, expected)
    assert set(dataset.groups["race"][:60]) == {"White"}


def test_what_lacks_is_told_before_anything_is_read(folder) -> None:
    assert list(unmet(needs(fairvision(folder)))) == []
    table = folder / "DR/ReadMe/data_summary_dr.csv"
    table.unlink()
    (folder / "Glaucoma").rename(folder / "glaucoma_")
    lacking = list(unmet(needs(fairvision(folder))))
    assert lacking[0] == f"{table} does not exist"
    assert f"{folder / 'Glaucoma/Test'} does not exist" in lacking
    refused(fairvision(folder), f"the table {table} does not exist")
    refused(fairvision(folder, diseases=["Glaucoma"]), f"the table {folder / 'Glaucoma/ReadMe'}")
    for file in list((folder / "AMD").rglob("*.jpg")):
        file.unlink()
    refused(fairvision(folder, diseases=["AMD"]), f"none of the 60 images is below {folder}, such as {folder / 'AMD'}")
