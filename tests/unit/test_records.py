"""Record statistics against loops with scipy, published relations and simulated coverage."""

import numpy as np
import pytest
from paired_scores import table
from scipy import stats
from scipy.special import ndtr, ndtri

from tailrisk.audit.normality import normality_p
from tailrisk.audit.pairs import blocks
from tailrisk.audit.records import record_statistics


def paired(pairs, records, rng, effect=0.0, ratio=1.0, correlation=0.0):
    first, second = rng.standard_normal((2, pairs, records))
    return effect + ratio * first, correlation * first + np.sqrt(1 - correlation**2) * second


def test_every_column_equals_a_loop_over_records():
    rng = np.random.default_rng(0)
    x, y = paired(40, 60, rng, effect=0.6, ratio=1.7, correlation=-0.5)
    x[:, ::5] = np.exp(x[:, ::5])  # not normal
    x, y = x.astype(np.float32).astype(np.float64), y.astype(np.float32).astype(np.float64)
    got = record_statistics(x, y)
    assert 5 < got.not_normal.sum() < 25
    for r in range(60):
        a, b, n = x[:, r], y[:, r], 40
        s2 = a.var(ddof=1) + b.var(ddof=1)
        d = (a.mean() - b.mean()) / np.sqrt(s2)
        c = np.cov(a, b)[0, 1]
        failed = min(stats.normaltest(a).pvalue, stats.normaltest(b).pvalue) < 0.01
        psi = np.array(
            [
                ((p - a.mean()) - (q - b.mean())) / np.sqrt(s2)
                - d / (2 * s2) * ((p - a.mean()) ** 2 + (q - b.mean()) ** 2 - s2)
                for p, q in zip(a, b, strict=True)
            ]
        )
        var = (s2 - 2 * c) / (n * s2)
        var += d**2 / (2 * s2**2) * (a.var(ddof=1) ** 2 + b.var(ddof=1) ** 2 + 2 * c**2) / (n - 1)
        if failed:
            var = (psi**2).sum() / (n * (n - 1))
        want = {
            "mean_in": a.mean(), "std_in": a.std(ddof=1), "mean_out": b.mean(), "std_out": b.std(ddof=1), "d": d,
            "auc": stats.norm.cdf(d), "d_se": np.sqrt(var), "auc_se": stats.norm.pdf(d) * np.sqrt(var),
            "auc_low": stats.norm.cdf(d - stats.norm.ppf(0.975) * np.sqrt(var)),
            "auc_high": stats.norm.cdf(d + stats.norm.ppf(0.975) * np.sqrt(var)),
            "auc_empirical": stats.mannwhitneyu(a, b).statistic / n**2,
        }  # fmt: skip
        for name, value in want.items():
            assert getattr(got, name)[r] == pytest.approx(value, rel=1e-10, abs=1e-12), name
        np.testing.assert_allclose(got.influence[:, r], psi, rtol=1e-9, atol=1e-11)
        assert got.not_normal[r] == failed


@pytest.mark.parametrize("n", [20, 57, 200])
def test_normality_p_is_that_of_scipy(n):
    rng = np.random.default_rng(n)
    values = np.hstack([rng.normal(size=(n, 20)), rng.exponential(size=(n, 20)), rng.uniform(size=(n, 5))])
    centred = values - values.mean(axis=0)
    np.testing.assert_allclose(normality_p(centred, centred**2), stats.normaltest(values).pvalue, rtol=1e-9)
    assert normality_p(np.zeros((n, 1)), np.zeros((n, 1)))[0] == 0


@pytest.mark.parametrize(("auc", "se"), [(0.5, 0.0399), (0.7, 0.0359), (0.9, 0.0208), (0.95, 0.0134), (0.99, 0.0041)])
def test_standard_error_with_100_independent_pairs_has_its_known_values(auc, se):
    # Columns with exactly mean 0, variance 1 and no covariance: orthogonalised noise.
    rng = np.random.default_rng(1)
    basis = np.linalg.qr(np.column_stack([np.ones(100), rng.normal(size=(100, 2))]))[0][:, 1:] * np.sqrt(99)
    x, y = basis[:, :1] + np.sqrt(2) * ndtri(auc), basis[:, 1:]
    got = record_statistics(x, y)
    assert not got.not_normal.any()
    assert got.auc[0] == pytest.approx(auc, abs=1e-12)
    assert got.auc_se[0] == pytest.approx(se, abs=1e-4)


@pytest.mark.parametrize(("correlation", "ratio"), [(0.0, 1.0), (-0.8, 1.0), (-0.8, 3.0)])
@pytest.mark.parametrize("auc", [0.5, 0.9])
def test_intervals_cover_in_95_percent_even_with_negatively_correlated_pairs(correlation, ratio, auc):
    rng = np.random.default_rng(2)
    effect = ndtri(auc) * np.sqrt(1 + ratio**2)
    got = record_statistics(*paired(100, 4000, rng, effect, ratio, correlation))
    covered = ((got.auc_low <= auc) & (auc <= got.auc_high)).mean()
    # Binomial standard error 0.0034; the method's own error is up to one point.
    assert covered == pytest.approx(0.95, abs=0.016)
    if correlation:  # the usual formula without the covariance would be too narrow
        blind = np.sqrt(1 / 100 + got.d**2 / 8 / 99 * 2)
        assert (np.abs(got.d - ndtri(auc)) <= 1.96 * blind).mean() < 0.93


def test_influence_values_serve_records_that_are_not_normal():
    rng = np.random.default_rng(3)
    x, y = rng.exponential(size=(2, 100, 3000))
    x += 1.5
    truth = ndtr(1.5 / np.sqrt(2))
    got = record_statistics(x, y)
    assert got.not_normal.mean() > 0.99
    covered = ((got.auc_low <= truth) & (truth <= got.auc_high)).mean()
    assert 0.90 < covered < 0.97


def test_records_without_spread_are_never_nan():
    x = np.array([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0], [1.0, 2.0, 1.0]])
    y = np.array([[1.0, 1.0, 2.0], [1.0, 1.0, 2.0], [1.0, 1.0, 2.0]])
    got = record_statistics(x, y)
    np.testing.assert_array_equal(got.degenerate, True)
    for name in ("auc", "auc_low", "auc_high", "auc_empirical"):
        np.testing.assert_array_equal(getattr(got, name), [0.5, 1.0, 0.0])
    np.testing.assert_array_equal(got.auc_se, 0.0)
    assert np.isfinite(got.influence).all()


def test_two_pairs_are_enough():
    confidences, member, patient = table(2, [1] * 20, np.random.default_rng(4))
    (block,) = blocks(confidences, member, patient)
    got = record_statistics(block.x, block.y)
    assert np.isfinite(got.auc_se).all()
    assert not got.not_normal.any()
