"""Patient p-values, intervals and estimates in simulations with known truth."""

import numpy as np
import pytest
from paired_scores import table
from scipy.special import ndtr

from tailrisk.audit import flips
from tailrisk.audit.pairs import blocks
from tailrisk.audit.patients import patient_interval, patient_p
from tailrisk.audit.records import record_statistics
from tailrisk.audit.tails import TAIL_P, record_tail_p, sampling_uniforms


def p_values(pairs, sizes, seed, **kwargs):
    confidences, member, patient = table(pairs, sizes, np.random.default_rng(seed), **kwargs)
    signs, uniforms = flips.sign_flips(pairs, 999, seed), sampling_uniforms(pairs, seed, max(sizes))
    result = []
    for block in blocks(confidences, member, patient):
        v = flips.scaled_differences(block.x, block.y)
        observed, null = flips.observed_statistics(v), flips.null_statistics(v, signs)
        p = flips.flip_p(observed, null, pairs)
        p[p < TAIL_P] = record_tail_p(v[:, p < TAIL_P], uniforms)
        maxima = flips.patient_maximum(null, block.starts, block.sizes)
        result.append(patient_p(v, observed, maxima, p, block.starts, block.sizes, uniforms))
    return np.concatenate(result)


@pytest.mark.parametrize(("size", "within_pair"), [(1, 0.0), (1, -0.8), (10, 0.0), (10, 0.6)])
def test_patients_without_a_trace_are_rejected_at_the_nominal_rate(size, within_pair):
    patients = 3000 if size == 1 else 1000
    p = p_values(40, [size] * patients, 1, within_pair=within_pair)
    for level in (0.05, 0.01):
        # Common flips add to the binomial spread: about √(level/1000) of relative error in the cut-off itself.
        spread = np.sqrt(level * (1 - level) / patients + level / 1000)
        assert (p <= level).mean() == pytest.approx(level, abs=3.5 * spread)


def test_planted_patients_have_small_p_and_large_records_do_not():
    effect = np.repeat([2.0] * 20 + [0.0] * 180, 5)
    p = p_values(40, [5] * 200, 2, effect=effect)
    assert (p[:20] < 1e-5).all()
    assert (p[:20] >= 2.0**-40).all()
    assert p[20:].min() > 1e-4


def estimate(pairs, sizes, seed, **kwargs):
    confidences, member, patient = table(pairs, sizes, np.random.default_rng(seed), **kwargs)
    signs = flips.sign_flips(pairs, 399, seed)
    low, high, middle, naive = [], [], [], []
    for block in blocks(confidences, member, patient):
        records = record_statistics(block.x, block.y)
        interval = patient_interval(records, block.starts, block.sizes, signs)
        low.append(interval.low)
        high.append(interval.high)
        middle.append(interval.median_unbiased)
        naive.append(flips.patient_maximum(records.auc, block.starts, block.sizes))
    return (np.concatenate(part) for part in (low, high, middle, naive))


@pytest.mark.parametrize("size", [1, 2, 20])
def test_interval_covers_the_true_maximum_and_the_estimate_is_not_biased_upward(size):
    # Equal records, the hardest case: the observed maximum is the luckiest of them.
    low, high, middle, naive = estimate(100, [size] * 500, 3, effect=1.0, within_patient=0.3)
    truth = ndtr(1 / np.sqrt(2))
    covered = ((low <= truth) & (truth <= high)).mean()
    assert 0.92 < covered <= 1
    assert (middle > truth).mean() == pytest.approx(0.5, abs=0.09)
    if size == 20:
        assert (naive > truth).mean() > 0.85
    assert (low <= high).all()


def test_the_lower_limit_misses_the_truth_in_no_more_than_two_and_a_half_percent():
    # Two equal records: neither the best known nor the chosen one differs from the truth, so the level is used up.
    low, *_ = estimate(100, [2] * 4000, 3, effect=1.0, within_patient=0.3)
    missed = (low > ndtr(1 / np.sqrt(2))).mean()
    assert missed <= 0.025 + 3 * np.sqrt(0.025 * 0.975 / 4000)
    assert missed > 0.01


def test_interval_and_estimate_follow_their_definition_patient_by_patient():
    sizes = [2, 7, 1, 20, 3, 12] * 5
    # Unequal records, so that some lie below the lower limit, but not two standard errors below.
    effect = np.random.default_rng(5).uniform(0, 1.2, sum(sizes))
    confidences, member, patient = table(40, sizes, np.random.default_rng(6), effect=effect)
    signs = flips.sign_flips(40, 399, 7)
    (block,) = blocks(confidences, member, patient)
    records = record_statistics(block.x, block.y)
    got = patient_interval(records, block.starts, block.sizes, signs)
    between = 0
    for i, (start, size) in enumerate(zip(block.starts, block.sizes, strict=True)):
        mine = slice(start, start + size)
        d, se, psi = records.d[mine], records.d_se[mine], records.influence[:, mine]
        null = signs.T.astype(float) @ psi / np.sqrt((psi**2).sum(axis=0))
        low = d - 1.959963984540054 * se
        middle = d
        if size > 1:
            low = d - np.quantile(null.max(axis=1), 0.975) * se
            near = d + 2 * se >= low.max()
            middle = (d - np.median(null[:, near].max(axis=1)) * se)[near]
            between += (near & (d < low.max())).sum()
        want = [low.max(), (d + 1.959963984540054 * se).max(), middle.max()]
        np.testing.assert_allclose([got.low[i], got.high[i], got.median_unbiased[i]], ndtr(want), atol=1e-5)
    assert between > 20


def test_a_single_record_keeps_its_own_interval():
    confidences, member, patient = table(30, [1] * 40, np.random.default_rng(4), effect=0.5)
    (block,) = blocks(confidences, member, patient)
    records = record_statistics(block.x, block.y)
    interval = patient_interval(records, block.starts, block.sizes, flips.sign_flips(30, 399, 0))
    np.testing.assert_array_equal(interval.low, records.auc_low)
    np.testing.assert_array_equal(interval.high, records.auc_high)
    np.testing.assert_array_equal(interval.median_unbiased, records.auc)


def test_degenerate_records_leave_no_nan():
    x = np.ones((12, 4))
    y = np.ones((12, 4))
    x[:, 1] = 2.0  # perfectly separated
    y[:, 3] = np.arange(12)
    records = record_statistics(x, y)
    interval = patient_interval(records, np.array([0, 2]), np.array([2, 2]), flips.sign_flips(12, 399, 0))
    assert interval.low[0] == interval.high[0] == interval.median_unbiased[0] == 1
    assert np.isfinite([interval.low, interval.high, interval.median_unbiased]).all()
