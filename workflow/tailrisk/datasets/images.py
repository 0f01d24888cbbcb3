"""Pictures: finding them below a folder, and reading them as 8-bit gray of one size."""

import os
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tailrisk.datasets.contract import first
from tailrisk.datasets.files import read_files
from tailrisk.errors import UserError

EIGHT_BIT = {"1", "L", "LA", "P", "RGB", "RGBA"}
"""Pillow's names of the kinds of pixels that become 8-bit gray without a loss of range."""


def find_images(folder: Path, names: Sequence[str], where: str) -> list[Path]:
    """The files called `names`, anywhere below `folder`; links are followed.

    UserError with their number and the first few where files are missing, or a name occurs in two places.
    """
    wanted = set(names)
    found: dict[str, Path] = {}
    for parent, _, files in os.walk(folder, followlinks=True):
        for name in wanted.intersection(files):
            if name in found:
                raise UserError(f"the image {name} lies in {found[name].parent} and in {parent}: remove one of them")
            found[name] = Path(parent, name)
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(
            f"{len(missing)} of the {len(names)} images in {where} are not below {folder}: {first(missing)}; fetch "
            "them, or leave their rows out of the table"
        )
    return [found[name] for name in names]


def gray_images(files: Sequence[Path], size: int) -> NDArray[np.uint8]:
    """Images [N, 1, size, size] uint8 from files of any size and, of 8 bits a channel, any kind; see `gray_image`."""
    return read_files(partial(gray_image, size=size), files, (1, size, size), np.uint8, "images", workers="threads")


def gray_image(file: Path, size: int) -> NDArray[np.uint8]:
    """One image [1, size, size]: luma of ITU-R 601 without the alpha channel, resized by Pillow.

    Resizing is bilinear with antialiasing (a triangle filter as wide as two pixels of the result), and changes
    the aspect ratio of images that are not square. UserError where the file is not a readable 8-bit picture.
    """
    try:
        content = BytesIO(file.read_bytes())
        with Image.open(content) as image:
            image.verify()  # checksums, which decoding passes over; an image has to be opened anew afterwards
        with Image.open(content) as image:
            if image.mode not in EIGHT_BIT:
                raise UserError(f"(pixels of Pillow's mode {image.mode}, not of 8 bits)")
            gray = image.convert("L")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"({error})") from None
    return np.asarray(gray.resize((size, size), Image.Resampling.BILINEAR))[None]
