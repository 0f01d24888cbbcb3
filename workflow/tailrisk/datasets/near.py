"""The search for records that are the same, or nearly so, over inputs that may be larger than memory."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.spatial import cKDTree

NEAR = {"table": 0.01, "record": 0.1}
"""Largest difference of near records, in standard deviations: of any feature of a table, or the root mean square of
all values of an image or a signal.

Of 82 radiographs that two collections publish under the same names (Hannover and covid-chestxray; another size, another
encoding), cropped alike and at 64 × 64 pixels, 76 differ by less than 0.085, and the other six, cropped elsewhere, by
more than 0.78. Two patients of NIH ChestX-ray14 differ by 0.22 (16 × 16 pixels) or more among 1,000 images; two of
PTB-XL by 0.92 or more among 500, but for one true copy (0.01). In a table, 0.01 is little more than rounding: a year
of age is about 0.05. A mean over its features would call patients near who differ in one of many.
"""
COMPONENTS, SEARCHED, SAMPLE = 64, 16, 2000
"""Principal components that records are first compared in, those of them that the tree searches, and records that they
are fitted on."""
BLOCK = 1 << 26
"""Bytes of double precision that are worked on at a time."""
CANDIDATES = 1 << 20
"""Pairs that are looked at at a time."""
COUNTED = 1 << 10
"""Records whose neighbours are counted at a time."""
MOST = 200_000_000
"""Pairs that are looked at in all, which takes minutes; where there are more, the search does not begin."""
ROUNDED = 6
"""Decimals that differences are rounded to."""

Rows = NDArray[np.int64]
Pairs = tuple[Rows, Rows, NDArray[np.float64]]
"""Two things each, the first with the lower number, and how much they differ."""


class TooManyError(Exception):
    """More than MOST pairs of records may be near: every one would have to be looked at."""


class Standardised:
    """The inputs of a prepared dataset, read and standardised block by block, so that memory stays bounded.

    Images and signals are standardised record by record, by their own mean and standard deviation, so that another
    brightness, contrast or gain hides no copy; tables feature by feature, without those that are constant. Values are
    divided by the root of their number: Euclidean distances are root-mean-square differences.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, an array [N, features], [N, leads, samples] or [N, channels, height, width]."""
        self._path = path
        array = self._open()
        self.is_table = array.ndim == 2
        self.values = int(np.prod(array.shape[1:]))
        self.step = max(1, BLOCK // (8 * self.values))
        self.threshold = NEAR["table" if self.is_table else "record"]
        self._n = len(array)
        if self.is_table:
            self._varying, self._mean, self._scale = self._columns()

    def raw(self) -> Iterator[NDArray[Any]]:
        """All records as they are, in blocks [n, values]."""
        for start in range(0, self._n, self.step):
            yield self._open()[start : start + self.step].reshape(-1, self.values)

    def __getitem__(self, rows: Rows) -> NDArray[np.float64]:
        """Records `rows`, standardised [len(rows), values], of tables [len(rows), features that vary]."""
        flat = self._open()[rows].reshape(len(rows), -1).astype(np.float64)
        if self.is_table:
            flat = flat[:, self._varying]
            flat -= self._mean
            flat /= self._scale
        else:
            flat -= flat.mean(axis=1, keepdims=True)
            flat /= _positive(flat.std(axis=1, keepdims=True))
        flat /= np.sqrt(flat.shape[1])
        return flat

    def differences(self, a: Rows, b: Rows) -> NDArray[np.float64]:
        """How much each record of `a` differs from that of `b`: in a table by the largest difference of a feature,
        which no root mean square exceeds, else by the root mean square itself; rounded."""
        found = np.empty(len(a))
        for start in range(0, len(a), self.step):
            part = slice(start, start + self.step)
            values = self[a[part]] - self[b[part]]
            if self.is_table:
                found[part] = np.abs(values).max(axis=1) * np.sqrt(values.shape[1])
            else:
                found[part] = np.linalg.norm(values, axis=1)
        return found.round(ROUNDED)

    def _open(self) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self._path, mmap_mode="r")  # anew, so that pages are freed
        return array

    def _columns(self) -> tuple[Rows, NDArray[np.float64], NDArray[np.float64]]:
        """Which features vary (the first where none does), and their means and standard deviations."""
        ends = [(block.min(axis=0), block.max(axis=0)) for block in self.raw()]
        low, high = np.min([low for low, _ in ends], axis=0), np.max([high for _, high in ends], axis=0)
        varying = np.flatnonzero(high > low) if (high > low).any() else np.zeros(1, dtype=np.int64)
        mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in self.raw()], axis=0)[varying] / self._n
        squares = np.sum([((block[:, varying] - mean) ** 2).sum(axis=0) for block in self.raw()], axis=0)
        return varying, mean, _positive(np.sqrt(squares / self._n))


def _positive(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(scale > 0, scale, 1.0)


def equal(inputs: Standardised) -> Rows:
    """Group of records with equal bytes that each record is in [N], numbered by their first records."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for block in inputs.raw() for row in block]
    return np.asarray(pd.factorize(np.array(digests, dtype=object))[0], dtype=np.int64)


def near_pairs(inputs: Standardised, rows: Rows, threads: int = 1) -> Iterator[Pairs]:
    """All pairs of places in `rows` whose records differ by at most `inputs.threshold`, in blocks.

    A projection only shrinks distances: records that are near are near in some principal components, too. A tree finds
    those that are near in a few, more components thin them out, and the difference of all values decides. TooManyError
    where these components are those of too many pairs.
    """
    coordinates = embedded(inputs, rows)
    points = coordinates[:, :SEARCHED].astype(np.float64)
    radius = inputs.threshold + _lost(coordinates)
    tree = cKDTree(points)
    around = _neighbours(tree, points, radius, threads)
    some = np.flatnonzero(around > 1)
    for block in _cut(some, around[some], CANDIDATES):
        found = tree.query_ball_point(points[block], radius, workers=threads, return_sorted=True)
        a = np.repeat(block, [len(others) for others in found])
        b = np.concatenate([np.asarray(others, dtype=np.int64) for others in found])
        possible = (a < b) & (np.linalg.norm(coordinates[a] - coordinates[b], axis=1) <= radius)
        a, b = a[possible], b[possible]
        difference = inputs.differences(rows[a], rows[b])
        near = difference <= inputs.threshold
        if near.any():
            yield a[near], b[near], difference[near]


def _lost(coordinates: NDArray[np.float32]) -> float:
    """What distances of points [N, k] may exceed their rounded differences by: half a digit, and the single precision
    of both points, which errs by a share of their norms."""
    largest = float(np.sqrt(np.square(coordinates, dtype=np.float64).sum(axis=1).max()))
    return 10.0**-ROUNDED + 2 * largest * float(np.finfo(np.float32).eps)


def _neighbours(tree: cKDTree, points: NDArray[np.float64], radius: float, threads: int) -> Rows:
    """How many points are within the radius of each [N], itself included; TooManyError as soon as they are too many."""
    parts: list[Rows] = []
    pairs = 0
    for start in range(0, len(points), COUNTED):
        part = points[start : start + COUNTED]
        parts.append(tree.query_ball_point(part, radius, workers=threads, return_length=True))
        pairs += int(parts[-1].sum()) - len(part)
        if pairs > 2 * MOST:  # each is met from both sides
            raise TooManyError
    return np.concatenate(parts)


def embedded(inputs: Standardised, rows: Rows) -> NDArray[np.float32]:
    """Coordinates [len(rows), k] in the principal components of the inputs, the largest first; these are fitted on rows
    at equal distances."""
    size = max(2, min(len(rows), SAMPLE, BLOCK // (2 * inputs.values)))
    sample = inputs[rows[np.unique(np.linspace(0, len(rows) - 1, size).astype(np.int64))]]
    centre = sample.mean(axis=0)
    sample -= centre
    k = min(COMPONENTS, *sample.shape)
    vectors = eigh(sample @ sample.T, subset_by_index=(len(sample) - k, len(sample) - 1))[1]
    # Orthonormal also where the sample has fewer directions than k; only then do distances shrink.
    axes = np.linalg.qr(sample.T @ vectors[:, ::-1])[0]
    points = np.empty((len(rows), k), dtype=np.float32)
    for start in range(0, len(rows), inputs.step):
        part = slice(start, start + inputs.step)
        points[part] = (inputs[rows[part]] - centre) @ axes
    return points


def _cut(rows: Rows, sizes: Rows, most: int) -> Iterator[Rows]:
    """`rows` in parts whose `sizes` add up to about `most`."""
    if len(rows):
        yield from np.split(rows, np.flatnonzero(np.diff(np.cumsum(sizes) // most)) + 1)
