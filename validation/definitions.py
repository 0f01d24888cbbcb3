"""The attacks by their definitions, one target at a time, with the choices in which tools differ.

Plain numpy on the references of one target, without anything of the package: what the package and every other tool must
give once their choices are known.
"""

from typing import Literal

import numpy as np
from matrix import Matrix
from numpy.typing import NDArray
from scipy.stats import norm, trim_mean

Values = NDArray[np.float64]
Centre = Literal["mean", "median"]
Spread = Literal["record", "pooled", "total", "total of IN"]
"""Of the record's own values; of all records' values less their means; of all values, differences between records
included; that of the IN values on both sides."""


def lira(
    matrix: Matrix, target: int, form: str, centre: Centre = "mean", ddof: int = 1, spread: Spread = "record"
) -> Values:
    """Scores [N] of LiRA, higher for members; form: online, offline (z value) or two_sided."""
    inside, outside = _sides(matrix.confidences.astype(np.float64), matrix, target)
    own = matrix.confidences[target].astype(np.float64)
    middle = np.mean if centre == "mean" else np.median
    mean_in, mean_out = middle(inside, axis=0), middle(outside, axis=0)
    sd_in = _spread(inside, ddof, spread)
    sd_out = sd_in if spread == "total of IN" else _spread(outside, ddof, spread)
    if form == "online":
        return norm.logpdf(own, mean_in, sd_in) - norm.logpdf(own, mean_out, sd_out)
    if form == "offline":
        return (own - mean_out) / sd_out
    return -norm.logpdf(own, mean_out, sd_out)


def attack_r(matrix: Matrix, target: int) -> Values:
    """Share of a record's OUT references below the target's value, ties half [N]."""
    own, outside = matrix.confidences[target], _sides(matrix.confidences.astype(np.float64), matrix, target)[1]
    return ((outside < own) + 0.5 * (outside == own)).mean(axis=0)


def _sides(values: Values, matrix: Matrix, target: int) -> tuple[Values, Values]:
    """IN and OUT values of the references, [n, N] each: every record has as many of either."""
    others = matrix.without_pair(target)
    columns, member = values[others].T, matrix.member[others].T
    n = len(others) // 2
    return columns[member].reshape(-1, n).T, columns[~member].reshape(-1, n).T


def _spread(values: Values, ddof: int, spread: Spread) -> Values:
    if spread == "record":
        return values.std(axis=0, ddof=ddof)
    if spread == "pooled":
        return np.sqrt(values.var(axis=0, ddof=ddof).mean())
    return values.std(ddof=ddof)


def rmia(matrix: Matrix, target: int, population: int, a: float | None, trimmed: float = 0.0) -> Values:
    """Scores [N] of RMIA with γ = 1 against the first `population` records; a: None for online."""
    p = matrix.probability
    inside, outside = (trim_mean(side, trimmed, axis=0) for side in _sides(p, matrix, target))
    expected = (inside + outside) / 2 if a is None else ((1 + a) * outside + 1 - a) / 2
    ratio = p[target] / expected
    return (ratio[:, None] > ratio[:population]).mean(axis=1)
