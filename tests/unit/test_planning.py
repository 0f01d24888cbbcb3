"""Planned numbers of models against the standard errors and flip tests that such models give."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import t as student

from tailrisk.audit.flips import scaled_differences
from tailrisk.audit.planning import (
    auc_standard_error,
    discovery_level,
    flip_power,
    pairs_for_observed_error,
    pairs_for_power,
    pairs_for_standard_error,
)
from tailrisk.audit.records import record_statistics
from tailrisk.audit.tails import saddlepoint_p
from tailrisk.errors import UserError


def scores(auc, pairs, records, ratio, correlation, seed=0):
    """IN and OUT values [pairs, records] of normal records with one true AUC."""
    rng = np.random.default_rng(seed)
    first, second = rng.standard_normal((2, pairs, records))
    second = correlation * first + np.sqrt(1 - correlation**2) * second
    return (ndtri(auc) + ratio * first / np.hypot(1, ratio)), second / np.hypot(1, ratio)


@pytest.mark.parametrize(("ratio", "correlation"), [(1, 0), (3, 0), (1, -0.7), (2, 0.4)])
@pytest.mark.parametrize("auc", [0.5, 0.8, 0.95])
def test_standard_error_is_the_spread_of_simulated_aucs(auc, ratio, correlation):
    found = record_statistics(*scores(auc, 40, 3000, ratio, correlation))
    planned = auc_standard_error(auc, 40, ratio, correlation)
    assert planned == pytest.approx(found.auc.std(), rel=0.07)
    assert planned == pytest.approx(found.auc_se.mean(), rel=0.05)


def test_standard_error_equals_the_formula_of_the_audit_at_the_observed_moments():
    x, y = scores(0.85, 15, 1, 2.0, -0.5)  # 15 pairs: no test of normality chooses another formula
    found = record_statistics(x, y)
    ratio, correlation = x.std(ddof=1) / y.std(ddof=1), np.corrcoef(x[:, 0], y[:, 0])[0, 1]
    assert auc_standard_error(found.auc[0], 15, ratio, correlation) == pytest.approx(found.auc_se[0], rel=1e-10)


def test_fewest_pairs_reach_the_standard_error_and_one_less_does_not():
    for se, auc, ratio, correlation in (
        (0.05, 0.5, 1, 0),
        (0.01, 0.9, 2, -0.5),
        (0.02, 0.99, 1, 0.9),
        (0.3, 0.5, 1, 0),
    ):
        n = pairs_for_standard_error(se, auc, ratio, correlation)
        assert auc_standard_error(auc, n, ratio, correlation) <= se
        assert n == 2 or auc_standard_error(auc, n - 1, ratio, correlation) > se
    # The paper: 100 IN and 100 OUT models keep the standard error below 0.05 at every AUC.
    assert pairs_for_standard_error(0.05, 0.5) == 64
    assert auc_standard_error(np.linspace(0.5, 0.99, 50), 100).max() < 0.05


def test_pairs_for_the_observed_records_give_that_mean_error():
    rng = np.random.default_rng(1)
    aucs = rng.uniform(0.5, 0.9, 120)
    x, y = (np.concatenate(side, axis=1) for side in zip(*(scores(a, 30, 1, 1, 0, i) for i, a in enumerate(aucs)),
                                                         strict=True))  # fmt: skip
    n = pairs_for_observed_error(0.03, np.append(record_statistics(x, y).auc_se, np.nan), 30)
    again = [record_statistics(*scores(a, n, 1, 1, 0, 1000 + i)).auc_se[0] for i, a in enumerate(aucs)]
    assert np.mean(again) == pytest.approx(0.03, rel=0.05)
    assert pairs_for_observed_error(0.1, np.array([0.1]), 30) == 30


@pytest.mark.parametrize(("pairs", "level"), [(20, 0.05), (20, 1e-3), (50, 1e-4), (100, 1e-6)])
@pytest.mark.parametrize(("ratio", "correlation"), [(1, 0), (3, -0.6)])
def test_power_is_that_of_the_simulated_flip_test(pairs, level, ratio, correlation):
    for auc in (0.6, 0.7, 0.8):
        x, y = scores(auc, pairs, 2000, ratio, correlation)
        v = scaled_differences(x, y)
        p = np.ones(2000)
        promising = v.sum(axis=0) > 0.5 * np.sqrt((v * v).sum(axis=0))  # the saddlepoint needs a sum above 0
        p[promising] = saddlepoint_p(v[:, promising])
        assert flip_power(auc, pairs, level, ratio, correlation) == pytest.approx((p <= level).mean(), abs=0.04)


def test_power_with_few_pairs_knows_that_p_values_are_discrete():
    x, y = scores(0.85, 10, 3000, 1, 0)
    v = scaled_differences(x, y)
    signs = 1 - 2.0 * ((np.arange(2**10)[:, None] >> np.arange(10)) & 1)
    p = (signs @ v >= v.sum(axis=0) - 1e-12).mean(axis=0)
    for level in (0.05, 0.0101):
        assert flip_power(0.85, 10, level) == pytest.approx((p <= level).mean(), abs=0.03)
    assert flip_power(0.99, 10, 0.9 * 2**-10) == 0
    assert flip_power(0.99, 10, 2**-10) > 0
    assert flip_power(0.5, 60, 0.01) == pytest.approx(0.01, rel=1e-6)  # what is not there is found at the level
    assert flip_power(0.5 + 1e-9, 60, 0.01) == pytest.approx(student.sf(student.isf(0.01, 59), 59), rel=1e-4)


def test_fewest_pairs_have_the_power_and_keep_it():
    level = discovery_level(0.05, 65_379)
    assert level == pytest.approx(0.05 / 65_379)
    n = pairs_for_power(0.8, 0.8, level)
    assert 50 <= n <= 65
    assert (flip_power(0.8, np.arange(n, 200), level) >= 0.8).all()
    assert flip_power(0.8, n - 1, level) < 0.8
    assert pairs_for_power(0.8, 0.8, level, correlation=-0.6) > 1.4 * n
    assert pairs_for_power(0.8, 0.8, discovery_level(0.05, 65_379, rank=650)) < 0.7 * n
    assert pairs_for_power(0.8, 0.999, level) == 21  # 2⁻ⁿ is above the level before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pairs_for_standard_error(1e-4, 0.6), "more than 10000 models"),
        (lambda: pairs_for_standard_error(0.0, 0.6), "cannot be reached"),
        (lambda: pairs_for_standard_error(0.05, 1.0), "between 0 and 1"),
        (lambda: pairs_for_standard_error(0.05, 0.6, ratio=0.0), "positive"),
        (lambda: pairs_for_standard_error(0.05, 0.6, correlation=1.0), "below 1"),
        (lambda: pairs_for_power(0.8, 0.5, 0.05), "no trace"),
        (lambda: pairs_for_power(1.0, 0.7, 0.05), "cannot be planned"),
        (lambda: pairs_for_power(0.8, 0.501, 1e-6), "more than 10000 models"),
        (lambda: discovery_level(0.05, 10, 11), "no more found than patients"),
        (lambda: pairs_for_observed_error(0.05, np.array([np.nan]), 30), "no record"),
    ],
)
def test_what_cannot_be_planned_is_said(call, message):
    with pytest.raises(UserError, match=message):
        call()
