"""Small p-values where every patient is a member of exactly half of M models: signs with equally many +1 and −1.

The rows of v are first those of the M/2 IN and then those of the M/2 OUT models, and signs are relative to that, so
that ±ε of the two halves sums to zero. With z = ±v the statistic is the sum Σ σ z over labellings σ with Σσ = 0, each
equally likely: fair coins given their sum, with the two-dimensional cumulant K(t, s) = Σ log cosh(t z + s).
"""

from math import comb

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, gammaln, ndtr

from tailrisk.audit.tails import TIE, Law

_TABLES = 64  # of chances held at once, each of M · M/2 numbers


def _sided(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """z from v [M, B]: the second half with its sign changed."""
    half = len(v) // 2
    return np.concatenate([v[:half], -v[half:]])


def smallest_p(models: int) -> float:
    """The chance of the observed labelling, 1/(M choose M/2); kept representable for more than 1,000 models."""
    return 1 / comb(min(models, 1000), min(models, 1000) // 2)


def _log_two_cosh(a: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.abs(a)
    return size + np.log1p(np.exp(-2 * size))


def double_tilt(z: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """t̂ ≥ 0 and ŝ [B] that minimise the convex K(t, s) − t x, so that ∂K/∂t = x and ∂K/∂s = 0; z [M, B], x > 0.

    Newton's steps, halved until they descend. Where x is the largest sum of all (to 1e-9) the minimum is that of a
    point just inside.
    """
    scale = np.sqrt((z * z).sum(axis=0))
    w = z / scale
    ordered = np.sort(w, axis=0)
    half = len(z) // 2
    target = np.minimum(x / scale, (1 - TIE) * (ordered[half:].sum(axis=0) - ordered[:half].sum(axis=0)))
    t, s = target.copy(), -target * w.mean(axis=0)
    value = _log_two_cosh(t * w + s).sum(axis=0) - t * target
    active = np.arange(t.size)
    for _ in range(200):
        one = w[:, active]
        tanh = np.tanh(t[active] * one + s[active])
        slack = 1 - tanh * tanh
        g_t, g_s = (one * tanh).sum(axis=0) - target[active], tanh.sum(axis=0)
        k_tt, k_ts, k_ss = (one * one * slack).sum(axis=0), (one * slack).sum(axis=0), slack.sum(axis=0)
        determinant = k_tt * k_ss - k_ts * k_ts
        going = (np.abs(g_t) + np.abs(g_s) > 1e-10) & (determinant > 1e-14 * k_tt * k_ss)
        if not going.any():
            break
        active, one = active[going], one[:, going]
        g_t, g_s, k_tt, k_ts, k_ss, determinant = (a[going] for a in (g_t, g_s, k_tt, k_ts, k_ss, determinant))
        step_t = (k_ss * g_t - k_ts * g_s) / determinant
        step_s = (k_tt * g_s - k_ts * g_t) / determinant
        part = np.ones(active.size)
        for _ in range(40):
            new_t, new_s = t[active] - part * step_t, s[active] - part * step_s
            new = _log_two_cosh(new_t * one + new_s).sum(axis=0) - new_t * target[active]
            rising = new > value[active] + 1e-12 * np.abs(value[active])
            if not rising.any():
                break
            part[rising] *= 0.5
        t[active], s[active], value[active] = new_t, new_s, new
    return t / scale, s


def saddlepoint_p(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(Σ ε v ≥ Σ v) per record by the double saddlepoint of Skovgaard (1987); v [M, B], Σv well above 0.

    w = √(2(t̂x − K(t̂, ŝ))), u = t̂ √(det K″(t̂, ŝ)/M) where M = ∂²K/∂s² at 0: p = 1 − Φ(w) + φ(w)(1/u − 1/w).
    Never below the chance of the observed labelling, which is also the answer when no other labelling reaches x.
    """
    models, z, x = len(v), _sided(v), v.sum(axis=0)
    half = models // 2
    p = np.full(x.size, smallest_p(models))
    ordered = np.sort(z, axis=0)
    reach = ordered[half:].sum(axis=0) - ordered[:half].sum(axis=0)
    inside = np.flatnonzero(x < reach - TIE * np.abs(z).sum(axis=0))
    if inside.size:
        z, x = z[:, inside], x[inside]
        t, s = double_tilt(z, x)
        tilted = t * z + s
        k = _log_two_cosh(tilted).sum(axis=0) - models * np.log(2)
        slack = 1 - np.tanh(tilted) ** 2
        determinant = (z * z * slack).sum(axis=0) * slack.sum(axis=0) - (z * slack).sum(axis=0) ** 2
        root = np.sqrt(np.maximum(2 * (t * x - k), 0.0))
        curvature = t * np.sqrt(np.maximum(determinant, 0.0) / models)
        density = np.exp(-0.5 * root * root) / np.sqrt(2 * np.pi)
        # A labelling or two short of the largest sum the curvature vanishes, and there the density bounds the tail.
        usable = (curvature > 1e-8) & (root > 1e-8)
        with np.errstate(divide="ignore", invalid="ignore"):
            tail = ndtr(-root) + density * (1 / curvature - 1 / root)
        p[inside] = np.where(usable, tail, np.exp(-0.5 * root * root))
    return np.clip(p, smallest_p(models), 1.0)


def _tilt(v: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """t̂ [B] and K(t̂) = log E exp(t̂ Σ ε v), exact: Σ log 2cosh(t̂ z + ŝ) + log P(M/2 of the tilted coins) less the
    logarithm of the number of labellings."""
    models, z = len(v), _sided(v)
    t, s = double_tilt(z, x)
    up = expit(2 * (t * z + s))
    shown = np.zeros((t.size, models // 2 + 1))
    shown[:, 0] = 1.0
    for k in range(models):
        shown = _one_more(up[k], shown)
    k = _log_two_cosh(t * z + s).sum(axis=0) + np.log(shown[:, -1])
    return t, k - (gammaln(models + 1) - 2 * gammaln(models / 2 + 1))


def _one_more(up: NDArray[np.float64], shown: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities [R, M/2 + 1] of 0, …, M/2 times +1 among coins, one more coin with probability up [R] included."""
    result = (1 - up[:, None]) * shown
    result[:, 1:] += up[:, None] * shown[:, :-1]
    return result


def _chances(up: NDArray[np.float64]) -> NDArray[np.float32]:
    """[M, R, M/2 + 1]: the probability that coin k shows +1, given that coins k, …, M − 1 do so j times; up [M, R]."""
    models, records = up.shape
    result = np.zeros((models, records, models // 2 + 1), dtype=np.float32)
    later = np.zeros((records, models // 2 + 1))
    later[:, 0] = 1.0
    for k in range(models - 1, -1, -1):
        here = _one_more(up[k], later)
        # Where it underflows to zero, no draw comes.
        np.divide(up[k][:, None] * later[:, :-1], here[:, 1:], out=result[k, :, 1:], where=here[:, 1:] > 0)
        later = here
    return result


def _draw(
    v: NDArray[np.float64], t: NDArray[np.float64], column: NDArray[np.intp], uniforms: NDArray[np.float32]
) -> NDArray[np.bool_]:
    """Coins tilted by t z given that half of them show +1, one model after another; + where a model keeps its side."""
    models = len(v)
    used, number = np.unique(column, return_inverse=True)
    tilted = t[used] * _sided(v[:, used])
    # Any shift of all logits gives the same law; with half of them above 0 the chances of likely paths are exact.
    up = expit(2 * (tilted - np.median(tilted, axis=0)))
    inside = np.empty((models, column.size), dtype=bool)
    for begin in range(0, used.size, _TABLES):
        rows = np.flatnonzero((number >= begin) & (number < begin + _TABLES))
        chances = _chances(up[:, begin : begin + _TABLES])
        which, needed = number[rows] - begin, np.full(rows.size, models // 2)
        for k in range(models):
            shows = uniforms[rows, k] < chances[k, which, needed]
            inside[k, rows] = shows
            needed -= shows
    return (np.arange(models) < models // 2) == inside.T


BALANCED = Law(tilt=_tilt, saddlepoint=saddlepoint_p, draw=_draw, smallest=smallest_p)
