"""A user's own images: a manifest, and a file of any format that Pillow reads, or DICOM, for each of its rows."""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tailrisk.config.sources import Images
from tailrisk.datasets import manifest
from tailrisk.datasets.contract import Dataset, Files
from tailrisk.datasets.dicom import picture_of_dicom
from tailrisk.datasets.images import picture
from tailrisk.datasets.needs import Need

DICOM = {".dcm", ".dicom"}


def needs(spec: Images) -> list[Need]:
    """The table with its columns, and the folder of the images."""
    return manifest.needs(spec)


def read(spec: Images) -> Dataset:
    """One record a row of the table. Nothing but the suffix tells DICOM files from others."""
    height, width = spec.shape
    pixels = f"{'Colour' if spec.colour else 'Gray'} of 8 bits, resized to {height} × {width} pixels (bilinear, "
    pixels += "antialiased); images of 16 bits by their own range of values, DICOM files as a viewer shows them."
    return manifest.files_dataset(spec, partial(_inputs, spec), [], pixels)


def _inputs(spec: Images, paths: list[Path]) -> Files:
    decode = partial(image, shape=spec.shape, colour=spec.colour)
    return Files(paths, decode, (3 if spec.colour else 1, *spec.shape), np.uint8, "images")


def image(file: Path, shape: tuple[int, int], colour: bool) -> NDArray[np.uint8]:
    """One image [1 or 3, height, width]; three equal channels where a file of one is wanted in colour."""
    if file.suffix.lower() in DICOM:
        array = picture_of_dicom(file, shape)
        return np.repeat(array, 3, axis=0) if colour else array
    return picture(file, shape, colour=colour, deep="own")
