"""The joint patient attack against loops, without a leak, and against the maximum over records."""

import numpy as np
import pytest
from scipy.stats import norm

from tailrisk.audit import joint
from tailrisk.audit.flips import sign_flips
from tailrisk.audit.patients import patient_interval
from tailrisk.audit.records import record_statistics


def sides(pairs, patients, records, rng, effect=0.0, correlation=0.2):
    """IN and OUT values [pairs, patients · records] of patients with records that correlate; effect [records]."""
    x, y = np.sqrt(1 - correlation) * rng.standard_normal((2, pairs, patients, records))
    x, y = (side + np.sqrt(correlation) * rng.standard_normal((pairs, patients, 1)) for side in (x, y))
    return (x + effect).reshape(pairs, -1), y.reshape(pairs, -1)


def test_equal_weight_is_the_sum_of_scores_standardised_over_all_models():
    rng = np.random.default_rng(0)
    scale = np.array([1.0, 100, 1e-3, 5, 2])
    x, y = 3 + scale * rng.standard_normal((12, 5)), scale * rng.standard_normal((9, 5))
    x[:, 4] = y[0, 4] = 7.0
    y[:, 4] = 7.0
    got = joint.equal_weight(x, y, np.array([0, 3, 4]))
    both = np.concatenate([x, y])
    z = (both - both.mean(axis=0)) / np.where(both.std(axis=0, ddof=1) > 0, both.std(axis=0, ddof=1), 1)
    want = np.column_stack([z[:, :3].sum(axis=1), z[:, 3], z[:, 4]])
    np.testing.assert_allclose(np.concatenate(got), want, atol=1e-12)
    assert (got[0][:, 2] == 0).all()


def linear_by_loops(x, y, folds):
    """Held-out scores of one patient, x and y [n, R], as the definition reads."""
    both = np.concatenate([x, y])
    x, y = ((side - both.mean(axis=0)) / both.std(axis=0, ddof=1) for side in (x, y))
    held_in, held_out = np.empty(len(x)), np.empty(len(y))
    for fold in range(folds):
        a = x[[k for k in range(len(x)) if k % folds != fold]]
        b = y[[k for k in range(len(y)) if k % folds != fold]]
        delta = a.mean(axis=0) - b.mean(axis=0)
        delta = np.maximum(0, 0.5 * delta + 0.5 * delta.mean())
        within = ((len(a) - 1) * np.cov(a.T, ddof=1) + (len(b) - 1) * np.cov(b.T, ddof=1)) / (len(a) + len(b) - 2)
        inverse = np.linalg.inv(0.8 * np.atleast_2d(within) + 0.2 * np.eye(x.shape[1]))
        w = inverse @ delta / np.sqrt(delta @ inverse @ delta) if delta.any() else 0 * delta
        middle = (a.mean(axis=0) + b.mean(axis=0)) / 2
        held_in[fold::folds] = (x[fold::folds] - middle) @ w
        held_out[fold::folds] = (y[fold::folds] - middle) @ w
    return held_in, held_out


@pytest.mark.parametrize(("n1", "n0", "paired"), [(40, 40, True), (23, 31, False), (3, 3, True), (7, 12, False)])
def test_linear_equals_a_loop_over_patients_and_folds(n1, n0, paired):
    rng = np.random.default_rng(n1)
    sizes = np.array([3, 2, 5, 3, 20, 2])
    x, y = rng.uniform(-0.4, 0.9, sizes.sum()) + rng.standard_normal((n1, 35)), rng.standard_normal((n0, 35))
    x[:, 3:5] -= 3  # a patient without any positive effect
    got = joint.linear(x, y, sizes, paired)
    for i, (start, size) in enumerate(zip(np.cumsum(sizes) - sizes, sizes, strict=True)):
        mine = slice(start, start + size)
        want = linear_by_loops(x[:, mine], y[:, mine], min(10, n1, n0))
        np.testing.assert_allclose(got[0][:, i], want[0], atol=1e-9)
        np.testing.assert_allclose(got[1][:, i], want[1], atol=1e-9)
    assert (got[0][:, 1] == 0).all()


def test_linear_needs_three_values_of_each_side():
    held_in, held_out = joint.linear(np.ones((2, 3)), np.zeros((2, 3)), np.array([3]), True)
    assert np.isnan(held_in).all()
    assert np.isnan(held_out).all()


def test_without_a_leak_neither_attack_finds_any():
    rng = np.random.default_rng(1)
    x, y = sides(50, 400, 8, rng)
    starts, sizes = np.arange(400) * 8, np.full(400, 8)
    equal = record_statistics(*joint.equal_weight(x, y, starts)).auc
    held_out = record_statistics(*joint.linear(x, y, sizes, True)).auc
    for auc in (equal, held_out):
        assert auc.mean() == pytest.approx(0.5, abs=4 * auc.std() / 20)
    # Fitted and scored on the same models, the linear attack would see a leak where there is none.
    in_sample = []
    for start in starts[:100]:
        a, b = joint.standardised(x[:, start : start + 8], y[:, start : start + 8])
        w, _ = joint._fit(a[None], b[None])
        in_sample.append(record_statistics(a @ w.T, b @ w.T).auc[0])
    assert np.mean(in_sample) > 0.55


def test_many_weak_records_are_worth_more_together_and_one_strong_one_is_found_by_fitting():
    rng = np.random.default_rng(2)
    starts, sizes = np.arange(60) * 20, np.full(60, 20)
    x, y = sides(100, 60, 20, rng, effect=0.4, correlation=0.05)
    equal = record_statistics(*joint.equal_weight(x, y, starts)).auc
    assert equal.mean() == pytest.approx(norm.cdf(20 * 0.4 / np.sqrt(2 * (20 + 380 * 0.05))), abs=0.02)
    assert equal.mean() > norm.cdf(0.4 / np.sqrt(2)) + 0.15  # any single record
    x, y = sides(100, 60, 20, rng, effect=np.where(np.arange(20) == 7, 1.2, 0.0), correlation=0.2)
    held_out = record_statistics(*joint.linear(x, y, sizes, True)).auc.mean()
    equal = record_statistics(*joint.equal_weight(x, y, starts)).auc.mean()
    records = record_statistics(x, y)
    estimate = patient_interval(records, starts, sizes, sign_flips(100, 399, 0)).median_unbiased
    assert held_out > estimate.mean() - 0.01
    assert held_out > equal + 0.2
