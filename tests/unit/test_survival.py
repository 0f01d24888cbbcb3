"""Survival curves, their bands and their null against direct computation."""

import numpy as np
import pytest
from paired_scores import auc_under, table
from scipy import stats

from tailrisk.audit import flips
from tailrisk.audit.pairs import blocks
from tailrisk.audit.survival import AUC_GRID, LEVELS, NullCurves, effective_size, share_interval, survival_table


def test_effective_size_equals_the_cluster_variance_of_a_share():
    rng = np.random.default_rng(0)
    sizes = rng.integers(3, 6, 80)
    patient = np.repeat(np.arange(80), sizes)
    # Whole patients agree, those with more records at higher values: the variance is above that of equal patients.
    auc = 0.5 + 0.1 * (rng.normal(size=80) + 0.3 * (sizes - 4))[patient].round(1)
    shuffle = rng.permutation(patient.size)
    thresholds = np.array([0.4, 0.5, 0.6, 0.7])
    got = effective_size(auc[shuffle], patient[shuffle], thresholds)
    effective = []
    for t, size in zip(thresholds, got, strict=True):
        s = np.bincount(patient, auc >= t)
        p = s.sum() / sizes.sum()
        variance = 80 / 79 * ((s - p * sizes) ** 2).sum() / sizes.sum() ** 2
        assert size == pytest.approx(min(p * (1 - p) / variance, patient.size**2 / (sizes**2).sum()))
        effective.append(p * (1 - p) / variance)
    assert min(effective) < 0.95 * patient.size**2 / (sizes**2).sum() < max(effective)


def test_effective_size_is_the_number_of_records_when_each_is_a_patient_and_of_patients_at_the_ends():
    auc, patient = np.linspace(0.4, 0.6, 30), np.arange(30)
    np.testing.assert_array_equal(effective_size(auc, patient, np.array([0.0, 0.5, 0.9])), 30)
    np.testing.assert_array_equal(effective_size(auc, patient // 3, np.array([0.0, 0.9])), 10)


@pytest.mark.parametrize("share", [0.02, 0.05, 0.2])
def test_band_of_records_covers_the_truth_when_few_patients_have_most_records(share):
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(300):
        sizes = np.ceil(rng.pareto(1.2, 200)).astype(int).clip(1, 200)
        patient = np.repeat(np.arange(200), sizes)
        auc = rng.random(200)[patient]
        size = effective_size(auc, patient, np.array([1 - share]))
        low, high = share_interval(np.array([(auc >= 1 - share).mean()]), size)
        covered += bool(low[0] <= share <= high[0])
    assert covered / 300 > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 300)


def test_share_interval_is_the_exact_binomial_one():
    for hits in (0, 1, 7, 20):
        want = stats.binomtest(hits, 20).proportion_ci(0.95, "exact")
        low, high = share_interval(np.array([hits / 20]), 20)
        assert (low[0], high[0]) == pytest.approx((want.low, want.high))


def test_curves_count_and_the_null_is_the_mean_over_flips():
    confidences, member, patient = table(12, [1, 3, 2, 6, 4] * 6, np.random.default_rng(1), effect=0.8)
    signs = flips.sign_flips(12, 99, seed=0)
    null = NullCurves(12)
    aucs = np.empty((99, patient.size))
    for block in blocks(confidences, member, patient, size=20):
        statistics = flips.null_statistics(flips.scaled_differences(block.x, block.y), signs)
        null.add(statistics, flips.patient_maximum(statistics, block.starts, block.sizes), block.starts)
        aucs[:, block.columns] = auc_under(signs.T, block.x, block.y)
    per_patient = [aucs[:, patient == p] for p in range(30)]
    values = {
        "record": aucs,
        "patient_max": np.stack([a.max(axis=1) for a in per_patient], axis=1),
        "patient_mean": np.stack([a.mean(axis=1) for a in per_patient], axis=1),
    }
    for level in LEVELS:
        want = (values[level].ravel()[:, None] >= AUC_GRID).mean(axis=0)
        # Single values may fall on either side of a grid point by the rounding of the statistic.
        np.testing.assert_allclose(null.curve(level), want, atol=2 / values[level].size)

    observed = aucs[0]
    best, mean = values["patient_max"][0], values["patient_mean"][0]
    survival = survival_table(observed, patient, best, mean, null)
    assert list(survival.columns) == ["level", "auc", "survival", "low", "high", "null"]
    for level, one in (("record", observed), ("patient_max", best), ("patient_mean", mean)):
        part = survival[survival["level"] == level]
        np.testing.assert_allclose(part["survival"], [(one >= t).mean() for t in AUC_GRID])
        assert (part["low"] <= part["survival"]).all()
        assert (part["survival"] <= part["high"]).all()
        assert part["survival"].is_monotonic_decreasing


def test_band_of_records_is_wider_than_if_they_were_independent():
    rng = np.random.default_rng(2)
    patient = np.repeat(np.arange(100), 10)
    auc = (0.5 + 0.1 * rng.normal(size=100))[patient] + 0.01 * rng.normal(size=1000)
    null = NullCurves(10)
    table_ = survival_table(auc, patient, auc[::10], auc[::10], null)
    row = table_[(table_["level"] == "record") & (table_["auc"] == 0.6)].iloc[0]
    naive = stats.binomtest(int((auc >= 0.6).sum()), 1000).proportion_ci(0.95, "exact")
    assert row["high"] - row["low"] > 2 * (naive.high - naive.low)
