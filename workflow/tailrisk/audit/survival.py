"""Survival curves of the AUC: the share of records or patients at or above each value, beside chance."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import beta

from tailrisk.audit.debiased import debiased_survival
from tailrisk.audit.flips import auc_of, statistic_of
from tailrisk.audit.records import Z95

AUC_GRID: NDArray[np.float64] = np.arange(401) / 400.0
LEVELS = ("record", "patient_max", "patient_mean", "patient_joint")
NULL_FLIPS = 99


def counts_at_or_above(auc: NDArray[np.floating], thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number of values ≥ each threshold."""
    return (auc.size - np.searchsorted(np.sort(auc), thresholds, side="left")).astype(np.int64)


def share_interval(
    share: NDArray[np.float64], size: NDArray[np.float64] | float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % Clopper–Pearson limits of a share among `size` independent units; a non-integer size is an
    effective sample size (Korn and Graubard 1998)."""
    hits = share * size
    misses = size - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(hits <= 0, 0.0, beta.ppf(0.025, hits, misses + 1))
        high = np.where(misses <= 0, 1.0, beta.ppf(0.975, hits + 1, misses))
    return low, high


def effective_size(
    auc: NDArray[np.float64], patient: NDArray[np.integer], thresholds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Number of independent records that estimate the share ≥ t as precisely as these clustered ones.

    p(1 − p)/Var with the linearised variance of a ratio, Var = P/(P − 1)·Σ_i (s_i − p m_i)²/N², for patients with
    s_i of m_i records at or above t; P (the number of patients) where the share is 0 or 1. At least 1, and at most
    N²/Σm_i², the size where all records of a patient agree: far out in the tail, where few patients are left, the
    variance is estimated too small.
    """
    records = auc.size
    order = np.lexsort((-auc, patient))
    sorted_patient = patient[order]
    starts = np.flatnonzero(np.r_[True, np.diff(sorted_patient) != 0])
    sizes = np.diff(np.append(starts, records))
    patients = starts.size
    if patients == records:
        return np.full(thresholds.shape, float(records))
    # s_i grows by one with each record passed from the top, so Σ s_i² grows by 2·rank − 1 and Σ s_i m_i by m_i.
    rank = np.arange(records) - np.repeat(starts, sizes) + 1
    descending = np.argsort(-auc[order], kind="stable")
    passed = counts_at_or_above(auc, thresholds)

    def cumulative(values: NDArray[np.integer]) -> NDArray[np.float64]:
        return np.r_[0, np.cumsum(values[descending])][passed].astype(np.float64)

    squares, products = cumulative(2 * rank - 1), cumulative(np.repeat(sizes, sizes))
    share = passed / records
    square_sizes = float((sizes.astype(np.float64) ** 2).sum())
    spread = squares - 2 * share * products + share**2 * square_sizes
    inner = (share > 0) & (share < 1) & (spread > 0) & (patients > 1)
    variance = np.where(inner, spread * patients / max(patients - 1, 1) / records**2, 1.0)
    size = np.where(inner, share * (1 - share) / variance, float(patients))
    return np.clip(size, 1.0, records**2 / square_sizes)


class NullCurves:
    """Mean survival function over flips of every level, accumulated block by block of whole patients.

    pairs: n of the statistic u (half of the models in a design without pairs). A level to which nothing was added, as
    all are where the design of membership is unknown, has no null: its curve is NaN.
    """

    def __init__(self, pairs: float) -> None:
        self.pairs = pairs
        self._statistic_grid = statistic_of(AUC_GRID, pairs)
        self._above = {level: np.zeros(AUC_GRID.size) for level in LEVELS}
        self._units = dict.fromkeys(LEVELS, 0)

    def add(
        self,
        null: NDArray[np.float32],
        maxima: NDArray[np.float32],
        starts: NDArray[np.intp],
        joint: NDArray[np.float32] | None = None,
    ) -> None:
        """Add a block: null statistics [B, F] of its records, [P, F] of its patients' maxima and, where the joint
        attack was made, [P, F] of their joint pseudo-records."""
        null, maxima = null[:, :NULL_FLIPS], maxima[:, :NULL_FLIPS]
        self._count("record", null, self._statistic_grid)
        if joint is not None:
            self._count("patient_joint", joint[:, :NULL_FLIPS], self._statistic_grid)
        if len(maxima) == len(null):
            self._count("patient_max", null, self._statistic_grid)
            self._count("patient_mean", null, self._statistic_grid)
            return
        self._count("patient_max", maxima, self._statistic_grid)
        sizes = np.diff(np.append(starts, len(null)))
        mean = np.add.reduceat(auc_of(null, self.pairs), starts, axis=0) / sizes[:, None]
        self._count("patient_mean", mean, AUC_GRID)

    def merge(self, other: "NullCurves") -> None:
        """Add what another one has accumulated, so that threads can count apart; sums of integers know no order."""
        for level in LEVELS:
            self._above[level] += other._above[level]
            self._units[level] += other._units[level]

    def _count(self, level: str, values: NDArray[np.floating], grid: NDArray[np.float64]) -> None:
        self._above[level] += counts_at_or_above(values.ravel(), grid)
        self._units[level] += values.size

    def curve(self, level: str) -> NDArray[np.float64]:
        """Expected share at or above each value of AUC_GRID when no patient leaves a trace; NaN without a null."""
        if self._units[level] == 0:
            return np.full(AUC_GRID.size, np.nan)
        return self._above[level] / self._units[level]

    def share_at(self, level: str, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
        """`curve` at any thresholds, linearly between grid points."""
        return np.interp(thresholds, AUC_GRID, self.curve(level))


def survival_table(
    records: Mapping[str, NDArray], patients: Mapping[str, NDArray], patient: NDArray[np.integer], null: NullCurves
) -> pd.DataFrame:
    """Table level, auc, survival, low, high, null, debiased: share with AUC ≥ auc with a pointwise 95 % band.

    records: auc, d and d_se [N], patients: auc, auc_mean, auc_median_unbiased, d_se, n_records, auc_joint, joint_low
    and joint_high [P] as in `score.Scored`; patient [N]: each record's patient code. The band of patients is binomial
    over patients; that of records uses `effective_size`. null is NaN for a design of membership without one; debiased
    (`debiased.debiased_survival`) is NaN where it was not shown to hold, and for patient_mean, which averages AUCs. The
    level patient_joint is there where some patient has several records: otherwise it is patient_max.
    """
    several = bool((patients["n_records"] > 1).any())
    unbiased = ndtri(patients["auc_median_unbiased"])
    joint = ndtri(np.stack([patients["joint_low"], patients["auc_joint"], patients["joint_high"]]))
    with np.errstate(invalid="ignore"):  # limits of certain patients are infinite
        joint_se = (joint[2] - joint[0]) / (2 * Z95)
    debiased = {
        "record": debiased_survival(AUC_GRID, records["d"], records["d_se"], null.pairs),
        "patient_max": debiased_survival(AUC_GRID, unbiased, patients["d_se"], null.pairs, patients["n_records"]),
        "patient_joint": debiased_survival(AUC_GRID, joint[1], joint_se, null.pairs),
    }
    aucs = {"record": records["auc"], "patient_max": patients["auc"], "patient_mean": patients["auc_mean"]}
    if several:
        aucs["patient_joint"] = patients["auc_joint"]
    parts = []
    for level, auc in aucs.items():
        share = counts_at_or_above(auc, AUC_GRID) / auc.size
        size: NDArray[np.float64] | float = float(auc.size)
        if level == "record":
            size = effective_size(auc, patient, AUC_GRID)
        low, high = share_interval(share, size)
        columns = {"auc": AUC_GRID, "survival": share, "low": low, "high": high, "null": null.curve(level)}
        parts.append(pd.DataFrame({"level": level} | columns | {"debiased": debiased.get(level, np.nan)}))
    return pd.concat(parts, ignore_index=True)
