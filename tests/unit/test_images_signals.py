"""NIH ChestX-ray14 and PTB-XL: real files against independent readers, what is refused, and the baselines."""

import csv
import json
import re
import shutil
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

from tailrisk.config.load import parse
from tailrisk.config.sources import AnySource
from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.datasets.images import gray_image, gray_images
from tailrisk.datasets.labels import age_bands
from tailrisk.datasets.prepare import groups, prepare, read
from tailrisk.datasets.ptbxl import LEADS, SUPERCLASSES, signal
from tailrisk.errors import UserError
from tailrisk.stages.baseline import baseline
from tailrisk.tables import read_table, write_json, write_table
from tailrisk.training.halves import record_members, training_rows

NIH_TABLE = "Data_Entry_2017_v2020_subset.csv"


def source(**options):
    return parse(AnySource, options, "datasets.x")


def nih(folder: Path, **options):
    return source(source="nih_chestxray14", path=str(folder), table=NIH_TABLE, **options)


@pytest.fixture(scope="module")
def nih_folder(open_data) -> Path:
    return open_data / "nih_chestxray14_subset"


@pytest.fixture(scope="module")
def ptbxl_folder(open_data) -> Path:
    return open_data / "ptbxl_subset"


@pytest.fixture(scope="module")
def nih_prepared(nih_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nih")
    prepare("nih", nih(nih_folder), folder)
    groups(nih(nih_folder), folder)
    return folder


@pytest.fixture(scope="module")
def ptbxl_prepared(ptbxl_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ptbxl")
    spec = source(source="ptbxl", path=str(ptbxl_folder))
    prepare("ptbxl", spec, folder)
    groups(spec, folder)
    return folder


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
def few_signals(ptbxl_folder, tmp_path) -> Path:
    """The first 6 rows of PTB-XL with their signals at both rates."""
    pd.read_csv(ptbxl_folder / "ptbxl_database.csv", dtype=str).head(6).to_csv(
        tmp_path / "ptbxl_database.csv", index=False
    )
    shutil.copy(ptbxl_folder / "scp_statements.csv", tmp_path)
    for rate in ("records100", "records500"):
        (tmp_path / rate / "00000").mkdir(parents=True)
        for file in sorted((ptbxl_folder / rate / "00000").iterdir())[:12]:
            shutil.copy(file, tmp_path / rate / "00000")
    return tmp_path


def edit(table: Path, row: int, column: str, value: str) -> None:
    """Set one cell; rows are counted from 1 without the header."""
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    frame.loc[row - 1, column] = value
    frame.to_csv(table, index=False)


def refused(spec, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        read(spec)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def png(file: Path) -> np.ndarray:
    """An 8-bit gray PNG without interlace, decoded by hand (ISO/IEC 15948, clause 9)."""
    content, at, data = file.read_bytes(), 8, b""
    while at < len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + length]
        if kind == b"IHDR":
            width, height, depth, colour, *_, interlace = struct.unpack(">IIBBBBB", body)
            assert (depth, colour, interlace) == (8, 0, 0)
        elif kind == b"IDAT":
            data += body
        at += 12 + length
    lines = np.frombuffer(zlib.decompress(data), np.uint8).reshape(height, width + 1).astype(int)
    out = np.zeros((height + 1, width + 1), dtype=int)  # with a row above and a column to the left, of zeros
    for y in range(1, height + 1):
        for x in range(1, width + 1):
            left, up, corner = out[y, x - 1], out[y - 1, x], out[y - 1, x - 1]
            paeth = min((left, up, corner), key=lambda value: abs(left + up - corner - value))
            guess = (0, left, up, (left + up) // 2, paeth)[lines[y - 1, 0]]
            out[y, x] = (lines[y - 1, x] + guess) % 256
    return out[1:, 1:]


def triangle(length: int, size: int) -> np.ndarray:
    """Weights [size, length] of antialiased bilinear reduction: triangles as wide as two pixels of the result."""
    scale = length / size
    centres = (np.arange(size) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centres[:, None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def dat(file: Path) -> np.ndarray:
    """A signal [12, samples] in millivolts from the little-endian 16-bit file, lead by lead within a sample."""
    return np.fromfile(file, "<i2").reshape(-1, 12).T / 1000


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


def test_images_are_resized_with_antialiasing(few_images) -> None:
    file = next(few_images.rglob("*.png"))
    for size in (16, 27):
        weights = triangle(64, size)
        # Pillow rounds to whole gray levels between its two passes, so that one level of difference is its own.
        assert np.abs(gray_image(file, size)[0] - weights @ png(file) @ weights.T).max() < 1.01


def test_kinds_of_pixels(few_images, tmp_path) -> None:
    original = Image.open(next(few_images.rglob("*.png")))
    for mode in ("L", "LA", "RGB", "RGBA", "P"):
        original.convert(mode).save(tmp_path / f"{mode}.png")
        assert np.array_equal(gray_image(tmp_path / f"{mode}.png", 64)[0], np.asarray(original))
    Image.fromarray(np.array([[[200, 30, 90]]], dtype=np.uint8)).save(tmp_path / "colour.png")
    assert gray_image(tmp_path / "colour.png", 1).item() == round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)
    Image.fromarray(np.asarray(original).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"mode I;16, not of 8 bits"):
        gray_image(tmp_path / "deep.png", 64)


def test_order_of_images_is_that_of_the_files(nih_folder) -> None:
    files = sorted((nih_folder / "images").iterdir())[:150][::-1]
    together = gray_images(files, 32)
    assert together.shape == (150, 1, 32, 32)
    assert all(np.array_equal(together[row], gray_image(file, 32)) for row, file in enumerate(files))


def test_missing_and_doubled_images_are_refused(few_images) -> None:
    first = next(few_images.rglob("images_001/images/*.png"))
    shutil.copy(first, few_images)
    refused(nih(few_images), f"the image {first.name} lies in ")
    (few_images / first.name).unlink()
    for file in few_images.rglob("images_002/images/*.png"):
        file.unlink()
    refused(nih(few_images), f"4 of the 8 images in {few_images / NIH_TABLE} are not below {few_images}: ")


def test_unreadable_images_are_refused(few_images) -> None:
    files = sorted(few_images.rglob("*.png"))
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[: len(whole) // 2])
    files[1].write_text("not a picture")
    refused(nih(few_images), "2 of 8 images cannot be used: ")
    refused(nih(few_images), str(files[1]))
    shutil.copy(files[2], files[1])
    for at in range(60, len(whole), 400):  # one bit, anywhere in the pixels
        damaged = bytearray(whole)
        damaged[at] ^= 1
        files[0].write_bytes(damaged)
        refused(nih(few_images), f"1 of 8 images cannot be used: {files[0]} (")
    # Pixels that can be decoded, and are not those that the checksum was made from.
    at = whole.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", whole[at - 8 : at - 4])
    pixels = bytearray(zlib.decompress(whole[at : at + length]))
    pixels[-1] ^= 1
    body = zlib.compress(bytes(pixels))
    files[0].write_bytes(
        whole[: at - 8] + struct.pack(">I", len(body)) + b"IDAT" + body + whole[at + length :]  # with the old checksum
    )
    refused(nih(few_images), f"1 of 8 images cannot be used: {files[0]} (")


@pytest.mark.parametrize(
    ("row", "column", "value", "sentence"),
    [
        (3, "Finding Labels", "Mass|Masss", "names none of the 14 findings: Masss"),
        (4, "Finding Labels", "Mass|No Finding", "has 'No Finding' beside a finding in row 4"),
        (2, "Patient ID", " ", "column 'Patient ID' is blank in row 2"),
        (5, "Patient Age", "058Y", "column 'Patient Age' is not an age in years in row 5"),
        (6, "View Position", "LL", "column 'View Position' is neither PA nor AP in row 6"),
    ],
)
def test_bad_cells_of_nih_are_refused(few_images, row, column, value, sentence) -> None:
    edit(few_images / NIH_TABLE, row, column, value)
    refused(nih(few_images, target="view"), sentence)


def test_bad_tables_of_nih_are_refused(few_images) -> None:
    table = few_images / NIH_TABLE
    text = table.read_text()
    table.write_text(text.replace("Patient ID", "Patient"))
    refused(nih(few_images), f"{table} has no column 'Patient ID'")
    table.write_text(text.splitlines()[0])
    refused(nih(few_images), f"{table} has no rows")
    table.write_text(text.replace("normal\n", "normal,more\n"))
    refused(nih(few_images), "rows hold more values than the header has columns")
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


def test_ptbxl_is_prepared(ptbxl_folder, ptbxl_prepared) -> None:
    card, data = json.loads((ptbxl_prepared / "card.json").read_text()), open_prepared(ptbxl_prepared)
    assert (card["n_records"], card["n_patients"], card["patients_with_several_records"]) == (500, 466, 25)
    assert card["classes"] == {"NORM": 297, "MI": 73, "STTC": 96, "CD": 78, "HYP": 40}
    assert card["input_shape"] == [12, 1000]
    assert sorted(card["checksums"]) == ["ptbxl_database.csv", "scp_statements.csv"]
    assert data.features == ["I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6"]
    assert data.inputs.dtype == np.float32
    assert pd.DataFrame({"p": data.patient, "s": data.split}).groupby("p")["s"].nunique().max() == 1
    assert data.patient[0] == "15709"
    for row in range(0, 500, 7):
        # The quotient of two whole numbers, rounded once to float32: not a bit of difference.
        expected = dat(ptbxl_folder / f"records100/00000/{int(data.record[row]):05d}_lr.dat")
        assert np.array_equal(data.inputs[row], expected.astype(np.float32))


def test_ptbxl_labels_and_groups(ptbxl_folder, ptbxl_prepared) -> None:
    with (ptbxl_folder / "scp_statements.csv").open() as file:
        classes = {row[""]: row["diagnostic_class"] for row in csv.DictReader(file) if row["diagnostic"] == "1.0"}
    data, frame = open_prepared(ptbxl_prepared), read_table(ptbxl_prepared / "groups.parquet", "groups")
    with (ptbxl_folder / "ptbxl_database.csv").open() as file:
        rows = list(csv.DictReader(file))
    kinds = []
    for row, labels in zip(rows, data.labels, strict=True):
        found = {classes[code] for code in re.findall(r"'([^']+)':", row["scp_codes"]) if code in classes}
        assert {SUPERCLASSES[number] for number in np.flatnonzero(labels)} == found
        kinds.append(found.pop() if len(found) == 1 else "several" if found else "none")
    assert frame["superclass"].astype(str).tolist() == kinds
    assert set(kinds) == {*SUPERCLASSES, "several", "none"}
    assert frame["sex"].value_counts().to_dict() == {"female": 251, "male": 249}
    assert frame["extra_beats"].value_counts().to_dict() == {"none": 471, "present": 29}
    ages = Counter("unknown" if not row["age"] else int(float(row["age"])) // 20 for row in rows)
    assert frame["age"].isna().sum() == ages["unknown"] == 4
    assert (frame["age"] == "80 and over").sum() == ages[4]


def test_ptbxl_at_500_samples_per_second(few_signals, ptbxl_folder) -> None:
    dataset = read(source(source="ptbxl", path=str(few_signals), rate=500))
    assert dataset.inputs.shape == (6, 12, 5000)
    for number, values in enumerate(dataset.inputs, start=1):
        expected = dat(few_signals / f"records500/00000/{number:05d}_hr.dat")
        assert np.array_equal(values, expected.astype(np.float32))
    refused(
        source(source="ptbxl", path=str(ptbxl_folder), rate=500),
        f"450 of the 500 signals at 500 samples per second are not in {ptbxl_folder}: records500/00000/00051_hr, "
        "records500/00000/00052_hr, records500/00000/00053_hr and 447 more; fetch their .hea and .dat files, or set "
        "`rate` to 100",
    )


def rewritten(stem: Path, samples: np.ndarray) -> None:
    """Write `samples` [n, 12] int16 into a record, with the checksums that belong to them in its header."""
    samples.astype("<i2").tofile(stem.with_suffix(".dat"))
    header, *lines = stem.with_suffix(".hea").read_text().splitlines()
    for lead, line in enumerate(lines[:12]):
        fields = line.split()
        fields[6] = str(int(samples[:, lead].astype(int).sum()) % 65536)
        lines[lead] = " ".join(fields)
    stem.with_suffix(".hea").write_text("\n".join([header, *lines]) + "\n")


def test_damaged_signals_are_refused(few_signals) -> None:
    stem = few_signals / "records100/00000/00003_lr"
    header, content = stem.with_suffix(".hea"), stem.with_suffix(".dat").read_bytes()
    text = header.read_text()
    samples = np.frombuffer(content, "<i2").reshape(-1, 12)

    def fault() -> str:
        with pytest.raises(UserError) as caught:
            signal(stem, 100)
        return str(caught.value)

    damaged = bytearray(content)
    damaged[5000] ^= 1
    stem.with_suffix(".dat").write_bytes(damaged)
    assert "do not agree with the checksum in its header" in fault()
    spec = source(source="ptbxl", path=str(few_signals))
    refused(spec, f"1 of 6 signals cannot be used: {stem} (its samples do not agree with the checksum")
    stem.with_suffix(".dat").write_bytes(content[:-2400])
    assert "not a readable WFDB record" in fault()
    stem.with_suffix(".dat").write_bytes(content)
    for old, new in (("V2", "V7"), ("1000.0(0)/mV", "1000.0(0)/uV"), ("1000.0(0)/mV", "200.0(0)/mV")):
        header.write_text(text.replace(old, new))
        assert "its leads are not I to V6" in fault()
    for damage in ("", "garbage", text[:200], text.replace(" 16 ", " 17 "), "\0" * 80):
        header.write_text(damage)
        assert "not a readable WFDB record" in fault()
    header.write_text(text.replace("00003_lr 12 100 1000", "00003_lr 12 250 1000"))
    assert "not 10 seconds at 100 samples per second" in fault()
    header.write_text(text)
    lost = samples.copy()
    lost[17, LEADS.index("AVF")] = -32768  # the value of format 16 that stands for no value
    rewritten(stem, lost)
    assert "lead AVF has samples without a value" in fault()
    rewritten(stem, samples)
    assert header.read_text() == text
    assert np.array_equal(signal(stem, 100), (samples.T / 1000).astype(np.float32))


@pytest.mark.parametrize(
    ("table", "row", "column", "value", "sentence"),
    [
        ("ptbxl_database.csv", 3, "patient_id", "", "column 'patient_id' is blank in row 3"),
        ("ptbxl_database.csv", 2, "patient_id", "17.5", "column 'patient_id' is not a whole number in row 2"),
        ("ptbxl_database.csv", 5, "scp_codes", "{'NORM': ", "column 'scp_codes' is not a dictionary of statements in"),
        ("ptbxl_database.csv", 5, "scp_codes", "['NORM']", "column 'scp_codes' is not a dictionary of statements in"),
        ("ptbxl_database.csv", 5, "scp_codes", "{'ZZZ': 1.0}", "has statements that scp_statements.csv lacks: ZZZ"),
        ("ptbxl_database.csv", 1, "age", "old", "column 'age' is not an age in years in row 1"),
        ("scp_statements.csv", 1, "diagnostic_class", "ST", "column 'diagnostic_class' is none of NORM, MI, STTC,"),
    ],
)
def test_bad_cells_of_ptbxl_are_refused(few_signals, table, row, column, value, sentence) -> None:
    if table == "scp_statements.csv":
        text = (few_signals / table).read_text()
        (few_signals / table).write_text(text.replace(",STTC,STTC,", ",ST,STTC,", 1))
    else:
        edit(few_signals / table, row, column, value)
    refused(source(source="ptbxl", path=str(few_signals)), sentence)


@pytest.mark.parametrize("table", ["ptbxl_database.csv", "scp_statements.csv"])
def test_absent_tables_of_ptbxl_are_refused(few_signals, table) -> None:
    (few_signals / table).unlink()
    refused(source(source="ptbxl", path=str(few_signals)), f"the table {few_signals / table} does not exist")


def test_linked_folders_of_images_are_followed(few_images, tmp_path) -> None:
    elsewhere = tmp_path / "study"
    elsewhere.mkdir()
    shutil.copy(few_images / NIH_TABLE, elsewhere)
    for part in ("images_001", "images_002"):
        (elsewhere / part).symlink_to(few_images / part)
    assert read(nih(elsewhere)).inputs.shape == (8, 1, 64, 64)


def value(folder: Path, tmp_path: Path) -> dict:
    baseline(folder, 0, tmp_path / "baseline.json")
    return json.loads((tmp_path / "baseline.json").read_text())


def test_baselines_learn_from_images_and_signals(nih_folder, nih_prepared, ptbxl_prepared, tmp_path) -> None:
    finding = value(nih_prepared, tmp_path)
    assert finding["model"] == "scikit-learn logistic regression on the brightness of 16 × 16 areas"
    assert finding["value"] > 0.65
    prepare("view", nih(nih_folder, target="view"), tmp_path / "view")
    assert value(tmp_path / "view", tmp_path)["value"] > 0.9
    superclasses = value(ptbxl_prepared, tmp_path)
    assert superclasses["model"] == "scikit-learn logistic regression on percentiles of every lead"
    assert superclasses["value"] > 0.65


def direct(data: Prepared, means: np.ndarray) -> float:
    """Test AUROC of the baseline, fitted to `means` [N, F] of areas without the package's code for it."""
    audit, test = data.rows("audit"), data.rows("test")
    (train,) = training_rows(data, [0], audit, record_members(data, 0, [0], audit))
    scale = StandardScaler().fit(means[train])
    model = LogisticRegression(C=0.01, max_iter=300).fit(scale.transform(means[train]), data.labels[train])
    return roc_auc_score(data.labels[test], model.decision_function(scale.transform(means[test])))


def test_baseline_of_images_against_a_direct_fit(nih_prepared, tmp_path) -> None:
    data = open_prepared(nih_prepared)
    means = data.inputs.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(len(data.inputs), -1)
    # A pair of test records may change places by rounding: 1 of about 5,000 pairs.
    assert value(nih_prepared, tmp_path)["value"] == pytest.approx(direct(data, means), abs=5e-4)


def written(folder: Path, data: Prepared, inputs: np.ndarray, labels: np.ndarray) -> Path:
    """A prepared dataset with the records of `data`, and other inputs and labels."""
    folder.mkdir()
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", labels)
    frame = pd.DataFrame({"record": data.record, "patient": data.patient, "split": data.split})
    write_table(folder / "records.parquet", "records", frame)
    classes = [str(number) for number in range(labels.shape[1])]
    card = {"task": "multilabel", "classes": classes, "n_outputs": len(classes), "data_hash": "x"}
    write_json(folder / "card.json", card)
    return folder


def test_baseline_with_odd_sizes_and_rare_labels(nih_prepared, tmp_path) -> None:
    data = open_prepared(nih_prepared)
    odd = np.array(data.inputs[:, :, :37, :11])  # areas of two or three lines, and a column each
    label = data.labels.astype(np.float32)
    hidden = np.where(np.arange(len(label)) % 5 == 0, np.nan, label)
    rare = np.where(data.split == "test", label, 0)  # never 1 in a half: no more can be said of it than chance
    values = [
        value(written(tmp_path / name, data, odd, np.stack(columns, axis=1)), tmp_path)["value"]
        for name, columns in {"one": [label], "hidden": [hidden], "both": [label, rare], "all": [hidden, rare]}.items()
    ]
    one, hidden_alone, both, everything = values
    lines = [range(37 * k // 16, 37 * (k + 1) // 16) for k in range(16)]
    means = np.array([[image[:, rows].mean(axis=1) for rows in lines] for image in odd[:, 0].transpose(0, 2, 1)])
    assert one == pytest.approx(direct(data, means.reshape(len(means), -1)), abs=5e-4)
    assert both == pytest.approx((one + 0.5) / 2)
    assert everything == pytest.approx((hidden_alone + 0.5) / 2)
