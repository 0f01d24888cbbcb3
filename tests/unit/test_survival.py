"""Survival curves, their bands and their null against direct computation."""

import numpy as np
import pytest
from paired_scores import auc_under, table
from scipy import stats
from scipy.special import ndtr, ndtri

from tailrisk.audit import flips
from tailrisk.audit.debiased import debiased_survival
from tailrisk.audit.pairs import blocks
from tailrisk.audit.records import Z95
from tailrisk.audit.survival import AUC_GRID, LEVELS, NullCurves, effective_size, share_interval, survival_table


def columns(record, best, mean, joint, n_records):
    """What the survival table reads of records and patients, of AUCs with a standard error of 0.1 on the d scale."""
    records = {"auc": record, "d": ndtri(record), "d_se": np.full(record.size, 0.1)}
    se, d = np.full(best.size, 0.1), ndtri(joint)
    patients = {
        "auc": best, "auc_mean": mean, "auc_median_unbiased": best, "d_se": se, "n_records": n_records,
        "auc_joint": joint, "joint_low": ndtr(d - Z95 * se), "joint_high": ndtr(d + Z95 * se),
    }  # fmt: skip
    return records, patients


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
    for level, one in values.items():
        want = (one.ravel()[:, None] >= AUC_GRID).mean(axis=0)
        # Single values may fall on either side of a grid point by the rounding of the statistic.
        np.testing.assert_allclose(null.curve(level), want, atol=2 / one.size)

    observed = aucs[0]
    best, mean = values["patient_max"][0], values["patient_mean"][0]
    joint = np.linspace(0.3, 1, 30)
    records, patients = columns(observed, best, mean, joint, np.bincount(patient))
    survival = survival_table(records, patients, patient, null)
    assert list(survival.columns) == ["level", "auc", "survival", "low", "high", "null", "debiased"]
    assert survival.loc[survival["level"] == "patient_joint", "null"].isna().all()  # none was added
    for level, one in (
        ("record", observed), ("patient_max", best), ("patient_mean", mean), ("patient_joint", joint)
    ):  # fmt: skip
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
    table_ = survival_table(*columns(auc, auc[::10], auc[::10], auc[::10], np.full(100, 10)), patient, null)
    row = table_[(table_["level"] == "record") & (table_["auc"] == 0.6)].iloc[0]
    naive = stats.binomtest(int((auc >= 0.6).sum()), 1000).proportion_ci(0.95, "exact")
    assert row["high"] - row["low"] > 2 * (naive.high - naive.low)


def test_null_counts_of_threads_add_up_and_are_missing_where_nothing_was_counted():
    rng = np.random.default_rng(4)
    null = rng.normal(0, 0.1, (40, 99)).astype(np.float32)
    starts = np.arange(0, 40, 4)
    whole, merged = NullCurves(12), NullCurves(12)
    whole.add(null, np.maximum.reduceat(null, starts), starts, joint=null[::4])
    for part in (null[20:], null[:20]):
        other = NullCurves(12)
        other.add(part, np.maximum.reduceat(part, starts[:5]), starts[:5], joint=part[::4])
        merged.merge(other)
    for level in LEVELS:
        np.testing.assert_array_equal(merged.curve(level), whole.curve(level))
        np.testing.assert_allclose(whole.curve(level)[0], 1)
    want = (flips.auc_of(null[::4], 12).ravel()[:, None] >= AUC_GRID).mean(axis=0)
    np.testing.assert_allclose(whole.curve("patient_joint"), want, atol=2 / 990)
    assert np.isnan(NullCurves(12).curve("record")).all()
    assert np.isnan(NullCurves(12).share_at("record", np.array([0.5, 0.9]))).all()


def test_debiased_curves_belong_to_their_levels_and_joint_needs_several_records():
    rng = np.random.default_rng(5)
    truth = rng.exponential(0.3, 1000)
    record, best, joint = (ndtr(truth + 0.1 * rng.normal(size=1000)) for _ in range(3))
    patient, n_records = np.arange(1000), np.ones(1000, dtype=int)
    records, patients = columns(record, best, best, joint, n_records)
    single = survival_table(records, patients, patient, NullCurves(100))
    assert set(single["level"]) == {"record", "patient_max", "patient_mean"}
    patients["n_records"] = np.where(patient < 50, 2, 1)
    got = survival_table(records, patients, patient, NullCurves(100)).set_index("level")["debiased"]
    se = np.full(1000, 0.1)
    for level, values in (("record", record), ("patient_max", best), ("patient_joint", joint)):
        want = debiased_survival(AUC_GRID, ndtri(values), se, 100)
        assert np.isfinite(want).sum() > 100
        np.testing.assert_allclose(got[level], want, atol=1e-9)
    assert got["patient_mean"].isna().all()
