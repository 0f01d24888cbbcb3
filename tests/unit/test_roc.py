"""ROC summaries against loops over every threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailrisk.attacks.roc import FPR_GRID, Roc, precision, rank_auc, roc, roc_summary, roc_table

score = st.sampled_from([-2.0, -1.5, -0.0, 0.0, 1e-30, -1e-30, 3.25, 7.0]) | st.floats(-100, 100, width=32)
scores = st.lists(score, min_size=1, max_size=15)


def pairwise_auc(positive, negative):
    wins = [(p > n) + 0.5 * (p == n) for p in positive for n in negative]
    return sum(wins) / len(wins)


@given(scores, scores)
def test_rank_auc_counts_every_pair_and_halves_ties(positive, negative):
    got = rank_auc(np.array(positive, np.float32), np.array(negative, np.float32))
    assert float(got) == pytest.approx(pairwise_auc(np.float32(positive), np.float32(negative)), abs=1e-12)


def test_rank_auc_of_many_rows_mixes_tied_and_untied_ones():
    rng = np.random.default_rng(0)
    positive = rng.normal(0.5, 1, (30, 12)).astype(np.float32)
    negative = rng.normal(0, 1, (30, 9)).astype(np.float32)
    positive[::3], negative[::3] = positive[::3].round(), negative[::3].round()
    want = [pairwise_auc(p, n) for p, n in zip(positive, negative, strict=True)]
    np.testing.assert_allclose(rank_auc(positive, negative), want, atol=1e-12)


def test_tpr_is_the_best_of_all_thresholds_within_each_fpr():
    rng = np.random.default_rng(1)
    member = rng.random(400) < 0.5
    values = (rng.normal(size=400) + member).round(1).astype(np.float32)  # many ties
    inside, outside = values[member], values[~member]
    got = roc(values, member)
    thresholds = np.append(np.unique(values), np.inf)
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
    results = [(0, Roc(0.6, tpr, 1000)), (3, Roc(0.7, tpr / 2, 1000))]
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
        summary = roc_summary([Roc(0.6, tpr, 5000), Roc(0.6, tpr, smaller)])
        assert summary["tpr"]["0.01"] == {"mean": 0.5, "sd": 0.0}
        assert summary["tpr"]["0.001"] == ({"mean": 0.5, "sd": 0.0} if resolved else {"mean": None, "sd": None})
        assert (summary["precision"]["0.5"]["0.001"] is not None) == resolved
        assert summary["tpr"]["0.0001"]["mean"] is None
        assert summary["precision"]["0.01"]["0.0001"] is None


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
