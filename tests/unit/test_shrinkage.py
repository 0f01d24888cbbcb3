"""Empirical Bayes on variances: its fit recovers a known prior, and shrinking pays with few models."""

import numpy as np
import pytest
from paired_scores import in_and_out, table
from scipy.optimize import brentq
from scipy.special import digamma, ndtr, polygamma

from tailrisk.audit.shrinkage import Prior, fit_prior, shrink, shrunk_auc


def variances(prior_dof, scale, dof, size, rng):
    """Sample variances with `dof` degrees of freedom of records whose variances follow the prior."""
    sigma2 = scale * prior_dof / rng.chisquare(prior_dof, size)
    return sigma2, sigma2 * rng.chisquare(dof, size) / dof


@pytest.mark.parametrize(("prior_dof", "dof"), [(3, 1), (8, 4), (8, 60), (40, 9)])
def test_fit_recovers_the_prior_that_made_the_variances(prior_dof, dof):
    _, s2 = variances(prior_dof, 2.5, dof, 100_000, np.random.default_rng(prior_dof))
    got = fit_prior(s2, dof)
    assert got.dof == pytest.approx(prior_dof, rel=0.12)
    assert got.variance == pytest.approx(2.5, rel=0.02)


def test_fit_solves_the_moment_equations():
    rng = np.random.default_rng(0)
    dof = rng.integers(3, 12, 500)
    s2 = rng.lognormal(0, 1.5, 500)
    e = np.log(s2) - digamma(dof / 2) + np.log(dof / 2)
    excess = e.var(ddof=1) - polygamma(1, dof / 2).mean()
    half = brentq(lambda y: polygamma(1, y) - excess, 1e-3, 1e6, xtol=1e-14)
    got = fit_prior(s2, dof)
    assert got.dof == pytest.approx(2 * half, rel=1e-10)
    assert got.variance == pytest.approx(np.exp(e.mean() + digamma(half) - np.log(half)), rel=1e-10)


@pytest.mark.parametrize("spread", [3e-4, 1e-2, 0.5, 3.0, 8.0])
def test_fit_solves_them_at_any_spread_of_the_variances(spread):
    s2 = np.exp(spread * np.array([-1.0, 1.0] * 50) * np.sqrt(99 / 100))
    assert polygamma(1, fit_prior(s2, 1e12).dof / 2) == pytest.approx(spread**2, rel=1e-4)


def test_equal_variances_have_an_infinite_prior_and_lose_their_own():
    rng = np.random.default_rng(1)
    s2 = 4.0 * np.clip(rng.chisquare(6, 2000), 3, 9) / 6
    prior = fit_prior(s2, 6)
    assert prior.dof == np.inf
    np.testing.assert_array_equal(shrink(s2, 6, prior), prior.variance)
    assert fit_prior(np.array([2.0]), 5).dof == np.inf


def test_constant_records_do_not_decide_the_fit_and_are_given_the_common_spread():
    _, s2 = variances(6, 1.0, 9, 5000, np.random.default_rng(2))
    prior = fit_prior(s2, 9)
    assert fit_prior(np.r_[s2, np.zeros(3000)], 9) == prior
    assert shrink(np.array([0.0]), 9, prior)[0] == pytest.approx(prior.dof * prior.variance / (prior.dof + 9))
    assert fit_prior(np.r_[s2, np.full(3000, 1e-14)], 9).dof == pytest.approx(prior.dof, rel=1e-12)  # but for rounding
    assert fit_prior(np.zeros(4), 9) == Prior(0.0, 0.0)
    np.testing.assert_array_equal(shrink(np.zeros(4), 9, Prior(0.0, 0.0)), 0.0)


def test_shrinking_is_the_posterior_and_moves_less_with_more_models():
    prior = Prior(5.0, 2.0)
    s2 = np.array([0.1, 2.0, 9.0])
    for dof in (1, 9, 99):
        np.testing.assert_allclose(shrink(s2, dof, prior), (5 * 2.0 + dof * s2) / (5 + dof), rtol=1e-14)
    np.testing.assert_array_equal(shrink(s2, 3, Prior(0.0, 2.0)), s2)
    np.testing.assert_allclose(shrink(s2, np.array([0, 1, 2]), prior)[0], 2.0)


@pytest.mark.parametrize(("pairs", "gain"), [(5, 0.75), (10, 0.9), (100, 1.01)])
def test_shrunk_variances_are_nearer_the_truth_with_few_models(pairs, gain):
    rng = np.random.default_rng(3)
    sigma2, s2 = variances(10, 1.5, pairs - 1, 20_000, rng)
    shrunk = shrink(s2, pairs - 1, fit_prior(s2, pairs - 1))

    def error(estimate):
        return np.sqrt(((np.log(estimate) - np.log(sigma2)) ** 2).mean())

    assert error(shrunk) < gain * error(s2)


def test_shrunk_auc_from_five_pairs_is_nearer_that_of_many():
    rng = np.random.default_rng(4)
    effect = 0.8 * rng.exponential(size=600)
    confidences, member, _ = table(5, [1] * 600, rng, effect)
    x, y = in_and_out(confidences, member)
    difference, var_in, var_out = x.mean(0) - y.mean(0), x.var(0, ddof=1), y.var(0, ddof=1)
    got = shrunk_auc(difference, var_in, var_out, 4, 4)
    spread = shrink(var_in, 4, fit_prior(var_in, 4)) + shrink(var_out, 4, fit_prior(var_out, 4))
    np.testing.assert_allclose(got, ndtr(difference / np.sqrt(spread)), rtol=1e-14)
    truth, plain = ndtr(effect / np.sqrt(2)), ndtr(difference / np.sqrt(var_in + var_out))
    assert ((got - truth) ** 2).mean() < 0.9 * ((plain - truth) ** 2).mean()


def test_records_without_any_spread_are_certain_or_know_nothing():
    nothing = np.zeros(3)
    np.testing.assert_array_equal(shrunk_auc(np.array([0.0, 1.0, -1.0]), nothing, nothing, 4, 4), [0.5, 1.0, 0.0])
