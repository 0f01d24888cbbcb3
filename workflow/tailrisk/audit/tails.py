"""Small flip p-values, which no affordable number of random flips resolves."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr

from tailrisk.audit.flips import exact, tolerance

TAIL_P = 0.02  # below this the common flips give way to the functions here
DRAWS = 1000
TIE = 1e-9  # relative to Σ|v|: rounding must not stop a labelling from equalling itself


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
    """P(Σ ε v ≥ Σ v) per record by Lugannani and Rice (1980); v [n, B] with Σv well above 0.

    With K(t) = Σ log cosh(t v), K′(t̂) = x = Σv, w = √(2(t̂x − K)), u = t̂ √K″: p = 1 − Φ(w) + φ(w)(1/u − 1/w).
    Measured: within 3 % at 100 pairs down to 1e-8; at 20 pairs typically 2 % down to 1e-3 and 4 % down to 1e-4 (single
    records 20 %), where exact enumeration has a hundred labellings left.
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


def sampling_uniforms(n: int, seed: int) -> NDArray[np.float32]:
    """The random numbers [DRAWS, n] that `maximum_p` shares between all patients."""
    return np.random.Generator(np.random.Philox(key=seed)).random((DRAWS, n), dtype=np.float32)


def maximum_p(
    v: NDArray[np.float64],
    x: float,
    t: NDArray[np.float64],
    k: NDArray[np.float64],
    uniforms: NDArray[np.float32],
) -> float:
    """P(max_r Σ ε v_r ≥ x) for one patient by importance sampling.

    v [n, R]: scaled differences of the R records that can reach x; t [R]: t̂_r of `tilt` at x; k [R]: K_r(t̂_r). Flips
    come from the mixture Σ_r π_r P_r with π_r ∝ exp(K_r − t̂_r x), in fixed shares of the draws, and
    P_r(ε_k = 1) = 1/(1 + exp(−2 t̂_r v_kr)); the weight of a draw with sums S_q is 1/Σ_q π_q exp(t̂_q S_q − K_q).
    Relative error 4–8 % at every p.
    """
    log_share = k - t * x
    cumulative = np.cumsum(np.exp(log_share - log_share.max()))
    edges = np.rint(cumulative / cumulative[-1] * len(uniforms)).astype(np.intp)
    draws = np.diff(edges, prepend=0)
    up = expit(2 * t * v).astype(np.float32).T
    plus = np.empty_like(uniforms)
    for record in np.flatnonzero(draws):
        rows = slice(edges[record] - draws[record], edges[record])
        np.less(uniforms[rows], up[record], out=plus[rows], casting="unsafe")
    rounded = exact(v)
    sums = 2 * (plus @ rounded).astype(np.float64) - rounded.sum(axis=0, dtype=np.float64)
    hits = sums[sums.max(axis=1) >= x - tolerance(len(v))]
    used = draws > 0
    log_ratio = hits[:, used] * t[used] - k[used]
    largest = log_ratio.max(axis=1, initial=-np.inf)
    weight = np.exp(-largest) / (np.exp(log_ratio - largest[:, None]) @ (draws[used] / len(uniforms)))
    return float(np.clip(weight.sum() / len(uniforms), smallest_p(len(v)), 1.0))
