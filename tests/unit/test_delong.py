"""The rank AUC and DeLong's interval against loops, and their coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri

from tailrisk.audit.delong import placement_counts, rank_auc_interval


def brute(a, b, paired):
    """AUC and variance of one record by the definition."""
    v10 = np.array([(b < p).mean() + 0.5 * (b == p).mean() for p in a])
    v01 = np.array([(a > q).mean() + 0.5 * (a == q).mean() for q in b])
    if paired:
        return v10.mean(), (v10 + v01).var(ddof=1) / len(a)
    return v10.mean(), v10.var(ddof=1) / len(a) + v01.var(ddof=1) / len(b)


@given(st.integers(2, 25), st.integers(2, 25), st.booleans(), st.sampled_from([0.01, 0.5, 1e-6]), st.integers(0, 2**32))
def test_auc_and_variance_equal_the_definition_with_and_without_ties(n1, n0, paired, step, seed):
    n0 = n1 if paired else n0
    rng = np.random.default_rng(seed)
    x, y = (np.rint(rng.normal(shift, 1, (n, 3)) / step) * step for n, shift in ((n1, 0.4), (n0, 0)))
    x[0, 0], y[0, 0] = -0.0, 0.0
    x, y = (side.astype(np.float32).astype(np.float64) for side in (x, y))
    got = rank_auc_interval(x, y, paired)
    for r in range(3):
        auc, variance = brute(x[:, r], y[:, r], paired)
        assert got.auc[r] == pytest.approx(auc, abs=1e-12)
        assert got.se[r] ** 2 == pytest.approx(variance, abs=1e-12)
        assert got.auc[r] == pytest.approx(stats.mannwhitneyu(x[:, r], y[:, r]).statistic / (n1 * n0), abs=1e-12)
        if 0 < auc < 1:
            z = np.log(auc / (1 - auc)) + np.array([-1, 1]) * stats.norm.ppf(0.975) * np.sqrt(variance) / auc / (
                1 - auc
            )
            low, high = 1 / (1 + np.exp(-z))
            far = 0.025 ** (1 / min(n1, n0))
            np.testing.assert_allclose([got.low[r], got.high[r]], [min(low, far), max(high, 1 - far)], atol=1e-10)


def test_counts_are_those_of_each_value_in_its_place():
    x, y = np.array([[1.0], [3.0], [3.0]]), np.array([[0.0], [3.0]])
    np.testing.assert_array_equal(placement_counts(x, y), [[1, 1.5, 1.5, 3, 1]])


def test_sides_that_do_not_overlap_leave_the_limit_that_so_many_values_allow():
    x, y = np.arange(10.0)[:, None] + [[100.0, -100.0]], np.arange(10.0)[:, None] + [[0.0, 0.0]]
    got = rank_auc_interval(x, y, paired=False)
    np.testing.assert_array_equal(got.auc, [1, 0])
    np.testing.assert_allclose(got.low, [0.025**0.1, 0])
    np.testing.assert_allclose(got.high, [1, 1 - 0.025**0.1])


@pytest.mark.parametrize("correlation", [0.0, -0.8])
@pytest.mark.parametrize("auc", [0.5, 0.9, 0.99])
def test_the_interval_covers_in_95_percent_even_with_correlated_pairs(auc, correlation):
    rng = np.random.default_rng(1)
    first, second = rng.standard_normal((2, 100, 3000))
    x = first + np.sqrt(2) * ndtri(auc)
    y = correlation * first + np.sqrt(1 - correlation**2) * second
    got = rank_auc_interval(x, y, paired=True)
    covered = ((got.low <= auc) & (auc <= got.high)).mean()
    if auc == 0.99:  # held back by the limit of complete separation
        assert covered > 0.95
    else:
        assert covered == pytest.approx(0.95, abs=0.012 + 0.005)  # three binomial standard errors, and the method's own
    if correlation and auc == 0.5:  # without the pairs it would be too narrow
        blind = rank_auc_interval(x, y, paired=False)
        assert ((blind.low <= auc) & (auc <= blind.high)).mean() < 0.92
