"""Attack success per record: AUC of telling IN from OUT confidences, and its uncertainty."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from tailrisk.attacks.roc import rank_auc
from tailrisk.audit.normality import NORMALITY_MIN_PAIRS, normality_p

Z95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
NORMALITY_LEVEL = 0.01


@dataclass(frozen=True)
class RecordStatistics:
    """Per record (arrays [B], float64 unless said): moments over the n pairs, AUC and its interval.

    d: difference of means in units of S = √(var_in + var_out), auc = Φ(d); d_se: its standard error;
    influence [n, B]: influence values ψ of d; not_normal: IN or OUT values fail the normality test (bool, all
    false below 20 pairs); degenerate: S = 0 (bool; there d is 0 or ±∞ and the standard error 0).
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
    auc_empirical: NDArray[np.float64]
    influence: NDArray[np.float64]
    not_normal: NDArray[np.bool_]
    degenerate: NDArray[np.bool_]


def record_statistics(x: NDArray[np.float64], y: NDArray[np.float64]) -> RecordStatistics:
    """Statistics of records with IN values x and OUT values y, both [n, B], row k from the same pair, n ≥ 2.

    auc is the bi-normal AUC of thresholding the confidence (never clipped at 0.5). Its variance includes the
    covariance c of the two models of a pair:
    Var d = (S² − 2c)/(n S²) + d²/(2 S⁴)·(σ₁⁴ + σ₀⁴ + 2c²)/(n − 1); for records that fail a normality test it is
    Σψ²/(n(n − 1)) instead. The 95 % interval is built on d. auc_empirical is the rank AUC.
    """
    n = x.shape[0]
    mean_in, mean_out = x.mean(axis=0), y.mean(axis=0)
    centred_in, centred_out = x - mean_in, y - mean_out
    square_in, square_out = centred_in * centred_in, centred_out * centred_out
    var_in, var_out = square_in.sum(axis=0) / (n - 1), square_out.sum(axis=0) / (n - 1)
    covariance = np.einsum("ij,ij->j", centred_in, centred_out) / (n - 1)
    spread2 = var_in + var_out
    degenerate = spread2 == 0
    difference = mean_in - mean_out
    s2 = np.where(degenerate, 1.0, spread2)
    finite_d = np.where(degenerate, 0.0, difference / np.sqrt(s2))

    not_normal = np.zeros(x.shape[1], dtype=bool)
    if n >= NORMALITY_MIN_PAIRS:
        p = np.minimum(normality_p(centred_in, square_in), normality_p(centred_out, square_out))
        not_normal = ~degenerate & (p < NORMALITY_LEVEL)

    influence = centred_in - centred_out
    influence /= np.sqrt(s2)
    influence -= finite_d / (2 * s2) * (square_in + square_out - spread2)
    fourth = var_in**2 + var_out**2 + 2 * covariance**2
    var_d = (s2 - 2 * covariance) / (n * s2) + finite_d**2 * fourth / (2 * s2**2 * (n - 1))
    var_d = np.where(not_normal, np.einsum("ij,ij->j", influence, influence) / (n * (n - 1)), var_d)
    # Perfectly correlated pairs leave a variance of zero, which rounding may put below it.
    d_se = np.where(degenerate, 0.0, np.sqrt(np.maximum(var_d, 0.0)))
    d = np.where(degenerate & (difference != 0), np.copysign(np.inf, difference), finite_d)
    return RecordStatistics(
        mean_in=mean_in,
        std_in=np.sqrt(var_in),
        mean_out=mean_out,
        std_out=np.sqrt(var_out),
        d=d,
        d_se=d_se,
        auc=ndtr(d),
        auc_se=np.exp(-0.5 * d * d) / np.sqrt(2 * np.pi) * d_se,
        auc_low=ndtr(d - Z95 * d_se),
        auc_high=ndtr(d + Z95 * d_se),
        auc_empirical=rank_auc(
            np.ascontiguousarray(x.T, dtype=np.float32), np.ascontiguousarray(y.T, dtype=np.float32)
        ),
        influence=influence,
        not_normal=not_normal,
        degenerate=degenerate,
    )
