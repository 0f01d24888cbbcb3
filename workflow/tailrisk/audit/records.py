"""Attack success per record: AUC of telling IN from OUT confidences, and its uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri, owens_t

from tailrisk.audit.delong import rank_auc_interval
from tailrisk.audit.normality import NORMALITY_MIN_PAIRS, normality_p

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
NORMALITY_LEVEL = 0.01


@dataclass(frozen=True)
class RecordStatistics:
    """Per record (arrays [B], float64 unless said): moments over n₁ IN and n₀ OUT values, AUC and its interval.

    d: difference of means in units of S = √(var_in + var_out), auc = Φ(d); d_se: its standard error;
    auc_se_hanley_mcneil: for comparison with other tools; auc_empirical and its limits: rank AUC and DeLong's interval;
    auc_likelihood_ratio: of an attacker who also uses that the spreads differ; tpr_at_fpr_…: of the bi-normal curve;
    normality_p: smaller p of both sides' tests, NaN where not tested (fewer than 20 values, or S = 0);
    influence: contributions of each pair [n, B], or of each IN and then each OUT model [n₁ + n₀, B], to the error of
    d, scaled so that their sum of squares estimates Var d; not_normal: normality_p below 0.01 (bool); degenerate:
    S = 0 (bool; there d is 0 or ±∞ and the standard error 0).
    """

    mean_in: NDArray[np.float64]
    std_in: NDArray[np.float64]
    mean_out: NDArray[np.float64]
    std_out: NDArray[np.float64]
    d: NDArray[np.float64]
    d_se: NDArray[np.float64]
    auc: NDArray[np.float64]
    auc_se: NDArray[np.float64]
    auc_low: NDArray[np.float64]
    auc_high: NDArray[np.float64]
    auc_se_hanley_mcneil: NDArray[np.float64]
    auc_empirical: NDArray[np.float64]
    auc_empirical_low: NDArray[np.float64]
    auc_empirical_high: NDArray[np.float64]
    auc_likelihood_ratio: NDArray[np.float64]
    tpr_at_fpr_1e2: NDArray[np.float64]
    tpr_at_fpr_1e3: NDArray[np.float64]
    normality_p: NDArray[np.float64]
    influence: NDArray[np.float64]
    not_normal: NDArray[np.bool_]
    degenerate: NDArray[np.bool_]


def record_statistics(x: NDArray[np.float64], y: NDArray[np.float64], paired: bool = True) -> RecordStatistics:
    """Statistics of records with IN values x [n₁, B] and OUT values y [n₀, B], at least 2 each; if paired, n₁ = n₀ = n
    and row k of both is from the same pair.

    auc is the bi-normal AUC of thresholding the confidence (never clipped at 0.5). By the delta method
    Var d = (S² − 2c)/(n S²) + d²/(2 S⁴)·(σ₁⁴ + σ₀⁴ + 2c²)/(n − 1) with the covariance c of the two models of a pair,
    and without pairs (σ₁²/n₁ + σ₀²/n₀)/S² + d²/(2 S⁴)·(σ₁⁴/(n₁ − 1) + σ₀⁴/(n₀ − 1)). For records that fail a normality
    test it is the sum of squared influence values instead, with (x_i − μ₁)/S − d/(2S²)·((x_i − μ₁)² − σ₁²) for an IN
    value, the same with − before the first term for an OUT value, and both together for a pair, over √(n(n − 1)) of
    their side. The 95 % interval is built on d.
    """
    n1, n0 = len(x), len(y)
    mean_in, mean_out = x.mean(axis=0), y.mean(axis=0)
    centred_in, centred_out = x - mean_in, y - mean_out
    square_in, square_out = centred_in * centred_in, centred_out * centred_out
    var_in, var_out = square_in.sum(axis=0) / (n1 - 1), square_out.sum(axis=0) / (n0 - 1)
    spread2 = var_in + var_out
    degenerate = spread2 == 0
    difference = mean_in - mean_out
    s2 = np.where(degenerate, 1.0, spread2)
    finite_d = np.where(degenerate, 0.0, difference / np.sqrt(s2))
    d = np.where(degenerate & (difference != 0), np.copysign(np.inf, difference), finite_d)

    normality = np.full(x.shape[1], np.nan)
    if min(n1, n0) >= NORMALITY_MIN_PAIRS:
        p = np.minimum(normality_p(centred_in, square_in), normality_p(centred_out, square_out))
        normality = np.where(degenerate, np.nan, p)
    not_normal = normality < NORMALITY_LEVEL

    if paired:
        covariance = np.einsum("ij,ij->j", centred_in, centred_out) / (n1 - 1)
        fourth = (var_in**2 + var_out**2 + 2 * covariance**2) / (n1 - 1)
        var_d = (s2 - 2 * covariance) / (n1 * s2) + finite_d**2 * fourth / (2 * s2**2)
    else:
        fourth = var_in**2 / (n1 - 1) + var_out**2 / (n0 - 1)
        var_d = (var_in / n1 + var_out / n0) / s2 + finite_d**2 * fourth / (2 * s2**2)

    # The squares and centred values are not needed any more: the influence values take their place.
    root, slope = np.sqrt(s2), finite_d / (2 * s2)
    square_in -= var_in
    square_in *= slope
    centred_in /= root
    centred_in -= square_in
    square_out -= var_out
    square_out *= slope
    centred_out /= -root
    centred_out -= square_out
    if paired:
        influence = (centred_in + centred_out) / np.sqrt(n1 * (n1 - 1))
    else:
        influence = np.concatenate([centred_in / np.sqrt(n1 * (n1 - 1)), centred_out / np.sqrt(n0 * (n0 - 1))])
    var_d = np.where(not_normal, np.einsum("ij,ij->j", influence, influence), var_d)
    # Perfectly correlated pairs leave a variance of zero, which rounding may put below it.
    d_se = np.where(degenerate, 0.0, np.sqrt(np.maximum(var_d, 0.0)))
    std_in, std_out, auc = np.sqrt(var_in), np.sqrt(var_out), ndtr(d)
    rank = rank_auc_interval(x, y, paired)
    return RecordStatistics(
        mean_in=mean_in,
        std_in=std_in,
        mean_out=mean_out,
        std_out=std_out,
        d=d,
        d_se=d_se,
        auc=auc,
        auc_se=np.exp(-0.5 * d * d) / np.sqrt(2 * np.pi) * d_se,
        auc_low=ndtr(d - Z95 * d_se),
        auc_high=ndtr(d + Z95 * d_se),
        auc_se_hanley_mcneil=hanley_mcneil_se(auc, n1, n0),
        auc_empirical=rank.auc,
        auc_empirical_low=rank.low,
        auc_empirical_high=rank.high,
        auc_likelihood_ratio=likelihood_ratio_auc(d, std_in, std_out),
        tpr_at_fpr_1e2=tpr_at_fpr(0.01, difference, std_in, std_out),
        tpr_at_fpr_1e3=tpr_at_fpr(0.001, difference, std_in, std_out),
        normality_p=normality,
        influence=influence,
        not_normal=not_normal,
        degenerate=degenerate,
    )


def hanley_mcneil_se(auc: NDArray[np.float64], n1: int, n0: int) -> NDArray[np.float64]:
    """Standard error of an AUC by Hanley and McNeil (1982), which supposes exponential scores and unrelated sides:
    n₁ n₀ Var = A(1 − A) + (n₁ − 1)(A/(2 − A) − A²) + (n₀ − 1)(2A²/(1 + A) − A²)."""
    square = auc * auc
    variance = auc * (1 - auc) + (n1 - 1) * (auc / (2 - auc) - square) + (n0 - 1) * (2 * square / (1 + auc) - square)
    return np.sqrt(variance / (n1 * n0))


def likelihood_ratio_auc(
    d: NDArray[np.float64], std_in: NDArray[np.float64], std_out: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUC of the likelihood ratio of two normal distributions, 1 − 2 T(d, 2σ₁σ₀/|σ₁² − σ₀²|), T of Owen (1956).

    With unequal spreads the log ratio is monotone in |z − c|, c = (μ₀σ₁² − μ₁σ₀²)/(σ₁² − σ₀²), the wider side lying
    further out. For U of the wider and V of the narrower side, both less c, |U| > |V| says that U − V and U + V have
    one sign. Their correlation is ρ = |σ₁² − σ₀²|/S² and their standardised means are ±(d, d/ρ), so the AUC is the
    bivariate normal probability Φ₂(d, d/ρ; ρ) + Φ₂(−d, −d/ρ; ρ), which Owen's reduction turns into the above. It is
    Φ(|d|) where the spreads are equal and at least ½ everywhere, so estimates under no leak lie above ½.
    """
    # Spreads far from 1 must not overflow in the square.
    scale = np.maximum(std_in, std_out)
    scale = np.where(scale > 0, scale, 1.0)
    a, b = std_in / scale, std_out / scale
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = 2 * a * b / np.abs((a - b) * (a + b))
    # Two constants are told apart where they differ, and not at all where they do not.
    slope = np.where((a == 0) & (b == 0), np.inf, slope)
    return 1 - 2 * owens_t(d, slope)


def tpr_at_fpr(
    fpr: float, difference: NDArray[np.float64], std_in: NDArray[np.float64], std_out: NDArray[np.float64]
) -> NDArray[np.float64]:
    """True-positive rate of the bi-normal curve, Φ((μ₁ − μ₀)/σ₁ + (σ₀/σ₁) Φ⁻¹(fpr)); with σ₁ = 0 it is 0, ½ or 1."""
    margin = difference + std_out * ndtri(fpr)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = margin / std_in
    return ndtr(np.where((std_in == 0) & (margin == 0), 0.0, z))
