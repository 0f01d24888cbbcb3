"""The rank AUC of many records with the interval of DeLong, DeLong and Clarke-Pearson (1988)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_INDEX_BITS = 20  # of a sort key: the number of the value within its record


class RankAuc(NamedTuple):
    """Rank AUC, its standard error and 95 % interval, arrays [B]."""

    auc: NDArray[np.float64]
    se: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def rank_auc_interval(x: NDArray[np.float64], y: NDArray[np.float64], paired: bool) -> RankAuc:
    """P(x > y) + ½ P(x = y) per record with its interval; x [n₁, B] and y [n₀, B], compared as float32.

    The variance comes from the placement values V10_i, the share of the y below x_i, and V01_j, the share of the x
    above y_j: Var = Σ(V10_k + V01_k − 2θ)²/(n(n − 1)) over pairs k, which keeps the covariance of the two models of
    a pair, and Σ(V10 − θ)²/(n₁(n₁ − 1)) + Σ(V01 − θ)²/(n₀(n₀ − 1)) without pairs. The interval is θ ± 1.96 SE on the
    logit scale (of the plain, probit and logit scale, the last covers best). Near 0 and 1 the overlap of a few values
    is no measure of the variance. So no lower limit is above 0.025^(1/n), n the smaller side, and no upper one below
    1 − 0.025^(1/n): the limit that remains where both sides are apart, since under an AUC further off n separate
    couples of values would all come in one order with a probability below 2.5 %.
    """
    n1, n0 = len(x), len(y)
    counts = placement_counts(x, y)
    v10, v01 = counts[:, :n1] / n0, counts[:, n1:] / n1
    auc = v10.mean(axis=1)
    v10 -= auc[:, None]
    v01 -= auc[:, None]
    if paired:
        v10 += v01
        variance = np.einsum("ij,ij->i", v10, v10) / (n1 * (n1 - 1))
    else:
        variance = np.einsum("ij,ij->i", v10, v10) / (n1 * (n1 - 1))
        variance += np.einsum("ij,ij->i", v01, v01) / (n0 * (n0 - 1))
    se = np.sqrt(variance)
    inner = (auc > 0) & (auc < 1)
    inside = np.where(inner, auc, 0.5)
    odds = inside / (1 - inside)
    factor = np.exp(1.959963984540054 * se / (inside * (1 - inside)))
    far = 0.025 ** (1 / min(n1, n0))
    low = np.minimum(np.where(inner, odds / (odds + factor), auc), far)
    high = np.maximum(np.where(inner, odds / (odds + 1 / factor), auc), 1 - far)
    return RankAuc(auc, se, low, high)


def placement_counts(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """[B, n₁ + n₀]: for each x the number of y below it, then for each y the number of x above it; ties count half.

    One sort of integers that hold a float32 in the order of its value and, below, its number.
    """
    n1, models = len(x), len(x) + len(y)
    keys = np.empty((x.shape[1], models), dtype=np.int64)
    keys[:, :n1] = _ordered_integers(x).T
    keys[:, n1:] = _ordered_integers(y).T
    keys <<= _INDEX_BITS
    keys |= np.arange(models)
    keys.sort(axis=1)
    number = keys & ((1 << _INDEX_BITS) - 1)
    keys >>= _INDEX_BITS
    out = number >= n1
    below = np.cumsum(out, axis=1, dtype=np.int32)  # y up to here, inclusive
    counts = below.astype(np.float64)
    # At a y, the x from here on: as many as there are, less those up to here.
    counts += out * (n1 - np.arange(1, models + 1, dtype=np.int32))
    tied = np.flatnonzero((keys[:, 1:] == keys[:, :-1]).any(axis=1))
    if tied.size:
        counts[tied] = _tied_counts(keys[tied], out[tied], below[tied], n1)
    number += np.arange(len(keys))[:, None] * models
    result = np.empty_like(counts)
    result.ravel()[number.ravel()] = counts.ravel()
    return result


def _tied_counts(
    keys: NDArray[np.int64], out: NDArray[np.bool_], below: NDArray[np.int32], n1: int
) -> NDArray[np.float64]:
    """The counts of sorted rows with ties: the mean of those before and after each run of equal values."""
    position = np.broadcast_to(np.arange(keys.shape[1]), keys.shape)
    new = np.ones_like(out)
    new[:, 1:] = keys[:, 1:] != keys[:, :-1]
    last = np.ones_like(out)
    last[:, :-1] = new[:, 1:]
    start = np.maximum.accumulate(np.where(new, position, 0), axis=1)
    end = np.minimum.accumulate(np.where(last, position, keys.shape[1])[:, ::-1], axis=1)[:, ::-1]
    before = np.take_along_axis(below - out, start, axis=1)
    upto = np.take_along_axis(below, end, axis=1)
    return np.where(out, n1 - 0.5 * (start - before + end + 1 - upto), 0.5 * (before + upto))


def _ordered_integers(values: NDArray[np.float64]) -> NDArray[np.int32]:
    """Integers in the order of the values as float32; adding zero makes −0 equal to 0."""
    bits = (values.astype(np.float32) + np.float32(0)).view(np.int32)
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))
