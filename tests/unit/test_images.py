"""Pictures: kinds of pixels and of files, resizing, and what is refused."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from png_by_hand import png

from tailrisk.datasets.images import find_images, own_range, picture, pictures
from tailrisk.errors import UserError


def smooth(height: int, width: int, number: int = 0) -> np.ndarray:
    """Gray pixels [height, width] with structure of all sizes, as in a radiograph."""
    random, total = np.random.default_rng(number), np.zeros((height, width))
    for step in (1, 4, 16, 64):
        coarse = random.normal(size=(height // step + 2, width // step + 2)).astype(np.float32)
        total += step**0.5 * np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    return np.clip(128 + 6 * total, 0, 255).astype(np.uint8)


@pytest.fixture
def original(tmp_path) -> Image.Image:
    return Image.fromarray(smooth(64, 64))


def triangle(length: int, size: int) -> np.ndarray:
    """Weights [size, length] of antialiased bilinear reduction: triangles as wide as two pixels of the result."""
    scale = length / size
    centres = (np.arange(size) + 0.5) * scale
    weights = np.maximum(0, 1 - np.abs(np.arange(length) + 0.5 - centres[:, None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def saved(image: Image.Image, file: Path, **options) -> Path:
    image.save(file, **options)
    return file


def test_images_are_resized_with_antialiasing(tmp_path) -> None:
    file = saved(Image.fromarray(smooth(64, 96)), tmp_path / "x.png")
    for shape in ((16, 16), (27, 20), (48, 64)):
        rows, columns = triangle(64, shape[0]), triangle(96, shape[1])
        small = picture(file, shape)
        assert small.shape == (1, *shape)
        # Pillow rounds to whole gray levels between its two passes, so that one level of difference is its own.
        assert np.abs(small[0] - rows @ png(file) @ columns.T).max() < 1.01


def test_real_images_are_what_another_reader_finds(open_data) -> None:
    for file in sorted((open_data / "nih_chestxray14_subset/images").glob("*.png"))[:3]:
        assert np.array_equal(picture(file, (64, 64))[0], png(file))


def test_kinds_of_pixels_in_gray(original, tmp_path) -> None:
    for mode in ("L", "LA", "RGB", "RGBA", "P"):
        file = saved(original.convert(mode), tmp_path / f"{mode}.png")
        assert np.array_equal(picture(file, (64, 64))[0], np.asarray(original))
    colour = Image.fromarray(np.array([[[200, 30, 90]]], dtype=np.uint8))
    file = saved(colour, tmp_path / "colour.png")
    assert picture(file, (1, 1)).item() == round(0.299 * 200 + 0.587 * 30 + 0.114 * 90)
    black = saved(Image.fromarray(np.eye(8) > 0), tmp_path / "1.png")
    assert picture(black, (8, 8))[0].tolist() == (255 * np.eye(8)).tolist()


def test_kinds_of_pixels_in_colour(original, tmp_path) -> None:
    planes = np.stack([smooth(64, 48, number) for number in range(3)])
    image = Image.fromarray(np.ascontiguousarray(planes.transpose(1, 2, 0)))
    for mode in ("RGB", "RGBA"):
        file = saved(image.convert(mode), tmp_path / f"{mode}.png")
        assert np.array_equal(picture(file, (64, 48), colour=True), planes)
    gray = picture(saved(original, tmp_path / "gray.png"), (64, 64), colour=True)
    assert gray.shape == (3, 64, 64)
    assert all(np.array_equal(plane, np.asarray(original)) for plane in gray)


def test_cmyk_files_are_read_as_the_colours_that_they_show(original, tmp_path) -> None:
    rgb = Image.merge("RGB", [original, original.rotate(90), original.rotate(180)])
    file = saved(rgb.convert("CMYK"), tmp_path / "cmyk.jpg", quality=98)
    with Image.open(file) as image:
        assert image.mode == "CMYK"
    expected = np.asarray(rgb).astype(int)
    assert np.abs(picture(file, (64, 64), colour=True).transpose(1, 2, 0) - expected).mean() < 3
    assert np.abs(picture(file, (64, 64))[0] - np.asarray(rgb.convert("L")).astype(int)).mean() < 3


def test_sixteen_bits(tmp_path) -> None:
    # 1,000 to 2,900 of 65,535: nearly black as they are.
    deep = (1000 + 100 * np.arange(20)).astype(np.uint16)
    file = saved(Image.fromarray(np.repeat(deep[None], 20, axis=0)), tmp_path / "deep.png")
    with pytest.raises(UserError, match=r"mode I;16, not of 8 bits"):
        picture(file, (20, 20))
    full = picture(file, (20, 20), deep="full")
    assert full.dtype == np.uint8
    assert full[0, 0].tolist() == [4, 4, 5, 5, 5, 6, 6, 7, 7, 7, 8, 8, 9, 9, 9, 10, 10, 11, 11, 11]
    own = picture(file, (20, 20), deep="own")
    assert own[0, 0].tolist() == [round(255 * number / 19) for number in range(20)]
    big = saved(Image.fromarray(np.repeat(deep[None], 20, axis=0).astype(">u2")), tmp_path / "deep.tif")
    assert np.array_equal(picture(big, (20, 20), deep="full"), full)
    # Images of 8 bits in the same dataset stay as they are.
    shallow = saved(Image.fromarray(smooth(20, 20)), tmp_path / "shallow.png")
    assert np.array_equal(picture(shallow, (20, 20), deep="own")[0], smooth(20, 20))


def test_sixteen_bits_are_resized_before_they_are_rounded(tmp_path) -> None:
    # Pairs of 0 and 514 (2 of 255) average to 1, where rounding each first, or cutting off, would give 0 or 2.
    stripes = np.tile(np.array([0, 514], dtype=np.uint16), (16, 8))
    file = saved(Image.fromarray(stripes), tmp_path / "stripes.png")
    assert (picture(file, (4, 4), deep="full") == 1).all()


def test_own_range() -> None:
    assert own_range(np.array([[2.0, 4.0], [3.0, 2.0]])).tolist() == [[0, 1], [0.5, 0]]
    assert own_range(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]


def off_by(original: Image.Image, file: Path) -> float:
    """Mean difference between an image read from a JPEG file by `picture` and after a full decode, in gray levels."""
    saved(original.convert("L"), file, quality=95)
    with Image.open(file) as image:
        image.draft("L", (64, 64))
        assert image.size[0] < original.size[0]  # the decoder of this machine can do it
    with Image.open(file) as image:
        expected = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    return float(np.abs(picture(file, (32, 32))[0] - expected).mean())


def test_jpeg_files_decoded_at_a_reduced_scale_stay_close(tmp_path) -> None:
    for number, shape in enumerate([(320, 390), (1024, 830), (641, 500)]):
        assert off_by(Image.fromarray(smooth(*shape, number)), tmp_path / "x.jpg") < 2


def test_real_radiographs_at_a_reduced_scale_stay_close(open_data, tmp_path) -> None:
    for file in sorted((open_data / "covid19_hannover/png").glob("*.png"))[::30]:
        with Image.open(file) as image:
            assert off_by(image, tmp_path / "x.jpg") < 2


def test_jpeg_files_hardly_larger_than_the_result_are_decoded_in_full(original, tmp_path) -> None:
    file = saved(original, tmp_path / "small.jpg", quality=95)
    with Image.open(file) as image:
        assert np.array_equal(picture(file, (64, 64))[0], np.asarray(image.convert("L")))


def test_order_and_shape_of_pictures(tmp_path) -> None:
    paths = [saved(Image.fromarray(smooth(20, 30, number)), tmp_path / f"{9 - number}.png") for number in range(5)]
    files = pictures(paths, (20, 30))
    assert (files.shape, files.dtype, files.kind) == ((1, 20, 30), np.uint8, "images")
    assert all(np.array_equal(files.decode(path)[0], smooth(20, 30, n)) for n, path in enumerate(files.paths))
    assert pictures(paths, (20, 30), colour=True).shape == (3, 20, 30)


def test_damaged_files_are_refused(original, tmp_path) -> None:
    file = saved(original, tmp_path / "x.png")
    whole = file.read_bytes()

    def refused(content: bytes) -> bool:
        file.write_bytes(content)
        try:
            picture(file, (16, 16))
        except UserError:
            return True
        return False

    assert not refused(whole)
    for content in (b"", b"not a picture", whole[: len(whole) // 2], whole[:-20]):
        assert refused(content)
    file.write_text("not a picture")
    with pytest.raises(UserError, match=r"^not a picture$"):  # without a number that changes from run to run
        picture(file, (16, 16))
    for at in range(60, len(whole), 97):  # one bit, anywhere in the pixels
        damaged = bytearray(whole)
        damaged[at] ^= 1
        assert refused(bytes(damaged))
    # Pixels that can be decoded, and are not those that the checksum was made from.
    at = whole.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", whole[at - 8 : at - 4])
    pixels = bytearray(zlib.decompress(whole[at : at + length]))
    pixels[-1] ^= 1
    body = zlib.compress(bytes(pixels))
    assert refused(whole[: at - 8] + struct.pack(">I", len(body)) + b"IDAT" + body + whole[at + length :])
    jpeg = saved(original, tmp_path / "x.jpg").read_bytes()
    assert refused(jpeg[: len(jpeg) // 2])
    with pytest.raises(FileNotFoundError):
        picture(tmp_path / "nowhere.png", (16, 16))


def test_pixels_of_other_kinds_are_refused(tmp_path) -> None:
    file = saved(Image.fromarray(np.ones((4, 4), dtype=np.float32)), tmp_path / "x.tif")
    with pytest.raises(UserError, match=r"pixels of Pillow's mode F, not of 8 or 16 bits"):
        picture(file, (4, 4))


def test_images_are_found_anywhere_below(tmp_path) -> None:
    for name in ("a/b/1.png", "a/2.png", "3.png", "a/other.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/4.png").touch()
    (tmp_path / "data/link").symlink_to(tmp_path / "elsewhere")
    folder = tmp_path / "data"
    names = ["4.png", "1.png", "5.png", "3.png", "2.png"]
    places = ["link/4.png", "a/b/1.png", "5.png", "3.png", "a/2.png"]
    assert find_images(folder, names, "x.csv") == [folder / place for place in places]
    (folder / "a/b/2.png").touch()
    with pytest.raises(UserError, match=r"the image 2\.png lies in .* and in .*: remove one of them"):
        find_images(folder, names, "x.csv")
    with pytest.raises(UserError, match=r"none of the 1 images in x\.csv is below .*, such as 6\.png"):
        find_images(folder, ["6.png"], "x.csv")


def test_files_of_several_pages_are_refused(tmp_path) -> None:
    pages = [Image.fromarray(np.full((8, 8), value, dtype=np.uint8)) for value in (1, 200)]
    pages[0].save(tmp_path / "two.tiff", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match="2 pages or frames, not one"):
        picture(tmp_path / "two.tiff", (8, 8))


@pytest.mark.parametrize("cut", [5, 40, 60])
def test_any_flipped_bit_of_a_png_is_seen(tmp_path, cut: int) -> None:
    noise = np.random.default_rng(cut).integers(0, 255, (16, 16), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[-cut] ^= 1
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError):
        picture(tmp_path / "a.png", (16, 16))
