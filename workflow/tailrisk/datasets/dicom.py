"""DICOM files of one gray image: what a viewer would show of it, in numbers from 0 (black) to 1 (white)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder
from pydicom.uid import UID

from tailrisk.datasets.images import own_range, resized
from tailrisk.errors import UserError

DARK_FIRST, LIGHT_FIRST = "MONOCHROME2", "MONOCHROME1"
"""Whether small values are dark, as in photographs, or light, as on film."""
TABULATED = 1 << 16
"""Values that the steps from stored to shown values are worked out for once each, instead of once a pixel."""
BEYOND = 1e9
"""A value that lies outside every window."""


@contextmanager
def damage_told() -> Iterator[None]:
    """Whatever a damaged file lets pydicom stumble on, also as late as when a value is looked at, as one UserError."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        raise UserError(f"not a readable DICOM file ({_short(error)})") from None


@damage_told()
def picture_of_dicom(file: Path, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """One image [1, height, width] as `gray` gives it, resized; the aspect ratio is not kept.

    UserError with a short reason where the file is no readable gray image, OSError where it cannot be opened.
    """
    return resized(gray(read_dicom(file)), shape)


@damage_told()
def read_dicom(file: Path) -> pydicom.Dataset:
    """The data set of a file, its pixels not decoded yet; UserError where it is not DICOM."""
    try:
        return pydicom.dcmread(file)
    except InvalidDicomError:
        raise UserError("not a DICOM file") from None


@damage_told()
def gray(image: pydicom.Dataset) -> NDArray[np.float32]:
    """Pixels [height, width] between 0 (black) and 1 (white), of 8 to 16 bits or as floating-point numbers.

    The modality transformation (rescale or a table) comes first, then the first VOI table or window that the file
    brings, over whose whole range black to white goes; a table, or a file that brings neither, goes from its own
    darkest to its own brightest value. Images where small values are light are inverted. UserError where there are no
    pixels, colours, several values a pixel, several frames, or pixels that cannot be decoded.
    """
    kind = image.get("PhotometricInterpretation")
    if "PixelData" not in image and "FloatPixelData" not in image and "DoubleFloatPixelData" not in image:
        raise UserError("it holds no pixels")
    if kind not in (DARK_FIRST, LIGHT_FIRST):
        raise UserError(f"its pixels are {kind or 'of no stated kind'}, not gray")
    if int(image.get("SamplesPerPixel") or 1) > 1:
        raise UserError(f"it holds {image.SamplesPerPixel} values a pixel, not one of gray")
    if int(image.get("NumberOfFrames") or 1) > 1:
        raise UserError(f"it holds {image.NumberOfFrames} frames, not one image")
    stored = _decoded(image)
    if stored.ndim != 2:  # more bytes than the file announces
        raise UserError(f"it holds {' × '.join(map(str, stored.shape))} pixels, not one image")
    try:
        shown = _shown(stored, image)
    except Exception as error:  # tables and windows that contradict themselves
        raise UserError(f"its pixels cannot be brought to gray ({_short(error)})") from None
    return 1 - shown if kind == LIGHT_FIRST else shown


def _decoded(image: pydicom.Dataset) -> NDArray[Any]:
    """Stored values [height, width]; UserError says which packages a compressed image needs."""
    syntax = getattr(getattr(image, "file_meta", None), "TransferSyntaxUID", None)
    if syntax is not None and syntax.is_compressed:
        _require_decoder(syntax)
    try:
        return image.pixel_array
    except Exception as error:  # whatever the decoders raise
        raise UserError(f"its pixels cannot be decoded ({_short(error)})") from None


def _require_decoder(syntax: UID) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UserError(f"it is compressed as {syntax.name}, which cannot be decoded: decompress it first") from None
    if not decoder.is_available:
        # "name - requires a>=1 and b>=2"
        packages = [text.partition("requires ")[2] or text for text in decoder.missing_dependencies]
        raise UserError(
            f"it is compressed as {syntax.name}, for which a plugin of pydicom is missing: install "
            f"{', or '.join(packages)}"
        )


def _shown(stored: NDArray[Any], image: pydicom.Dataset) -> NDArray[np.float32]:
    """Stored values between 0 and 1, in the order that they have in the file."""
    low, high = stored.min(), stored.max()
    if not np.issubdtype(stored.dtype, np.integer) or int(high) - int(low) >= TABULATED:
        return _between(stored, image).astype(np.float32)
    table = _between(np.arange(int(low), int(high) + 1), image).astype(np.float32)
    return table[np.subtract(stored, low, dtype=np.int64)]


def _between(values: NDArray[Any], image: pydicom.Dataset) -> NDArray[np.float64]:
    values = apply_modality_lut(values, image)
    if "VOILUTSequence" in image:
        return own_range(np.asarray(apply_voi_lut(values.astype(np.int64), image), dtype=np.float64))
    if not _has_window(image):
        return own_range(np.asarray(values, dtype=np.float64))
    # What black and white are after windowing follows from the file, not from its pixels.
    ends = np.array([-BEYOND, BEYOND])
    with np.errstate(over="ignore"):  # of a sigmoid window, far outside it
        windowed = np.asarray(apply_voi_lut(np.concatenate([ends, values.ravel()]), image), dtype=np.float64)
    black, white = windowed[:2]
    return ((windowed[2:] - black) / (white - black)).reshape(values.shape)


def _has_window(image: pydicom.Dataset) -> bool:
    """Whether the file states a window that can be used: an empty one, or one of less than a value, counts as none."""
    centre, width = (np.atleast_1d(image.get(name) or []) for name in ("WindowCenter", "WindowWidth"))
    return bool(len(centre) and len(width) and float(width[0]) >= 1)


def _short(error: Exception) -> str:
    """The first sentence of what a library says."""
    return " ".join(str(error).split()).split(". ")[0].rstrip(".") or type(error).__name__
