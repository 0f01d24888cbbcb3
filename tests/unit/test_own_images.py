"""A user's own images: the Hannover radiographs all the way, kinds of files and labels, and what is refused."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from end_to_end import end_to_end
from PIL import Image
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from real_sources import refused, source

from tailrisk.config.plan import Plan
from tailrisk.datasets import prepare
from tailrisk.datasets.contract import Files, open_prepared
from tailrisk.datasets.groups import groups
from tailrisk.datasets.needs import unmet
from tailrisk.datasets.own_images import image, needs
from tailrisk.errors import UserError
from tailrisk.tables import read_json, read_table

OPTIONS = {"source": "images", "patient": "pid", "file": "file", "label": "finding", "size": 16}


def pixels(row: int) -> np.ndarray:
    """A picture of 20 × 24 pixels of its own for each row."""
    return np.random.default_rng(row).integers(0, 255, (20, 24), dtype=np.uint8)


@pytest.fixture
def study(tmp_path) -> Path:
    """manifest.csv with 120 images of 80 patients, every fourth with a finding, and their PNG files in folders."""
    rows = []
    for row in range(120):
        file = Path(f"site {row % 2}/{row:03d}.png")
        (tmp_path / file.parent).mkdir(exist_ok=True)
        Image.fromarray(pixels(row)).save(tmp_path / file)
        rows.append((f"{row % 80}.0", f"img{row}", file, "sick" if row % 4 == 0 else "well", "f" if row % 2 else "m"))
    frame = pd.DataFrame(rows, columns=["pid", "rid", "file", "finding", "sex"])
    frame.to_csv(tmp_path / "manifest.csv", index=False)
    return tmp_path


def spec(place: Path, **options):
    return source(**OPTIONS | {"path": str(place / "manifest.csv")} | options)


def edit(folder: Path, column: str, values: dict[int, object]) -> None:
    """Set cells of the manifest; rows are counted from 1 without the header."""
    frame = pd.read_csv(folder / "manifest.csv", dtype=object)
    for row, value in values.items():
        frame.loc[row - 1, column] = value
    frame.to_csv(folder / "manifest.csv", index=False)


def files(options) -> Files:
    found = prepare.read(options).inputs
    assert isinstance(found, Files)
    return found


def test_hannover_end_to_end(open_data, tmp_path) -> None:
    """The folder as it was published: its table has names without a suffix, its images lie in a folder below."""
    folder = open_data / "covid19_hannover"
    options = source(
        source="images",
        path=str(folder / "data.csv"),
        folder=str(folder / "png"),
        file="image_id",
        suffix=".png",
        patient="patient_id",
        record="image_id",
        label="projection",
        groups=["sex", "modality"],
        size=[16, 24],
        split_seed=1,
        licence="CC BY 3.0",
    )
    run = end_to_end(options, tmp_path)
    assert (run.card["n_records"], run.card["n_patients"], run.card["patients_with_several_records"]) == (243, 71, 37)
    assert run.card["classes"] == {"ap": 194, "pa": 49}
    assert run.card["input_shape"] == [1, 16, 24]
    assert run.card["task"] == "binary"
    assert run.groups["sex"].value_counts().to_dict() == {"m": 180, "f": 63}
    assert run.groups["modality"].value_counts().to_dict() == {"CR": 212, "DX": 31}
    for name in ("fff13f3a", "b343e657"):
        with Image.open(folder / "png" / f"{name}.png") as picture:
            small = np.asarray(picture.resize((24, 16), Image.Resampling.BILINEAR))
        assert np.array_equal(run.prepared.inputs[run.record(name), 0], small)
    assert len(run.excluded) == 0


def test_own_images_end_to_end_with_faults(study, tmp_path) -> None:
    """Of 120 images, one is missing, one black, one no picture; the patients' numbers were written as 7.0."""
    (study / "site 0/004.png").unlink()
    Image.fromarray(np.zeros((20, 24), np.uint8)).save(study / "site 1/005.png")
    (study / "site 0/006.png").write_text("no picture")
    run = end_to_end(spec(study, record="rid", groups=["sex"], max_quarantined=0.03), tmp_path / "run")
    assert (run.card["rows"], run.card["n_records"], run.card["n_patients"]) == (120, 117, 80)
    assert run.card["quarantined"] == {"constant": 1, "missing": 1, "unreadable": 1}
    assert [run.reason(name) for name in ("img4", "img5", "img6")] == ["missing", "constant", "unreadable"]
    assert run.excluded["stage"].tolist() == ["quarantine"] * 3
    assert run.excluded["detail"][0] == str(study / "site 0/004.png")
    assert run.records["patient"][run.record("img87")] == "7"
    assert run.card["classes"] == {"sick": 29, "well": 88}
    assert run.groups["sex"][run.record("img7")] == "f"
    assert run.groups["label"][run.record("img8")] == "sick"
    assert np.array_equal(
        run.prepared.inputs[run.record("img119")], files(spec(study)).decode(study / "site 1/119.png")
    )


def test_too_many_faults_stop_and_a_second_run_goes_on(study, tmp_path, capfd) -> None:
    """The images are fetched again, as the sentence says; rows that were decoded are not decoded again."""
    kept = study / "kept"
    shutil.move(study / "site 1", kept)
    with pytest.raises(UserError, match=r"of 120 images cannot be used so far, more than the share 0.01 .*001.png"):
        prepare.prepare("x", spec(study), tmp_path / "out")
    assert not (tmp_path / "out/inputs.npy").exists()
    assert not (tmp_path / "out/card.json").exists()
    shutil.move(kept, study / "site 1")
    capfd.readouterr()
    prepare.prepare("x", spec(study), tmp_path / "out")
    assert (
        capfd.readouterr().err
        == "32 of 120 images already decoded; 32 that could not be used, or have changed, are decoded again\n"
    )
    prepare.prepare("x", spec(study), tmp_path / "undisturbed")
    for name in ("inputs.npy", "labels.npy", "records.parquet", "excluded.parquet", "card.json"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("stage", ["validate_input_blocks", "write_array", "write_table", "card"])
def test_no_half_finished_dataset_is_seen(study, tmp_path, monkeypatch, capfd, stage) -> None:
    """Preparing fails at each step, beside the dataset of an earlier run; what is decoded is not lost."""
    out = tmp_path / "out"
    prepare.prepare("x", spec(study), out)
    (out / ".inputs.npy.0123456789ab.tmp").write_bytes(b"left by a killed job")
    before = (out / "inputs.npy").read_bytes()

    def failing(*arguments):
        if stage == "validate_input_blocks":  # half of the array is written
            yield next(iter(arguments[2]))[:60]
        raise OSError(28, "No space left on device")

    def failing_at_once(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prepare, stage, failing if stage == "validate_input_blocks" else failing_at_once)
        with pytest.raises(OSError, match="No space"):
            prepare.prepare("x", spec(study, size=8), out)
    assert not (out / "card.json").exists()
    inputs = np.load(out / "inputs.npy")
    assert inputs.shape == ((120, 1, 16, 16) if stage == "validate_input_blocks" else (120, 1, 8, 8))
    assert not list(out.glob(".*.tmp"))
    capfd.readouterr()
    prepare.prepare("x", spec(study, size=8), out)
    assert capfd.readouterr().err == "120 of 120 images already decoded\n"
    assert read_json(out / "card.json")["input_shape"] == [1, 8, 8]
    prepare.prepare("x", spec(study), out)
    assert (out / "inputs.npy").read_bytes() == before


def test_options_that_change_no_image_decode_nothing_anew(study, tmp_path, monkeypatch, capfd) -> None:
    groups_, share, folder = {"groups": ["sex"]}, {"max_quarantined": 0.5}, tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "write_blocks", lambda *arguments: (_ for _ in ()).throw(OSError("stopped")))
        for options in ({}, groups_, share, {"title": "X"}, {"size": 8}):
            with pytest.raises(OSError, match="stopped"):
                prepare.prepare("x", spec(study, **options), folder)
    assert capfd.readouterr().err == "120 of 120 images already decoded\n" * 3


def test_groups_are_of_the_records_that_are_left(study, tmp_path) -> None:
    for row in (0, 60, 119):
        (study / f"site {row % 2}/{row:03d}.png").unlink()
    options = spec(study, record="rid", max_quarantined=0.03)
    prepare.prepare("x", options, tmp_path / "out")
    edit(study, "sex", {1: "gone", 2: "kept"})
    with pytest.raises(UserError, match=r"manifest.csv has changed since .* was prepared"):
        groups(options, tmp_path / "out")
    prepare.prepare("x", options, tmp_path / "out")
    groups(spec(study, record="rid", groups=["sex"]), tmp_path / "out")
    found = read_table(tmp_path / "out/groups.parquet", "groups")
    assert found["record"].tolist() == [f"img{row}" for row in range(120) if row not in (0, 60, 119)]
    assert found["sex"].tolist()[:3] == ["kept", "m", "f"]
    edit(study, "rid", {1: "img1"})  # twice, in a table that is another one now
    with pytest.raises(UserError, match="a record id occurs a second time, in row 2"):
        groups(options, tmp_path / "out")


def test_several_labels(study, tmp_path) -> None:
    """Columns of 0 and 1; a row in which none is observed is no record, one in which some are not is one."""
    frame = pd.read_csv(study / "manifest.csv", dtype=str)
    frame["mass"] = ["01"[row % 2] for row in range(120)]
    frame["nodule"] = [["0", "1.0", "", "True"][row % 4] for row in range(120)]
    frame.loc[10, ["mass", "nodule"]] = [" ", None]
    frame.to_csv(study / "manifest.csv", index=False)
    run = end_to_end(
        spec(study, record="rid", label=["mass", "nodule"], groups=["mass"], split_seed=2), tmp_path / "run"
    )
    assert (run.card["task"], run.card["n_outputs"]) == ("multilabel", 2)
    assert (run.card["rows"], run.card["n_records"]) == (120, 119)
    assert run.card["excluded"] == {"no label is observed": 1}
    assert run.reason("img10") == "no label is observed"
    # 30 rows of each kind; row 10 was of the kind 0 and blank.
    assert run.card["classes"] == {"mass": 60, "nodule": 60}
    labels = run.prepared.labels
    assert labels[run.record("img3")].tolist() == [1, 1]
    assert labels[run.record("img6")][0] == 0
    assert np.isnan(labels[run.record("img6")][1])
    assert np.isnan(labels[:, 1]).sum() == 29
    assert run.groups["label"][run.record("img1")] == ["mass", "nodule"]
    edit(study, "nodule", {5: "2", 9: "unsure", 13: "NA"})
    refused(spec(study, label=["mass", "nodule"]), "column 'nodule' is neither 0, 1 nor blank in row 5, 9, 13")
    edit(study, "mass", dict.fromkeys(range(1, 121), ""))
    edit(study, "nodule", dict.fromkeys(range(1, 121), ""))
    refused(spec(study, label=["mass", "nodule"]), "the columns of `label` are blank in every row")


def test_rows_of_one_class_alone(study, tmp_path) -> None:
    frame = pd.read_csv(study / "manifest.csv", dtype=str).assign(mass="1", nodule=lambda f: f["pid"].str[0])
    frame["nodule"] = (frame["nodule"] > "4").astype(int)
    frame.to_csv(study / "manifest.csv", index=False)
    with pytest.raises(UserError, match="class 'mass' has 0 patients without it in the audit split"):
        prepare.prepare("x", spec(study, label=["mass", "nodule"]), tmp_path / "out")


def test_formats_and_depths(tmp_path) -> None:
    """One picture in every format; those of 16 bits by their own range, those without loss to the bit."""
    gray = pixels(1)
    low, high = int(gray.min()), int(gray.max())
    own = np.rint((gray.astype(float) - low) / (high - low) * 255)
    for name in ("a.png", "a.bmp", "a.tif", "a.pgm", "a.gif", "a.webp"):
        Image.fromarray(gray).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
        assert np.array_equal(image(tmp_path / name, (20, 24), False)[0], gray), name
    Image.fromarray(gray).save(tmp_path / "a.JPG", quality=95)
    assert np.abs(image(tmp_path / "a.JPG", (20, 24), False)[0] - gray.astype(float)).mean() < 4
    for name in ("deep.png", "deep.tif"):
        Image.fromarray(gray.astype(np.uint16) * 4 + 1000).save(tmp_path / name)
        assert np.array_equal(image(tmp_path / name, (20, 24), False)[0], own), name
        assert np.array_equal(image(tmp_path / name, (20, 24), True), np.stack([own] * 3)), name


def written_dicom(path: Path, stored: np.ndarray) -> None:
    """A gray DICOM file of 16 bits without windows."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = stored.shape
    data.PhotometricInterpretation, data.SamplesPerPixel, data.PixelRepresentation = "MONOCHROME2", 1, 0
    data.BitsAllocated = data.BitsStored = 16
    data.HighBit = 15
    data.PixelData = stored.astype("<u2").tobytes()
    data.save_as(path, enforce_file_format=True)


def test_dicom_files_beside_others(study, tmp_path) -> None:
    (study / "site 1/003.png").unlink()
    written_dicom(study / "site 1/003.dcm", pixels(3).astype(np.uint16) * 16)
    edit(study, "file", {4: "site 1/003.dcm"})
    prepare.prepare("x", spec(study, size=[20, 24]), tmp_path / "out")
    found, gray = open_prepared(tmp_path / "out").inputs, pixels(3).astype(float)
    own = (gray - gray.min()) / (gray.max() - gray.min()) * 255
    assert np.abs(found[3, 0] - own).max() <= 1
    assert np.array_equal(found[4, 0], pixels(4))
    assert read_json(tmp_path / "out/card.json")["quarantined"] == {}
    assert image(study / "site 1/003.dcm", (20, 24), True).shape == (3, 20, 24)
    (study / "site 1/003.dcm").write_text("no DICOM")
    with pytest.raises(UserError, match="not a DICOM file"):
        image(study / "site 1/003.dcm", (20, 24), False)


def test_colour(study, tmp_path) -> None:
    colour = np.random.default_rng(0).integers(0, 255, (20, 24, 3), dtype=np.uint8)
    Image.fromarray(colour).save(study / "site 0/002.png")
    alpha = np.dstack([colour, np.zeros((20, 24), np.uint8)])
    Image.fromarray(alpha).save(study / "site 1/003.png")
    prepare.prepare("x", spec(study, size=[20, 24], colour=True), tmp_path / "out")
    found = open_prepared(tmp_path / "out").inputs
    assert found.shape == (120, 3, 20, 24)
    assert np.array_equal(found[2], colour.transpose(2, 0, 1))
    assert np.array_equal(found[3], found[2])  # transparent or not
    assert np.array_equal(found[4], np.stack([pixels(4)] * 3))


def test_where_files_lie(study) -> None:
    """From the table's folder, from `folder`, through `..`, and where a path starts with /."""
    other = study / "manifests"
    other.mkdir()
    shutil.copy(study / "manifest.csv", other)
    assert files(spec(other, folder=str(study))).paths[3] == study / "site 1/003.png"
    edit(other, "file", {2: str(study / "site 1/001.png"), 4: "../site 1/003.png"})
    found = files(spec(other)).paths
    assert found[1] == study / "site 1/001.png"
    assert found[3].samefile(study / "site 1/003.png")
    edit(study, "file", {row + 1: f"site {row % 2}/{row:03d}" for row in range(120)})
    assert files(spec(study, suffix=".png")).paths[5] == study / "site 1/005.png"
    refused(
        spec(study),
        f"none of the 120 images in {study / 'manifest.csv'} is there, such as {study / 'site 0/000'}: fetch them, or "
        "correct `folder`, `file` or `suffix`",
    )


@pytest.mark.parametrize(
    ("column", "values", "options", "sentence"),
    [
        ("file", {3: ""}, {}, "column 'file' is blank in row 3"),
        ("file", {3: "site 0/000.png"}, {}, "column 'file' names a file a second time in row 3"),
        ("file", {3: "./site 0/000.png"}, {}, "column 'file' names a file a second time in row 3"),
        ("file", {5: "site 1/../site 0/000.png"}, {}, "column 'file' names a file a second time in row 5"),
        ("finding", {2: " "}, {}, "column 'finding' is blank in row 2"),
        ("finding", dict.fromkeys(range(1, 121), "well"), {}, "column 'finding' has a single class ('well')"),
        ("pid", {2: ""}, {}, "column 'pid' is blank in row 2"),
        ("pid", {2: "01"}, {}, "column 'pid' writes a number in several ways, such as 7 and 007"),
        ("finding", {n: f"Doe {n}" for n in range(1, 121)}, {}, "120 classes in 120 rows, most of them of a single"),
        ("rid", {9: "img0"}, {"record": "rid"}, "a record id occurs a second time, in row 9"),
        ("rid", {}, {"groups": ["file"]}, "column 'file' identifies patients or records and cannot be a group"),
        ("rid", {}, {"file": "fiel"}, "has no column 'fiel'; did you mean 'file'?"),
        ("rid", {}, {"label": ["finding", "sexx"]}, "has no column 'sexx'; did you mean 'sex'?"),
        ("rid", {}, {"split": "sex"}, "column 'sex' is not audit, validation or test in row 1, 2, 3 and 117 more"),
    ],
)
def test_faults_of_a_manifest_are_named(study, column, values, options, sentence) -> None:
    edit(study, column, values)
    refused(spec(study, **options), sentence)
    refused(spec(study, **options), str(study / "manifest.csv"))


def test_split_of_ones_own(study, tmp_path) -> None:
    frame = pd.read_csv(study / "manifest.csv", dtype=str)
    number = frame["pid"].astype(float)
    frame["part"] = np.select([number < 10, number < 30], [" validation ", "test"], "audit")
    frame.to_csv(study / "manifest.csv", index=False)
    prepare.prepare("x", spec(study, split="part"), tmp_path / "out")
    patients = read_table(tmp_path / "out/records.parquet", "records").drop_duplicates("patient")
    assert patients["split"].value_counts().to_dict() == {"audit": 50, "test": 20, "validation": 10}


def test_what_images_need(study) -> None:
    options = spec(study, folder=str(study / "absent"), groups=["sx"])
    sentences = list(unmet(needs(options)))
    assert sorted(sentences)[0] == f"{study / 'absent'} does not exist"
    assert [s for s in sentences if "has no column 'sx'" in s]
    assert list(unmet(needs(spec(study, groups=["sex"])))) == []


def test_faults_of_the_options() -> None:
    for options, sentence in (
        ({"label": ["a"]}, "a list holds two columns or more"),
        ({"label": ["a", "b", "a"]}, "the label column 'a' is listed twice"),
        ({"size": 4}, "a whole number of pixels from 8 to 4096, or"),
        ({"colur": True}, "did you mean 'colour'?"),
    ):
        with pytest.raises(UserError, match=sentence.replace("?", r"\?")):
            source(**OPTIONS | {"path": "x.csv"} | options)


def test_groups_and_separators_prepare_nothing_anew(study) -> None:
    """Neither is among what decides a prepared dataset, and both are among what decides its groups."""

    def plan(**options) -> Plan:
        one = OPTIONS | {"path": "x.csv"} | options
        entry = {"datasets": "x", "models": "m", "recipe": {"epochs": 1, "batch_size": 8, "learning_rate": 0.1}}
        model = {"architecture": "wide_resnet", "depth": 10, "width": 1}
        return Plan.of({"n_models": 4, "datasets": {"x": one}, "models": {"m": model}, "experiments": {"e": entry}})

    bare, other = plan(groups=["sex"]), plan(groups=["sex"], separators={"sex": ";"})
    assert bare.source("x") == other.source("x") == plan().source("x")
    assert bare.grouping("x") != other.grouping("x") != plan().grouping("x")
    assert plan(suffix=".png").source("x") != plan().source("x")
    assert bare.source_code("x", "prepare") == other.source_code("x", "prepare")


def test_a_change_of_the_readers_code_decodes_anew(study, monkeypatch) -> None:
    """The key of what is decoded covers the code, also of what is imported where it is needed (DICOM)."""
    options = spec(study)
    key = prepare._key(options, files(options))
    assert prepare._key(spec(study, groups=["sex"]), files(options)) == key
    assert prepare._key(spec(study, size=8), files(options)) != key
    from tailrisk.config import fingerprint

    monkeypatch.setattr(fingerprint, "_tree_hash", lambda name: "other" if name.endswith("dicom") else "same")
    fingerprint.fingerprint.cache_clear()
    other = prepare._key(options, files(options))
    monkeypatch.setattr(fingerprint, "_tree_hash", lambda name: "same")
    fingerprint.fingerprint.cache_clear()
    assert prepare._key(options, files(options)) != other
    monkeypatch.undo()
    fingerprint.fingerprint.cache_clear()
