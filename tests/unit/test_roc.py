"""ROC summaries against loops over every threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrisk.attacks.roc import FPR_GRID, REPORTED_FPR, Roc, Scores, exceeding, precision, roc, roc_summary, roc_table

score = st.sampled_from([-2.0, -1.5, -0.0, 0.0, 1e-30, -1e-30, 3.25, 7.0]) | st.floats(-100, 100, width=32)
scores = st.lists(score, min_size=1, max_size=15)
NO_THRESHOLDS = np.zeros(4)


def rounded(values):
    """Values of 23 significant bits: mantissas in multiples of 2^-23 below one, towards zero."""
    mantissa, exponent = np.frexp(np.asarray(values, np.float32).astype(np.float64))
    return np.ldexp(np.trunc(mantissa * 2**23) / 2**23, exponent).astype(np.float32)


def pairwise_auc(positive, negative):
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    return sum(wins) / len(wins)


def split(positive, negative):
    values = np.array([*positive, *negative], np.float32)
    return values, np.arange(values.size) < len(positive)


@given(scores, scores)
def test_auc_counts_every_pair_and_halves_ties(positive, negative):
    values, member = split(positive, negative)
    normal = np.where(np.abs(values) < 1e-37, 0, values).astype(np.float32)  # subnormal ones have fewer bits
    got = roc(normal, member)
    values = rounded(normal)
    assert got.auc == pytest.approx(pairwise_auc(values[member], values[~member]), abs=1e-12)


@given(scores, scores, st.lists(score, min_size=1, max_size=9))
def test_stepped_scores_are_the_number_of_levels_at_or_below(positive, negative, levels):
    values, member = split(np.round(positive, 2), np.round(negative, 2))
    levels = np.sort(np.round(levels, 2).astype(np.float32))
    steps = (values[:, None] >= levels).sum(axis=1)
    got, want = roc(Scores(values, levels, levels.size), member), roc(steps.astype(np.float32), member)
    assert got.auc == pytest.approx(want.auc, abs=1e-12)
    np.testing.assert_array_equal(got.tpr, want.tpr)
    np.testing.assert_array_equal(got.thresholds, want.thresholds)
    at = np.array([*want.thresholds, -0.5 + levels.size, 0.5])
    for stepped, plain in zip(
        exceeding(Scores(values, levels), member, np.maximum(at, 0)),
        exceeding(Scores(steps.astype(np.float32)), member, np.maximum(at, 0)),
        strict=True,
    ):
        np.testing.assert_array_equal(stepped, plain)


def test_a_threshold_of_the_target_itself_reaches_its_own_rates():
    rng = np.random.default_rng(5)
    for decimals in (7, 1):
        member = rng.random(20_000) < 0.5
        values = (rng.normal(size=20_000) + member).round(decimals).astype(np.float32)
        found = roc(values, member)
        fpr, tpr = exceeding(Scores(values), member, found.thresholds)
        assert (fpr <= REPORTED_FPR).all()
        for column, nominal in enumerate(REPORTED_FPR):
            assert tpr[column] == found.tpr[np.argmin(np.abs(FPR_GRID - nominal))]
            assert fpr[column] == np.mean(rounded(values[~member]) > found.thresholds[column])


def test_tpr_is_the_best_of_all_thresholds_within_each_fpr():
    rng = np.random.default_rng(1)
    member = rng.random(400) < 0.5
    values = (rng.normal(size=400) + member).round(1).astype(np.float32)  # many ties
    inside, outside = rounded(values[member]), rounded(values[~member])
    got = roc(values, member)
    thresholds = np.append(np.unique(rounded(values)), np.inf)
    tpr = np.array([(inside >= t).mean() for t in thresholds])
    fpr = np.array([(outside >= t).mean() for t in thresholds])
    want = [tpr[fpr <= limit * (1 + 1e-12)].max() for limit in FPR_GRID]
    np.testing.assert_allclose(got.tpr, want, atol=0)
    assert got.auc == pytest.approx(pairwise_auc(inside, outside))
    assert got.tpr[-1] == 1


def test_grid_spans_the_reported_rates_exactly():
    for fpr in (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        assert np.isclose(FPR_GRID, fpr, rtol=1e-14).any()


def test_precision_follows_bayes():
    assert precision(0.2, 0.001, 0.01) == pytest.approx(0.002 / (0.002 + 0.00099))


def test_summary_and_table_average_over_target_models():
    tpr = np.linspace(0, 1, 101)
    results = [(0, Roc(0.6, tpr, 1000, NO_THRESHOLDS)), (3, Roc(0.7, tpr / 2, 1000, NO_THRESHOLDS))]
    table = roc_table("lira_online", results)
    assert list(table.columns) == ["attack", "target_model", "fpr", "tpr"]
    assert table["target_model"].dtype == np.int16
    assert table.groupby("target_model").size().to_dict() == {0: 101, 3: 101}
    summary = roc_summary([one for _, one in results])
    assert summary["auc"] == pytest.approx(0.65)
    assert summary["auc_sd"] == pytest.approx(np.std([0.6, 0.7], ddof=1))
    assert summary["tpr"]["0.01"]["mean"] == pytest.approx((0.6 + 0.3) / 2)  # 60th of 100 grid steps
    assert summary["precision"]["0.1"]["0.01"] == pytest.approx(0.1 * 0.45 / (0.1 * 0.45 + 0.9 * 0.01))


def test_rates_below_one_non_member_are_not_reported():
    tpr = np.full(101, 0.5)
    for smaller, resolved in ((1000, True), (999, False)):  # one target that cannot show 0.1 % is enough
        summary = roc_summary([Roc(0.6, tpr, 5000, NO_THRESHOLDS), Roc(0.6, tpr, smaller, NO_THRESHOLDS)])
        assert summary["tpr"]["0.01"] == {"mean": 0.5, "sd": 0.0}
        assert summary["tpr"]["0.001"] == ({"mean": 0.5, "sd": 0.0} if resolved else {"mean": None, "sd": None})
        assert (summary["precision"]["0.5"]["0.001"] is not None) == resolved
        assert summary["tpr"]["0.0001"]["mean"] is None
        assert summary["precision"]["0.01"]["0.0001"] is None


def test_rates_of_fewer_than_four_steps_of_the_score_are_not_reported():
    tpr = np.full(101, 0.5)
    for steps, resolved in ((400, True), (399, False)):
        summary = roc_summary([Roc(0.6, tpr, 10**6, NO_THRESHOLDS, steps)])
        assert summary["tpr"]["0.1"] == {"mean": 0.5, "sd": None}
        assert summary["tpr"]["0.01"]["mean"] == (0.5 if resolved else None)


def test_an_attack_that_knows_nothing_has_the_precision_of_the_prior():
    rng = np.random.default_rng(2)
    results = []
    for _ in range(60):
        member = rng.random(30_000) < 0.5
        results.append(roc(rng.normal(size=30_000).astype(np.float32), member))
    summary = roc_summary(results)
    for prior in (0.01, 0.1, 0.5):
        for fpr, tolerance in ((0.1, 0.02), (0.01, 0.08), (0.001, 0.2)):  # of 15,000 non-members 1,500, 150 and 15
            assert summary["precision"][str(prior)][str(fpr)] == pytest.approx(prior, rel=tolerance)
        assert summary["precision"][str(prior)]["0.0001"] is not None  # 1.5 of them: resolved, if barely


def test_no_target_models_leave_an_empty_table_and_no_numbers():
    assert roc_table("lira_online", []).empty
    summary = roc_summary([])
    assert summary["auc"] is None
    assert summary["tpr"]["0.1"] == {"mean": None, "sd": None}
    assert summary["precision"]["0.5"]["0.1"] is None
