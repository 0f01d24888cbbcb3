"""Composition of a tail beside the whole: the published arithmetic of groups."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2


def composition(
    names: NDArray[np.object_], n: NDArray[Any], tail_n: NDArray[Any], size: int, tail: int, overlapping: bool
) -> dict[str, Any]:
    """The published comparison of a tail with the whole that contains it.

    n, tail_n [G]: units of each group among all `size` and among the `tail`; groups that overlap have no χ². Columns of
    a table with a row a group, or one value for all.
    """
    expected = n / size * tail
    statistic = float(((tail_n - expected) ** 2 / expected).sum())
    dof = 0 if overlapping else names.size - 1
    return {
        "group": names,
        "n": n.astype(np.int64),
        "share": n / size,
        "tail_n": tail_n.astype(np.int64),
        "tail_expected": expected,
        "tail_share": tail_n / tail,
        "relative_change": (tail_n - expected) / expected,
        "residual": residuals(tail_n, expected),
        "statistic": statistic,
        "dof": dof,
        "p_value": float(chi2.sf(statistic, dof)) if dof else np.nan,
        "overlapping": overlapping,
    }


def residuals(count: NDArray[Any], expected: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson residuals without the factor 1/√(1 − share), as published."""
    return (count - expected) / np.sqrt(expected)
