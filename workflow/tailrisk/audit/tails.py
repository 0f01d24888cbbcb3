"""Small flip p-values, which no affordable number of random flips resolves."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from tailrisk.audit.flips import exact, tolerance

TAIL_P = 0.02  # below this the common flips give way to the functions here
TIE = 1e-9  # relative to Σ|v|: rounding must not stop a labelling from equalling itself
_SADDLEPOINT_PAIRS = 24  # from here on, and up to this share of tied |v|, the saddlepoint is within a few per cent
_TIED_SHARE = 0.1
_CELLS = 1 << 22  # of the draws × records handled at once


def smallest_p(n: int) -> float:
    """2⁻ⁿ, the chance of the observed labelling itself; kept representable for more than 1,000 pairs."""
    return 2.0 ** -min(n, 1000)


def tilt(v: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """t̂ [B] ≥ 0 with K′(t̂) = x for K(t) = Σ log cosh(t v); v [n, B], 0 < x < Σ|v|.

    K′ is concave for t > 0 and K′(t) ≤ t Σv², so Newton steps from x/Σv² rise to the root without overshooting.
    Where x is at the end of the range (to 1e-9 of Σ|v|) the root is that of a point just inside.
    """
    scale = np.sqrt((v * v).sum(axis=0))
    w = v / scale
    target = np.minimum(x / scale, (1 - TIE) * np.abs(w).sum(axis=0))
    t = target.copy()
    active = np.arange(t.size)
    for _ in range(100):
        tanh = np.tanh(t[active] * w[:, active])
        missing = target[active] - (w[:, active] * tanh).sum(axis=0)
        slope = (w[:, active] ** 2 * (1 - tanh * tanh)).sum(axis=0)
        open_ = (missing > 1e-12 * target[active]) & (slope > 0)
        active = active[open_]
        if active.size == 0:
            break
        t[active] += missing[open_] / slope[open_]
    return t / scale


def cumulant(t: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.float64]:
    """K(t) = Σ log cosh(t v) over pairs; t [B], v [n, B] → [B]."""
    z = np.abs(t * v)
    return (z + np.log1p(np.exp(-2 * z))).sum(axis=0) - v.shape[0] * np.log(2)


def saddlepoint_p(v: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(Σ ε v ≥ Σ v) per record by Lugannani and Rice (1980); v [n, B] continuous with Σv well above 0.

    With K(t) = Σ log cosh(t v), K′(t̂) = x = Σv, w = √(2(t̂x − K)), u = t̂ √K″: p = 1 − Φ(w) + φ(w)(1/u − 1/w).
    Measured: within 3 % at 100 pairs down to 1e-8; at 20 pairs typically 2 % down to 1e-3 and 4 % down to 1e-4, but
    single records up to 47 % too small at 17 and 18 pairs, where few labellings are left. Used from 24 pairs on, and
    for differences without ties only: it smooths the steps of a discrete sum away and so loses half of P(Σ ε v = x); at
    100 pairs p was 10 % too small with a dozen distinct |v| and 45 % with two. `record_tail_p` chooses.
    Never below 2⁻ⁿ, which is also the answer when no difference is negative and no other labelling reaches x.
    """
    n = v.shape[0]
    x, reach = v.sum(axis=0), np.abs(v).sum(axis=0)
    # Zero differences flip without effect.
    p = 2.0 ** -np.minimum(np.count_nonzero(v, axis=0), 1000).astype(np.float64)
    inside = np.flatnonzero(x < reach * (1 - TIE))
    if inside.size:
        w_, x_ = v[:, inside], x[inside]
        t = tilt(w_, x_)
        root = np.sqrt(np.maximum(2 * (t * x_ - cumulant(t, w_)), 0.0))
        curvature = t * np.sqrt((w_**2 * (1 - np.tanh(t * w_) ** 2)).sum(axis=0))
        density = np.exp(-0.5 * root * root) / np.sqrt(2 * np.pi)
        p[inside] = ndtr(-root) + density * (1 / curvature - 1 / root)
    return np.clip(p, smallest_p(n), 1.0)


@dataclass(frozen=True)
class Law:
    """A distribution of signs ε under the null, as the functions here need it; v [n, B] or [n, R], x and t per column.

    tilt(v, x): t̂ ≥ 0 with K′(t̂) = x, to good accuracy, and K(t̂) = log E exp(t̂ Σ ε v); saddlepoint(v): P(Σ ε v ≥ Σ v);
    draw(v, t, column, uniforms): whether ε = 1, [draws, n], under the law tilted by t of the column that a draw is for;
    smallest(n): the chance of the observed labelling itself.
    """

    tilt: Callable[[NDArray[np.float64], NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
    saddlepoint: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    draw: Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.intp], NDArray[np.float32]], NDArray[np.bool_]]
    smallest: Callable[[int], float]


def _coin_tilt(v: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    t = tilt(v, x)
    return t, cumulant(t, v)


def _coin_draw(
    v: NDArray[np.float64], t: NDArray[np.float64], column: NDArray[np.intp], uniforms: NDArray[np.float32]
) -> NDArray[np.bool_]:
    up = expit(2 * t * v).astype(np.float32).T
    return uniforms < up[column]


COINS = Law(tilt=_coin_tilt, saddlepoint=saddlepoint_p, draw=_coin_draw, smallest=smallest_p)


def record_tail_p(v: NDArray[np.float64], uniforms: NDArray[np.float32], law: Law = COINS) -> NDArray[np.float64]:
    """P(Σ ε v ≥ Σ v) per record [B]; v [n, B] with Σv well above 0, uniforms as for `maximum_p`.

    By the saddlepoint where it is valid; with fewer than 24 pairs, or where more than a tenth of a record's |v| equal
    another (then the saddlepoint is 4 % off and more), by importance sampling.
    """
    size = np.sort(np.abs(v), axis=0)
    # Equal differences of float32 values agree to about 1e-7, continuous ones lie further apart.
    tied = (np.diff(size, axis=0) <= 1e-6 * size[-1]).mean(axis=0)
    smooth = (tied <= _TIED_SHARE) & (len(v) >= _SADDLEPOINT_PAIRS)
    p = np.empty(v.shape[1])
    p[smooth] = law.saddlepoint(v[:, smooth])
    discrete = np.flatnonzero(~smooth)
    x = v[:, discrete].sum(axis=0)
    t, k = law.tilt(v[:, discrete], x)
    for i, record in enumerate(discrete):
        p[record] = maximum_p(v[:, [record]], float(x[i]), t[[i]], k[[i]], uniforms[: number_of_draws(1)], law)
    return p


def number_of_draws(records: int) -> int:
    """Draws of `maximum_p` for a patient with so many records: each should be drawn for a few times."""
    return max(1000, 4 * records)


def sampling_uniforms(n: int, seed: int, records: int = 1) -> NDArray[np.float32]:
    """The random numbers [draws, n] that `maximum_p` shares between patients with up to `records` records."""
    return np.random.Generator(np.random.Philox(key=seed)).random((number_of_draws(records), n), dtype=np.float32)


def maximum_p(
    v: NDArray[np.float64],
    x: float,
    t: NDArray[np.float64],
    k: NDArray[np.float64],
    uniforms: NDArray[np.float32],
    law: Law = COINS,
) -> float:
    """P(max_r Σ ε v_r ≥ x) for one patient by importance sampling.

    v [n, R]: scaled differences of the R records that can reach x; t [R]: t̂_r of the law's tilt at x; k [R]: K_r(t̂_r);
    uniforms [draws, n]. Flips come from the mixture Σ_r π_r P_r with π_r ∝ exp(K_r − t̂_r x), in fixed shares of the
    draws, where P_r is the law tilted by t̂_r v_r: for coins P_r(ε_k = 1) = 1/(1 + exp(−2 t̂_r v_kr)). The weight of a
    draw with sums S_q is 1/Σ_q π_q exp(t̂_q S_q − K_q). Relative error 4–8 % at every p.
    """
    draws, records = len(uniforms), v.shape[1]
    log_share = k - t * x
    log_share -= log_share.max()
    log_share -= np.log(np.exp(log_share).sum())
    bounds = np.cumsum(np.exp(log_share))[:-1]
    drawn_for = np.searchsorted(bounds, (np.arange(draws) + 0.5) / draws)
    rounded = exact(v)
    reach = rounded.sum(axis=0, dtype=np.float64)
    total = 0.0
    rows = max(1, _CELLS // records)
    for start in range(0, draws, rows):
        part = slice(start, start + rows)
        plus = law.draw(v, t, drawn_for[part], uniforms[part]).astype(np.float32)
        sums = 2 * (plus @ rounded).astype(np.float64) - reach
        hits = sums[sums.max(axis=1) >= x - tolerance(len(v))]
        log_ratio = hits * t - k + log_share
        largest = log_ratio.max(axis=1, initial=-np.inf)
        total += float((np.exp(-largest) / np.exp(log_ratio - largest[:, None]).sum(axis=1)).sum())
    return float(np.clip(total / draws, law.smallest(len(v)), 1.0))
