"""Pictures: finding them below a folder, and reading them as 8-bit gray or colour of one size."""

import os
import zlib
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tailrisk.datasets.contract import Files, Workers
from tailrisk.errors import UserError

EIGHT_BIT = {"1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"}
"""Pillow's names of the kinds of pixels that become 8-bit gray or colour without a loss of range."""
SIXTEEN_BIT = {"I;16", "I;16B", "I;16L", "I"}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
DRAFT = 2
"""JPEG files are decoded at a half, a quarter or an eighth of their size where that leaves this many pixels a side for
each of the result: resizing averages over the others anyway, and decoding is most of the work."""
Deep = Literal["refused", "full", "own"]
"""What becomes of pixels of 16 bits: refused, 0 to 65,535 made 0 to 255 (full), or an image's own range (own)."""


def find_images(folder: Path, names: Sequence[str], where: str) -> list[Path]:
    """The files called `names`, anywhere below `folder`; links are followed. Missing ones are given a path there.

    UserError where none is found, or a name occurs in two places.
    """
    wanted = set(names)
    found: dict[str, Path] = {}
    for parent, _, files in os.walk(folder, followlinks=True):
        for name in wanted.intersection(files):
            if name in found:
                raise UserError(f"the image {name} lies in {found[name].parent} and in {parent}: remove one of them")
            found[name] = Path(parent, name)
    if not found:
        raise UserError(
            f"none of the {len(names):,} images in {where} is below {folder}, such as {names[0]}: unpack them "
            "there, or correct the dataset's options"
        )
    return [found.get(name) or folder / name for name in names]


def pictures(paths: Sequence[Path], shape: tuple[int, int], colour: bool = False, deep: Deep = "refused") -> Files:
    """Images [N, 1 or 3, height, width] uint8, to be decoded by `picture`."""
    decode = partial(picture, shape=shape, colour=colour, deep=deep)
    # JPEG decoders are busy without Python's lock; of other files, which are smaller, much of the work is Python's own,
    # which threads would do one after another (64 × 64 PNG: 0.4 times the speed of a pool of processes, against 0.9).
    workers: Workers = "threads" if paths and paths[0].suffix.lower() in {".jpg", ".jpeg"} else "processes"
    return Files(paths, decode, (3 if colour else 1, *shape), np.uint8, "images", workers)


def picture(file: Path, shape: tuple[int, int], colour: bool = False, deep: Deep = "refused") -> NDArray[np.uint8]:
    """One image [1 or 3, height, width]: gray (luma of ITU-R 601) or colour without the alpha channel, resized.

    Resizing is Pillow's bilinear with antialiasing (a triangle filter as wide as two pixels of the result); the aspect
    ratio is not kept. UserError where the file is not a readable picture, FileNotFoundError where there is none.
    """
    height, width = shape
    content = BytesIO(file.read_bytes())
    try:
        with Image.open(content) as image:
            if image.format == "PNG":
                _refuse_damage(content.getbuffer())
            pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photograph and its preview
            if pages > 1:
                raise UserError(f"{pages} pages or frames, not one")
            if image.mode in SIXTEEN_BIT:
                gray = resized(_sixteen_bits(image, deep), shape)
                return np.repeat(gray, 3, axis=0) if colour else gray
            if image.mode not in EIGHT_BIT:
                raise UserError(f"pixels of Pillow's mode {image.mode}, not of 8 or 16 bits")
            mode = "RGB" if colour else "L"
            image.draft(mode, (DRAFT * width, DRAFT * height))
            pixels = image.convert(mode)
    except UnidentifiedImageError:
        raise UserError("not a picture") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(str(error)) from None
    array = np.asarray(pixels.resize((width, height), Image.Resampling.BILINEAR))
    return np.ascontiguousarray(array.transpose(2, 0, 1)) if colour else array[None]


def _refuse_damage(content: memoryview) -> None:
    """UserError where a chunk of a PNG file disagrees with its checksum, which Pillow's decoding passes over.

    Pillow's `verify` says the same, but takes a third of the time of a small image, as it cannot be decoded after it.
    """
    start = len(PNG_SIGNATURE)
    while start < len(content):
        end = start + 8 + int.from_bytes(content[start : start + 4], "big")
        if zlib.crc32(content[start + 4 : end]) != int.from_bytes(content[end : end + 4], "big"):
            raise UserError("damaged: a part does not agree with its checksum")
        start = end + 4


def resized(gray: NDArray[np.floating[Any]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels [h, w] between 0 and 1 as an image [1, height, width] of 8 bits."""
    image = Image.fromarray(np.asarray(gray * 255, dtype=np.float32))
    small = np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)[None]


def own_range(pixels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixels of which the darkest become 0 and the brightest 1; all 0 where they are all the same."""
    low, high = float(pixels.min()), float(pixels.max())
    return (pixels - low) / (high - low) if high > low else np.zeros_like(pixels)


def _sixteen_bits(image: Image.Image, deep: Deep) -> NDArray[np.float64]:
    if deep == "refused":
        raise UserError(f"pixels of Pillow's mode {image.mode}, not of 8 bits")
    pixels = np.asarray(image).astype(np.float64)
    return own_range(pixels) if deep == "own" else pixels / 65535
