"""DICOM images: what a file shows, worked out by hand, and what is no image."""

import numpy as np
import pytest
from picture_folders import dicom
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import get_decoder
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from tailrisk.datasets.dicom import gray, picture_of_dicom, read_dicom
from tailrisk.errors import UserError

RAMP = np.array([[0, 1000, 2000], [3000, 4000, 4095]], dtype=np.uint16)
TWELVE = {"BitsStored": 12, "HighBit": 11}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "image.dcm"


def shown(file, stored, **attributes) -> np.ndarray:
    """Gray values of 0 to 255 at the file's own size."""
    dicom(file, stored, **attributes)
    return picture_of_dicom(file, stored.shape)[0]


def refused(file, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as caught:
        picture_of_dicom(file, (4, 4))
    assert "\n" not in str(caught.value)


def test_without_a_window_an_image_has_its_own_range(file) -> None:
    # 255 · (v − 1000) / (3000 − 1000)
    assert shown(file, np.array([[1000, 1500], [2000, 3000]], np.uint16), **TWELVE).tolist() == [[0, 64], [128, 255]]
    assert shown(file, np.array([[-50, 0], [25, 50]], np.int16)).tolist() == [[0, 128], [191, 255]]
    assert shown(file, np.array([[3, 4], [5, 7]], np.uint8)).tolist() == [[0, 64], [128, 255]]


def test_a_window_of_the_file_decides_what_is_black_and_white(file) -> None:
    # PS3.3 C.11.2.1.2: (v − (c − 0.5)) / (w − 1) + 0.5, cut at 0 and 1; here (v − 1999.5) / 2000 + 0.5.
    windowed = shown(file, RAMP, **TWELVE, WindowCenter=["2000", "90"], WindowWidth=["2001", "5"])
    assert windowed.tolist() == [[0, 0, 128], [255, 255, 255]]
    # 255 · (0.5 + (1500 − 1999.5) / 2000) = 63.8; 255 · (0.5 + (2500 − 1999.5) / 2000) = 191.3
    between = shown(file, np.array([[500, 1500, 2500]], np.uint16), **TWELVE, WindowCenter="2000", WindowWidth="2001")
    assert between.tolist() == [[0, 64, 191]]
    # A window wider than the image: black and white are its own ends, not the image's.
    wide = shown(
        file, np.array([[1000, 1100], [1200, 1300]], np.uint16), **TWELVE, WindowCenter="2048", WindowWidth="4096"
    )
    assert wide.tolist() == [[62, 68], [75, 81]]


def test_windows_that_cannot_be_used_count_as_none(file) -> None:
    own = shown(file, RAMP, **TWELVE).tolist()
    assert shown(file, RAMP, **TWELVE, WindowCenter="2000", WindowWidth="0").tolist() == own
    assert shown(file, RAMP, **TWELVE, WindowCenter="", WindowWidth="").tolist() == own


def test_a_window_is_of_rescaled_values(file) -> None:
    # Stored 0 to 4095 mean −1024 to 3071; the window from 0 to 1000 begins at the stored value 1024.
    rescaled = {"RescaleSlope": "1", "RescaleIntercept": "-1024", "WindowCenter": "500", "WindowWidth": "1000"}
    assert shown(file, RAMP, **TWELVE, **rescaled).tolist() == [[0, 0, 249], [255, 255, 255]]


def test_a_table_of_values_decides_where_there_is_one(file) -> None:
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4, 0, 16], np.array([0, 100, 300, 400], "<u2").tobytes()
    stored = np.array([[0, 1], [2, 3]], np.uint16)
    file_of = shown(file, stored, VOILUTSequence=Sequence([table]), WindowCenter="1", WindowWidth="2")
    assert file_of.tolist() == [[0, 64], [191, 255]]


def test_both_orders_of_gray_show_the_same(file) -> None:
    picture = np.random.default_rng(0).integers(0, 4096, (16, 12)).astype(np.uint16)
    inverted = {"PhotometricInterpretation": "MONOCHROME1"}
    assert np.array_equal(shown(file, picture, **TWELVE), shown(file, 4095 - picture, **TWELVE, **inverted))
    # The centre's mirror: c − 0.5 lies as far above 0 as 4095 − c' + 0.5 below 4095.
    plain = shown(file, picture, **TWELVE, WindowCenter="1500", WindowWidth="1000")
    other = shown(file, 4095 - picture, **TWELVE, **inverted, WindowCenter="2596", WindowWidth="1000")
    assert np.array_equal(plain, other)
    assert not np.array_equal(plain, shown(file, 4095 - picture, **TWELVE, WindowCenter="2596", WindowWidth="1000"))


def test_images_are_resized(file) -> None:
    dicom(file, np.kron(np.array([[0, 4095]], np.uint16), np.ones((40, 30), np.uint16)), **TWELVE)
    image = picture_of_dicom(file, (8, 6))
    assert (image.shape, image.dtype) == ((1, 8, 6), np.uint8)
    assert image[0, :, :2].max() == 0 and image[0, :, 4:].min() == 255


@pytest.mark.parametrize(
    "stored", [RAMP, RAMP.astype(np.int16), (RAMP // 16).astype(np.uint8), RAMP.astype(np.uint32) * 99]
)
def test_depths_of_pixels(file, stored) -> None:
    own = np.rint(255 * (stored.astype(float) - stored.min()) / (float(stored.max()) - stored.min()))
    assert np.array_equal(shown(file, stored), own)


def test_numbers_with_a_fraction(file) -> None:
    numbers = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
    dicom(file, numbers, PixelData=None)
    image = read_dicom(file)
    image.FloatPixelData = numbers.tobytes()
    image.save_as(file)
    assert picture_of_dicom(file, (2, 2))[0].tolist() == [[0, 64], [128, 255]]


def test_compressed_images(file) -> None:
    dicom(file, RAMP, **TWELVE)
    plain = picture_of_dicom(file, (2, 3))
    image = read_dicom(file)
    image.compress(RLELossless)
    image.save_as(file)
    assert read_dicom(file).file_meta.TransferSyntaxUID == RLELossless
    assert np.array_equal(picture_of_dicom(file, (2, 3)), plain)


@pytest.mark.skipif(get_decoder(JPEGLSLossless).is_available, reason="a plugin for JPEG-LS is installed")
def test_a_missing_plugin_is_named(file) -> None:
    dicom(file, RAMP, **TWELVE)
    image = read_dicom(file)
    image.file_meta.TransferSyntaxUID = JPEGLSLossless
    image.PixelData = encapsulate([b"\xff\xd8\xff\xd9"])
    image["PixelData"].is_undefined_length = True
    image.save_as(file)
    refused(
        file, "compressed as JPEG-LS Lossless Image Compression, for which a plugin of pydicom is missing: install gdcm"
    )
    refused(file, "pyjpegls")


def test_what_is_no_gray_image_is_refused(file) -> None:
    file.write_text("no DICOM")
    refused(file, "^not a DICOM file$")
    dicom(file, RAMP, PixelData=None)
    refused(file, "^it holds no pixels$")
    dicom(file, np.stack([RAMP, RAMP]), NumberOfFrames=2)
    refused(file, "^it holds 2 frames, not one image$")
    dicom(file, np.zeros((4, 6), np.uint8), PhotometricInterpretation="RGB", SamplesPerPixel=3, Columns=2)
    refused(file, "^its pixels are RGB, not gray$")
    dicom(file, np.zeros((4, 6), np.uint8), SamplesPerPixel=3, PlanarConfiguration=0, Columns=2)
    refused(file, "^it holds 3 values a pixel, not one of gray$")
    dicom(file, np.zeros((6, 8), np.uint16), Rows=3, Columns=8)  # more bytes than it announces
    refused(file, "^it holds 2 × 3 × 8 pixels, not one image$")
    dicom(file, RAMP, Rows=200)
    refused(file, "^its pixels cannot be decoded")
    dicom(file, RAMP)
    file.write_bytes(file.read_bytes()[:-4])
    refused(file, "^its pixels cannot be decoded")
    dicom(file, RAMP)
    image = read_dicom(file)
    image.file_meta.TransferSyntaxUID = JPEG2000Lossless
    image.PixelData = encapsulate([b"no JPEG 2000"])
    image["PixelData"].is_undefined_length = True
    image.save_as(file)
    refused(file, "^its pixels cannot be decoded")


@pytest.mark.filterwarnings("ignore")
def test_any_damage_has_a_reason(file) -> None:
    dicom(file, RAMP)
    content = file.read_bytes()
    file.write_bytes(content.replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.5.1.4\0"))
    refused(file, r"^not a readable DICOM file \(UID is not a transfer syntax\)$")
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        file.write_bytes(damaged)
        try:
            picture_of_dicom(file, (4, 4))
        except UserError as fault:
            assert "\n" not in str(fault)


def test_missing_files_are_told_from_damaged_ones(file) -> None:
    with pytest.raises(FileNotFoundError):
        picture_of_dicom(file, (4, 4))


def test_gray_is_between_black_and_white(file) -> None:
    dicom(file, RAMP, **TWELVE, WindowCenter="2000", WindowWidth="100", VOILUTFunction="SIGMOID")
    values = gray(read_dicom(file))
    assert values.dtype == np.float32
    # PS3.3 C.11.2.1.3.1: 1 / (1 + exp(−4 (v − c) / w))
    expected = 1 / (1 + np.exp(-4 * (RAMP.astype(float) - 2000) / 100))
    assert np.abs(values - expected).max() < 1e-4
