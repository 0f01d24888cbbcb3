"""The debiased survival curve: near the truth where it is drawn, and drawn only there."""

import numpy as np
import pytest
from paired_scores import in_and_out, table
from scipy.special import ndtr, ndtri
from scipy.stats import norm

from tailrisk.audit.debiased import debiased_survival
from tailrisk.audit.flips import sign_flips
from tailrisk.audit.patients import patient_interval
from tailrisk.audit.records import record_statistics
from tailrisk.audit.survival import AUC_GRID

THRESHOLDS = np.array([0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99])


def estimates(truth, pairs, rng):
    """d̂ and its standard error for single records with equal variances and independent pairs."""
    spread = rng.chisquare(2 * (pairs - 1), truth.size) / (2 * (pairs - 1))
    d = (truth + rng.normal(size=truth.size) / np.sqrt(pairs)) / np.sqrt(spread)
    return d, np.sqrt(1 / pairs + d**2 / (4 * (pairs - 1)))


def truths(case, size, rng):
    few = rng.random(size) < 0.005
    return {
        "leaks of all sizes": lambda: rng.exponential(0.25, size),
        "few": lambda: few * rng.normal(1.2, 0.5, size),
        "none": lambda: np.zeros(size),
        "everyone": lambda: rng.normal(0.6, 0.4, size),
        "small ones and a tail": lambda: rng.normal(0, 0.15, size) + 2 * few * rng.exponential(1, size),
    }[case]()


@pytest.mark.parametrize("pairs", [50, 100])
@pytest.mark.parametrize("case", ["leaks of all sizes", "few", "none", "everyone", "small ones and a tail"])
def test_where_it_is_drawn_it_is_near_the_truth_and_not_worse_than_the_plain_curve(case, pairs):
    rng = np.random.default_rng(pairs)
    off, plain_off, numbers, shown = [], [], [], None
    for _ in range(6):
        truth = truths(case, 4000, rng)
        d, se = estimates(truth, pairs, rng)
        got = 4000 * debiased_survival(THRESHOLDS, d, se, pairs)
        shown = np.isfinite(got) if shown is None else shown & np.isfinite(got)
        true, plain = ((ndtr(values)[:, None] >= THRESHOLDS).sum(axis=0) for values in (truth, d))
        off.append(got - true)
        plain_off.append(plain - true)
        numbers.append(true)
    assert shown[THRESHOLDS >= 0.7].all()
    number = np.mean(numbers, axis=0)[shown]
    error, plain_error = (np.sqrt(np.square(one).mean(axis=0))[shown] for one in (off, plain_off))
    assert (error <= 0.3 * number + 2 * np.sqrt(number) + 2).all()
    assert (error <= 1.2 * plain_error + 1 + 0.5 * np.sqrt(number)).all()


def test_it_takes_off_most_of_what_luck_added():
    rng = np.random.default_rng(0)
    truth = truths("leaks of all sizes", 16_000, rng)
    d, se = estimates(truth, 50, rng)
    got = 16_000 * debiased_survival(np.array([0.7, 0.8, 0.9]), d, se, 50)
    true, plain = ((ndtr(values)[:, None] >= np.array([0.7, 0.8, 0.9])).sum(axis=0) for values in (truth, d))
    assert (plain - true > 3 * np.abs(got - true)).all()


@pytest.mark.parametrize("how", ["each the same", "one of them"])
def test_patients_with_several_records_are_near_the_truth_too(how):
    rng = np.random.default_rng(1)
    sizes = rng.permutation(np.repeat([1, 2, 5], [300, 200, 300]))
    starts = np.cumsum(sizes) - sizes
    truth = rng.exponential(0.3, 800)
    effect = np.repeat(truth, sizes)
    if how == "one of them":
        effect = np.where(np.isin(np.arange(effect.size), starts), effect, 0.0)
    confidences, member, _ = table(100, sizes, rng, effect * np.sqrt(2))
    records = record_statistics(*in_and_out(confidences, member))
    interval = patient_interval(records, starts, sizes, sign_flips(100, 399, 0))
    best = np.array([s + records.d[s : s + m].argmax() for s, m in zip(starts, sizes, strict=True)])
    got = 800 * debiased_survival(THRESHOLDS, ndtri(interval.median_unbiased), records.d_se[best], 100, sizes)
    true, plain = ((ndtr(one)[:, None] >= THRESHOLDS).sum(axis=0) for one in (truth, records.d[best]))
    assert np.isnan(got[THRESHOLDS <= 0.65]).all()  # four standard errors
    for i in np.flatnonzero(np.isin(THRESHOLDS, [0.7, 0.8, 0.9])):
        assert abs(got[i] - true[i]) <= 0.3 * true[i] + 2 * np.sqrt(true[i]) + 2
        assert abs(got[i] - true[i]) < plain[i] - true[i]


def test_patients_with_three_records_or_more_are_counted_at_their_estimates():
    rng = np.random.default_rng(2)
    d = rng.exponential(0.3, 900)
    se = np.full(900, 0.1)
    sizes = np.repeat([1, 3], [450, 450])
    got = debiased_survival(AUC_GRID, d, se, 100, sizes)
    shown = np.isfinite(got)
    alone = debiased_survival(AUC_GRID, d[:450], se[:450], 100)
    counted = (ndtr(d[450:])[:, None] >= AUC_GRID).mean(axis=0)
    np.testing.assert_allclose(got[shown], 0.5 * alone[shown] + 0.5 * counted[shown], atol=1e-12)
    many = debiased_survival(AUC_GRID, d, se, 100, np.full(900, 4))
    assert np.nanmax(np.abs(many - (ndtr(d)[:, None] >= AUC_GRID).mean(axis=0))) < 1e-12


def test_it_is_drawn_only_where_the_rule_says():
    rng = np.random.default_rng(3)
    d, se = estimates(rng.exponential(0.3, 2000), 100, rng)
    shown = np.isfinite(debiased_survival(AUC_GRID, d, se, 100))
    lowest, highest = AUC_GRID[shown].min(), AUC_GRID[shown].max()
    assert lowest == pytest.approx(norm.cdf(3 / np.sqrt(100)), abs=0.005)
    assert highest == 0.99
    assert np.diff(np.flatnonzero(shown)).max() == 1
    for fails in (
        debiased_survival(AUC_GRID, d, se, 49),  # too few models
        debiased_survival(AUC_GRID, d[:99], se[:99], 100),  # too few patients
        debiased_survival(AUC_GRID, d, 2.2 * se, 100),  # too imprecise
        debiased_survival(AUC_GRID, d, np.zeros(2000), 100),  # nothing known of the precision
        debiased_survival(AUC_GRID, d[:140], se[:140], 100, np.repeat([1, 5], [60, 80])),  # too few to deconvolve
    ):
        assert np.isnan(fails).all()


def test_it_falls_is_a_share_and_does_not_depend_on_the_order_or_on_extremes():
    rng = np.random.default_rng(4)
    d, se = estimates(rng.normal(0.3, 0.5, 3000), 60, rng)
    d[:3], se[:3] = (np.inf, -np.inf, 9.0), 0.0
    got = debiased_survival(AUC_GRID, d, se, 60)
    shown = got[np.isfinite(got)]
    assert (np.diff(shown) <= 0).all()
    assert 0 <= shown.min() <= shown.max() <= 1
    order = rng.permutation(3000)
    np.testing.assert_allclose(debiased_survival(AUC_GRID, d[order], se[order], 60), got, rtol=1e-9)
