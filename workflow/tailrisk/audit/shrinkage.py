"""Variances from few models, shrunk towards what all records have in common (empirical Bayes).

The sample variances s² of the records, each with ν degrees of freedom, are taken as s² ~ σ² χ²_ν/ν with a prior
1/σ² ~ χ²_{ν₀}/(ν₀ s₀²) that is fitted to all of them (Smyth 2004, "Linear models and empirical Bayes methods for
assessing differential expression"). The shrunk variance is s̃² = (ν₀ s₀² + ν s²)/(ν₀ + ν), the reciprocal of the
posterior mean of 1/σ²: with two models it is nearly the common variance, with hundreds nearly the record's own.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma, ndtr, polygamma

# Variances this far below the median are rounding of constant records; their logarithms would decide the fit.
_SMALLEST = 1e-8


class Prior(NamedTuple):
    """Scaled inverse chi-square prior of a record's variance: its degrees of freedom ν₀ (inf where all records have
    one variance) and its scale s₀², in units of squared confidence."""

    dof: float
    variance: float


def fit_prior(variance: NDArray[np.floating], dof: ArrayLike) -> Prior:
    """Prior fitted to the sample variances of all records by moments of their logarithms.

    variance [N]; dof: ν, one number or [N]. With e = log s² − ψ(ν/2) + log(ν/2), trigamma(ν₀/2) is the variance of e
    less the mean of trigamma(ν/2), and log s₀² = mean e + ψ(ν₀/2) − log(ν₀/2) (Smyth 2004, section 6.2). Variances of
    zero but for rounding (constant records, below 1e-8 of the median) and those without a degree of freedom are left
    out. Where they vary no more than sampling explains, or fewer than two are left, ν₀ is infinite: no record then
    keeps a variance of its own. Without any, the prior says nothing (ν₀ = 0).
    """
    s2 = np.asarray(variance, dtype=np.float64)
    # The gamma functions are dear, and degrees of freedom are few.
    levels, level = np.unique(np.asarray(dof, dtype=np.float64), return_inverse=True)
    level = np.broadcast_to(level.reshape(np.shape(dof)), s2.shape)
    known = (s2 > 0) & (levels[level] > 0)
    if not known.any():
        return Prior(0.0, 0.0)
    known &= s2 > _SMALLEST * np.median(s2[known])
    half, level = np.where(levels > 0, levels, np.nan) / 2, level[known]
    e = np.log(s2[known]) - (digamma(half) - np.log(half))[level]
    excess = (e.var(ddof=1) if e.size > 1 else 0.0) - float(polygamma(1, half)[level].mean())
    if excess <= 0:
        return Prior(np.inf, float(np.exp(e.mean())))
    half_prior = _inverse_trigamma(excess)
    return Prior(float(2 * half_prior), float(np.exp(e.mean() + digamma(half_prior) - np.log(half_prior))))


def shrink(variance: NDArray[np.floating], dof: ArrayLike, prior: Prior) -> NDArray[np.float64]:
    """Shrunk variances (ν₀ s₀² + ν s²)/(ν₀ + ν), of the shape of `variance`; dof: ν, one number or broadcastable."""
    s2, nu = np.asarray(variance, dtype=np.float64), np.asarray(dof, dtype=np.float64)
    if np.isinf(prior.dof):
        return np.full(np.broadcast_shapes(s2.shape, nu.shape), prior.variance)
    weight = prior.dof / np.maximum(prior.dof + nu, np.finfo(np.float64).tiny)
    return s2 + weight * (prior.variance - s2)


def shrunk_auc(
    difference: NDArray[np.float64],
    var_in: NDArray[np.float64],
    var_out: NDArray[np.float64],
    dof_in: ArrayLike,
    dof_out: ArrayLike,
) -> NDArray[np.float64]:
    """Bi-normal AUC [N] with variances shrunk over the N records, each side by its own prior: Φ((μ₁ − μ₀)/S̃).

    difference: μ₁ − μ₀ of each record; dof: models of that side less one. 0.5 where nothing varies and nothing
    differs; 0 or 1 where nothing varies.
    """
    s2 = shrink(var_in, dof_in, fit_prior(var_in, dof_in)) + shrink(var_out, dof_out, fit_prior(var_out, dof_out))
    with np.errstate(divide="ignore", invalid="ignore"):
        d = difference / np.sqrt(s2)
    return ndtr(np.where((s2 == 0) & (difference == 0), 0.0, d))


def _inverse_trigamma(value: float) -> float:
    """y > 0 with trigamma(y) = value > 0, by the Newton iteration on 1/trigamma, which rises to the root (Smyth 2004,
    appendix)."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    y = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, y))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, y))
        y += step
        if -step < 1e-12 * y:
            break
    return y
