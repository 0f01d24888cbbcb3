"""Published numbers and closed-form relations, reproduced from their inputs."""

import itertools

import numpy as np
import pytest
from paired_scores import membership
from scipy import stats
from scipy.integrate import quad
from scipy.special import ndtr, ndtri

from tailrisk.audit.ceilings import auc_ceiling, gaussian_auc_ceiling, group_guarantee
from tailrisk.audit.pairs import blocks
from tailrisk.audit.records import record_statistics
from tailrisk.errors import UserError


def exact_sample(auc, pairs, rng):
    """IN and OUT values [pairs, 1] whose sample AUC is exactly `auc`: no covariance, equal variances of 1."""
    basis = np.linalg.qr(np.column_stack([np.ones(pairs), rng.normal(size=(pairs, 2))]))[0][:, 1:]
    basis *= np.sqrt(pairs - 1)
    return basis[:, :1] + np.sqrt(2) * ndtri(auc), basis[:, 1:]


@pytest.mark.parametrize(
    ("auc", "se", "bi_normal"),
    [
        (0.5, 0.0409, 0.0399),
        (0.7, 0.0368, 0.0359),
        (0.9, 0.0226, 0.0208),
        (0.95, 0.0160, 0.0134),
        (0.99, 0.0071, 0.0041),
    ],
)
def test_standard_errors_with_100_models_a_side(auc, se, bi_normal):
    got = record_statistics(*exact_sample(auc, 100, np.random.default_rng(0)))
    assert got.auc[0] == pytest.approx(auc, abs=1e-12)
    assert got.auc_se_hanley_mcneil[0] == pytest.approx(se, abs=5e-5)
    # The bi-normal numbers were printed with 100 where the variance of a variance has 99.
    assert got.auc_se[0] == pytest.approx(bi_normal, abs=1e-4)
    d = ndtri(auc)
    assert got.auc_se[0] == pytest.approx(stats.norm.pdf(d) * np.sqrt(1 / 100 + d**2 / 4 / 99), rel=1e-10)
    assert bi_normal == pytest.approx(stats.norm.pdf(d) * np.sqrt(1 / 100 + d**2 / 4 / 100), abs=5e-5)


def trade_off_auc(curve, *breaks):
    """1 − ∫ f, the integral split where f bends."""
    edges = [0.0, *sorted(b for b in breaks if 0 < b < 1), 1.0]
    return 1 - sum(quad(curve, a, b, epsabs=1e-13)[0] for a, b in itertools.pairwise(edges))


@pytest.mark.parametrize("epsilon", [0.0, 0.3, 1.0, 2.0, 5.0, 20.0])
@pytest.mark.parametrize("delta", [0.0, 1e-5, 0.1, 1.0])
def test_auc_ceiling_is_the_integral_of_the_trade_off_function(epsilon, delta):
    def curve(alpha):
        return max(0.0, 1 - delta - np.exp(epsilon) * alpha, np.exp(-epsilon) * (1 - delta - alpha))

    bend = (1 - delta) / (1 + np.exp(epsilon))
    assert auc_ceiling(epsilon, delta) == pytest.approx(trade_off_auc(curve, bend, 1 - delta), abs=1e-10)


@pytest.mark.parametrize(("epsilon", "auc"), [(1, 0.731), (2, 0.881), (5, 0.9933)])
def test_auc_ceiling_has_its_published_values(epsilon, auc):
    assert auc_ceiling(epsilon, 0.0) == pytest.approx(auc, abs=5e-4 if epsilon < 5 else 5e-5)


@pytest.mark.parametrize(("mu", "auc"), [(0.5, 0.638), (1, 0.760), (2, 0.921)])
def test_gaussian_ceiling_is_the_integral_of_its_trade_off_function(mu, auc):
    assert gaussian_auc_ceiling(mu) == pytest.approx(auc, abs=5e-4)
    integral = trade_off_auc(lambda alpha: ndtr(ndtri(1 - alpha) - mu))
    assert gaussian_auc_ceiling(mu) == pytest.approx(integral, abs=1e-9)


def test_attack_on_the_worst_mechanisms_reaches_the_ceilings_and_no_more():
    # Randomised response that fails openly with probability δ has f as its trade-off function.
    epsilon, delta = 1.2, 0.05
    keep = (1 - delta) / (1 + np.exp(-epsilon))
    inside = np.array([delta, keep, 1 - delta - keep, 0.0])  # outcomes: "IN for sure", yes, no, "OUT for sure"
    outside = inside[::-1]
    wins = sum(inside[i] * (outside[i + 1 :].sum() + outside[i] / 2) for i in range(4))
    assert wins == pytest.approx(auc_ceiling(epsilon, delta), abs=1e-12)
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((2, 1_000_000))
    assert np.mean(x + 1.3 > y) == pytest.approx(gaussian_auc_ceiling(1.3), abs=3 * 0.0005)


@pytest.mark.parametrize("records", [1, 2, 3, 7])
def test_a_patient_with_several_records_has_the_guarantee_of_all_of_them(records):
    epsilon, delta = 0.4, 1e-3
    got = group_guarantee(epsilon, delta, records)
    assert got[0] == pytest.approx(records * epsilon)
    assert got[1] == pytest.approx(delta * sum(np.exp(i * epsilon) for i in range(records)), rel=1e-12)
    assert got[1] == pytest.approx(delta * (np.exp(records * epsilon) - 1) / (np.exp(epsilon) - 1), rel=1e-12)


def test_group_guarantee_at_its_limits():
    assert group_guarantee(0.0, 1e-3, 5) == (0.0, pytest.approx(5e-3))
    assert group_guarantee(1e-12, 1e-3, 5)[1] == pytest.approx(5e-3)
    assert group_guarantee(3.0, 0.0, 4) == (12.0, 0.0)
    assert group_guarantee(1000.0, 1e-6, 20) == (20_000.0, 1.0)
    assert auc_ceiling(*group_guarantee(1000.0, 1e-6, 20)) == 1.0


def test_ceilings_refuse_what_is_no_guarantee():
    for epsilon, delta in [(-0.1, 0.0), (1.0, -1e-9), (1.0, 1.1), (float("nan"), 0.0), (1.0, float("nan"))]:
        with pytest.raises(UserError, match="a privacy guarantee has"):
            auc_ceiling(epsilon, delta)
    with pytest.raises(UserError, match="mu of 0 or more"):
        gaussian_auc_ceiling(-1.0)
    with pytest.raises(UserError, match="at least one record"):
        group_guarantee(1.0, 1e-5, 0)


@pytest.fixture(scope="module")
def null_auc():
    """Record AUC of 60,000 records without any leak under 100 pairs of independent normal scores."""
    rng = np.random.default_rng(2)
    patient = np.arange(60_000)
    member = membership(100, patient, rng)
    confidences = rng.standard_normal((200, patient.size), dtype=np.float32)
    return np.concatenate([record_statistics(b.x, b.y).auc for b in blocks(confidences, member, patient)])


@pytest.mark.parametrize(("auc", "share"), [(0.58, 0.023), (0.60, 0.0063)])
def test_share_of_records_above_an_auc_without_any_leak(null_auc, auc, share):
    # Without a leak, d·√n is Student's t with 2(n − 1) degrees of freedom.
    exact = stats.t.sf(ndtri(auc) * np.sqrt(100), 198)
    assert share == pytest.approx(exact, rel=0.05)
    low, high = stats.binom.ppf([0.0005, 0.9995], null_auc.size, exact) / null_auc.size
    assert low <= (null_auc >= auc).mean() <= high


@pytest.mark.parametrize(("records", "median"), [(2, 0.522), (3, 0.533), (6, 0.549), (19, 0.572)])
def test_median_of_the_maximum_over_records_without_any_leak(null_auc, records, median):
    maxima = null_auc[: null_auc.size // records * records].reshape(-1, records).max(axis=1)
    exact = ndtr(stats.t.isf(1 - 0.5 ** (1 / records), 198) / 10)
    assert median == pytest.approx(exact, abs=1.5e-3)
    # The standard error of a sample median, by the density of the maximum at its median.
    t = ndtri(exact) * 10
    density = records * 0.5 ** (1 - 1 / records) * stats.t.pdf(t, 198) * 10 / stats.norm.pdf(ndtri(exact))
    assert np.median(maxima) == pytest.approx(exact, abs=4 * 0.5 / density / np.sqrt(maxima.size))


def test_tail_composition_arithmetic():
    # 11 records of BI-RADS 4 in a tail of 3,512 where 0.86 were expected.
    assert pytest.approx(11.79, abs=0.01) == (11 - 0.86) / 0.86
    # The share of Black patients, 26.1 % of all and 33.4 % of the tail, and χ² from the three shares.
    share, tail = np.array([0.261, 0.688, 0.051]), np.array([0.334, 0.632, 0.033])
    assert tail[0] / share[0] - 1 == pytest.approx(0.28, abs=0.005)
    assert 2945 * ((tail - share) ** 2 / share).sum() == pytest.approx(92.0, rel=0.02)
