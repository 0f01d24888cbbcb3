"""Record statistics against loops with scipy, published relations and simulated coverage."""

import numpy as np
import pytest
from paired_scores import table
from scipy import stats
from scipy.special import ndtr, ndtri

from tailrisk.audit.normality import normality_p
from tailrisk.audit.pairs import blocks
from tailrisk.audit.records import hanley_mcneil_se, likelihood_ratio_auc, record_statistics, tpr_at_fpr


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
        np.testing.assert_allclose(got.influence[:, r], psi / np.sqrt(n * (n - 1)), rtol=1e-9, atol=1e-11)
        assert got.not_normal[r] == failed


def test_every_column_without_pairs_equals_a_loop_over_records():
    rng = np.random.default_rng(10)
    x, y = 0.7 + 1.6 * rng.standard_normal((37, 40)), rng.standard_normal((52, 40))
    x[:, ::4] = np.exp(x[:, ::4])
    got = record_statistics(x, y, paired=False)
    assert 5 < got.not_normal.sum() < 20
    for r in range(40):
        a, b = x[:, r], y[:, r]
        s2 = a.var(ddof=1) + b.var(ddof=1)
        d = (a.mean() - b.mean()) / np.sqrt(s2)
        psi_in = (a - a.mean()) / np.sqrt(s2) - d / (2 * s2) * ((a - a.mean()) ** 2 - a.var(ddof=1))
        psi_out = -(b - b.mean()) / np.sqrt(s2) - d / (2 * s2) * ((b - b.mean()) ** 2 - b.var(ddof=1))
        influence = np.concatenate([psi_in / np.sqrt(37 * 36), psi_out / np.sqrt(52 * 51)])
        p = min(stats.normaltest(a).pvalue, stats.normaltest(b).pvalue)
        var = (a.var(ddof=1) / 37 + b.var(ddof=1) / 52) / s2
        var += d**2 / (2 * s2**2) * (a.var(ddof=1) ** 2 / 36 + b.var(ddof=1) ** 2 / 51)
        if p < 0.01:
            var = (influence**2).sum()
        assert got.d[r] == pytest.approx(d, rel=1e-10)
        assert got.d_se[r] == pytest.approx(np.sqrt(var), rel=1e-10)
        assert got.normality_p[r] == pytest.approx(p, rel=1e-9)
        np.testing.assert_allclose(got.influence[:, r], influence, rtol=1e-9, atol=1e-12)


def test_the_error_of_d_follows_its_derivative():
    # Influence values are the derivative of d by the weight of one value: compare with a small change of weights.
    rng = np.random.default_rng(11)
    a, b = 0.8 + rng.standard_normal(30), 1.5 * rng.standard_normal(24)

    def d_of(weights, values, other):
        mean = np.average(values, weights=weights)
        var = np.average((values - mean) ** 2, weights=weights) * len(values) / (len(values) - 1)
        return mean, var, other.mean(), other.var(ddof=1)

    got = record_statistics(a[:, None], b[:, None], paired=False).influence[:, 0]
    for i in range(30):
        step = 1e-6
        values = []
        for sign in (1, -1):
            weights = np.ones(30)
            weights[i] += sign * step
            m1, v1, m0, v0 = d_of(weights, a, b)
            values.append((m1 - m0) / np.sqrt(v1 + v0))
        slope = (values[0] - values[1]) / (2 * step) * 30
        # The weighted variance moves by one (n − 1)th more than the unbiased one's influence value says.
        assert got[i] * np.sqrt(30 * 29) == pytest.approx(slope, abs=0.03)


@pytest.mark.parametrize("ratio", [1.0, 1.0001, 1.5, 0.2, 4.0])
def test_likelihood_ratio_auc_is_that_of_the_two_densities(ratio):
    grid = np.linspace(-60, 60, 200_001)
    for effect in (-1.0, 0.0, 0.4, 2.5):
        inside, outside = stats.norm.pdf(grid, effect, ratio), stats.norm.pdf(grid, 0, 1)
        log_ratio = stats.norm.logpdf(grid, effect, ratio) - stats.norm.logpdf(grid, 0, 1)
        order = np.argsort(log_ratio, kind="stable")
        below = np.cumsum(outside[order]) - 0.5 * outside[order]
        want = (inside[order] * below).sum() * (grid[1] - grid[0]) ** 2
        d = np.array([effect / np.hypot(ratio, 1)])
        got = likelihood_ratio_auc(d, np.array([ratio]), np.array([1.0]))[0]
        tied = ratio == 1 and effect == 0
        assert got == pytest.approx(0.5 if tied else want, abs=1e-5)
        assert got >= ndtr(abs(d[0])) - 1e-12
        assert likelihood_ratio_auc(d, np.array([1e200 * ratio]), np.array([1e200]))[0] == pytest.approx(got, abs=1e-12)


def test_likelihood_ratio_auc_of_constant_sides():
    d, one, zero = np.array([0.3, 0.0, np.inf, 0.0]), np.array([1.0, 1.0, 0, 0]), np.zeros(4)
    np.testing.assert_allclose(likelihood_ratio_auc(d, one, zero), [1, 1, 1, 0.5])


def test_hanley_mcneil_has_its_published_values():
    auc = np.array([0.5, 0.7, 0.9])
    n = 100
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    want = np.sqrt((auc * (1 - auc) + (n - 1) * (q1 + q2 - 2 * auc**2)) / n**2)
    np.testing.assert_allclose(hanley_mcneil_se(auc, n, n), want, rtol=1e-12)
    assert hanley_mcneil_se(np.array([0.5]), 100, 100)[0] == pytest.approx(0.0409, abs=5e-5)


def test_tpr_at_fpr_is_the_survival_beyond_the_threshold():
    mean_in, std_in, std_out = np.array([1.0, -0.5, 3.0]), np.array([1.0, 2.0, 0.5]), np.array([1.0, 0.7, 2.0])
    for fpr in (0.01, 0.001):
        threshold = stats.norm.isf(fpr, 0, std_out)
        want = stats.norm.sf(threshold, mean_in, std_in)
        np.testing.assert_allclose(tpr_at_fpr(fpr, mean_in, std_in, std_out), want, rtol=1e-10)
    np.testing.assert_array_equal(tpr_at_fpr(0.01, np.array([1.0, 0.0, -1.0]), np.zeros(3), np.zeros(3)), [1, 0.5, 0])


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


@pytest.mark.parametrize("ratio", [1.0, 3.0])
@pytest.mark.parametrize("auc", [0.5, 0.9])
def test_intervals_without_pairs_cover_in_95_percent_with_unequal_numbers(auc, ratio):
    rng = np.random.default_rng(12)
    x = ndtri(auc) * np.sqrt(1 + ratio**2) + ratio * rng.standard_normal((60, 4000))
    got = record_statistics(x, rng.standard_normal((140, 4000)), paired=False)
    assert ((got.auc_low <= auc) & (auc <= got.auc_high)).mean() == pytest.approx(0.95, abs=0.016)


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
