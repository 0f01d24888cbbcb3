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
"""Largest difference of near records, in standard deviations: of tables, and of images and signals.

Of 82 radiographs that two collections publish under the same names (Hannover and covid-chestxray; another size, another
encoding), cropped alike and at 64 × 64 pixels, 76 differ by less than 0.085, and the other six, cropped elsewhere, by
more than 0.78. Two patients of NIH ChestX-ray14 differ by 0.22 (16 × 16 pixels) or more among 1,000 images; two of
PTB-XL by 0.92 or more among 500, but for one true copy (0.01). In a table, 0.01 is little more than rounding.
"""
COMPONENTS, SEARCHED, SAMPLE = 64, 16, 2000
"""Principal components that records are first compared in, those of them that the tree searches, and records that they
are fitted on."""
BLOCK = 1 << 26
"""Bytes of single precision that are worked on at a time."""
CANDIDATES = 1 << 20
"""Pairs that are looked at at a time."""

Rows = NDArray[np.int64]
Pairs = tuple[Rows, Rows, NDArray[np.float64]]
"""Two things each, the first with the lower number, and how much they differ."""


class Standardised:
    """The inputs of a prepared dataset, read and standardised block by block, so that memory stays bounded.

    Images and signals are standardised record by record, by their own mean and standard deviation, so that another
    brightness, contrast or gain hides no copy; tables feature by feature. Values are divided by the root of their
    number: Euclidean distances are root-mean-square differences.
    """

    def __init__(self, path: Path) -> None:
        """Open `path`, an array [N, features], [N, leads, samples] or [N, channels, height, width]."""
        self._path = path
        array = self._open()
        self.is_table = array.ndim == 2
        self.values = int(np.prod(array.shape[1:]))
        self.step = max(1, BLOCK // (4 * self.values))
        self.threshold = NEAR["table" if self.is_table else "record"]
        self._n = len(array)
        if self.is_table:
            self._mean, self._scale = self._columns()

    def raw(self) -> Iterator[NDArray[Any]]:
        """All records as they are, in blocks [n, values]."""
        for start in range(0, self._n, self.step):
            yield self._open()[start : start + self.step].reshape(-1, self.values)

    def __getitem__(self, rows: Rows) -> NDArray[np.float32]:
        """Records `rows`, standardised [len(rows), values]."""
        flat = self._open()[rows].reshape(len(rows), -1).astype(np.float64)
        if self.is_table:
            flat = (flat - self._mean) / self._scale
        else:
            flat -= flat.mean(axis=1, keepdims=True)
            flat /= _positive(flat.std(axis=1, keepdims=True))
        return (flat / np.sqrt(self.values)).astype(np.float32)

    def _open(self) -> NDArray[Any]:
        array: NDArray[Any] = np.load(self._path, mmap_mode="r")  # anew, so that pages are freed
        return array

    def _columns(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        mean = np.sum([block.sum(axis=0, dtype=np.float64) for block in self.raw()], axis=0) / self._n
        squares = np.sum([((block - mean) ** 2).sum(axis=0) for block in self.raw()], axis=0)
        return mean, _positive(np.sqrt(squares / self._n))


def _positive(scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(scale > 0, scale, 1.0)


def equal(inputs: Standardised) -> Rows:
    """Group of records with equal bytes that each record is in [N], numbered by their first records."""
    digests = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for block in inputs.raw() for row in block]
    return np.asarray(pd.factorize(np.array(digests, dtype=object))[0], dtype=np.int64)


def near_pairs(inputs: Standardised, rows: Rows, threads: int = 1) -> Iterator[Pairs]:
    """All pairs of places in `rows` whose records differ by at most `inputs.threshold`, in blocks.

    A projection only shrinks distances: records that are near are near in some principal components, too. A tree finds
    those that are near in a few, more components thin them out, and the difference of all values, rounded to six
    decimals, decides.
    """
    coordinates = embedded(inputs, rows)
    points = coordinates[:, :SEARCHED].astype(np.float64)
    radius = inputs.threshold + 1e-5  # for what single precision may take away
    tree = cKDTree(points)
    around = tree.query_ball_point(points, radius, workers=threads, return_length=True)
    some = np.flatnonzero(around > 1)
    for block in _cut(some, around[some], CANDIDATES):
        found = tree.query_ball_point(points[block], radius, workers=threads, return_sorted=True)
        a = np.repeat(block, [len(others) for others in found])
        b = np.concatenate([np.asarray(others, dtype=np.int64) for others in found])
        possible = (a < b) & (np.linalg.norm(coordinates[a] - coordinates[b], axis=1) <= radius)
        a, b = a[possible], b[possible]
        difference = _differences(inputs, rows[a], rows[b])
        near = difference <= inputs.threshold
        if near.any():
            yield a[near], b[near], difference[near]


def embedded(inputs: Standardised, rows: Rows) -> NDArray[np.float32]:
    """Coordinates [len(rows), k] in the principal components of the inputs, the largest first; these are fitted on rows
    at equal distances."""
    size = max(2, min(len(rows), SAMPLE, BLOCK // inputs.values))
    sample = inputs[rows[np.unique(np.linspace(0, len(rows) - 1, size).astype(np.int64))]]
    centre = sample.mean(axis=0)
    sample -= centre
    k = min(COMPONENTS, *sample.shape)
    vectors = eigh((sample @ sample.T).astype(np.float64), subset_by_index=(len(sample) - k, len(sample) - 1))[1]
    # Orthonormal also where the sample has fewer directions than k; only then do distances shrink.
    axes = np.linalg.qr(sample.T.astype(np.float64) @ vectors[:, ::-1])[0].astype(np.float32)
    points = np.empty((len(rows), k), dtype=np.float32)
    for start in range(0, len(rows), inputs.step):
        part = slice(start, start + inputs.step)
        points[part] = (inputs[rows[part]] - centre) @ axes
    return points


def _cut(rows: Rows, sizes: Rows, most: int) -> Iterator[Rows]:
    """`rows` in parts whose `sizes` add up to about `most`."""
    if len(rows):
        yield from np.split(rows, np.flatnonzero(np.diff(np.cumsum(sizes) // most)) + 1)


def _differences(inputs: Standardised, a: Rows, b: Rows) -> NDArray[np.float64]:
    difference = np.empty(len(a))
    for start in range(0, len(a), inputs.step):
        part = slice(start, start + inputs.step)
        difference[part] = np.linalg.norm((inputs[a[part]] - inputs[b[part]]).astype(np.float64), axis=1)
    return difference.round(6)
