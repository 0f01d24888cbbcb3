"""NIH ChestX-ray14: real files against independent readers, and what is refused."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from real_sources import NIH_TABLE, edit, nih, refused

from tailrisk.datasets.contract import open_prepared
from tailrisk.datasets.images import gray_image, gray_images
from tailrisk.datasets.labels import age_bands
from tailrisk.datasets.prepare import read
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


def test_linked_folders_of_images_are_followed(few_images, tmp_path) -> None:
    elsewhere = tmp_path / "study"
    elsewhere.mkdir()
    shutil.copy(few_images / NIH_TABLE, elsewhere)
    for part in ("images_001", "images_002"):
        (elsewhere / part).symlink_to(few_images / part)
    assert read(nih(elsewhere)).inputs.shape == (8, 1, 64, 64)
