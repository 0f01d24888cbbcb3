"""Online LiRA against a loop by the definition, and its behaviour without any leak."""

import numpy as np
import pytest
from paired_scores import table
from scipy.stats import norm

from tailrisk.attacks.lira import lira_online
from tailrisk.attacks.roc import roc


def brute_force(confidences, member, target):
    others = [m for m in range(len(confidences)) if m // 2 != target // 2]
    result = np.empty(confidences.shape[1])
    for r in range(confidences.shape[1]):
        values = confidences[others, r].astype(np.float64)
        inside, outside = values[member[others, r]], values[~member[others, r]]
        phi = float(confidences[target, r])
        result[r] = norm.logpdf(phi, inside.mean(), inside.std(ddof=1))
        result[r] -= norm.logpdf(phi, outside.mean(), outside.std(ddof=1))
    return result


@pytest.mark.parametrize("pairs", [3, 10])
def test_scores_equal_the_loop_without_the_targets_pair(pairs):
    rng = np.random.default_rng(pairs)
    confidences, member, _ = table(pairs, [1, 3, 2, 5] * 4, rng, effect=0.7, within_pair=-0.5)
    confidences += 1000  # far from zero, where sums of squares would cancel
    scores = dict(lira_online(confidences, member))
    assert list(scores) == list(range(2 * pairs))
    for target, got in scores.items():
        np.testing.assert_allclose(got, brute_force(confidences, member, target), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("within_pair", [0.0, -0.8, 0.8])
def test_without_a_leak_the_mean_auc_is_a_half_even_for_correlated_pairs(within_pair):
    rng = np.random.default_rng(5)
    confidences, member, _ = table(10, [1] * 2000, rng, within_pair=within_pair)
    aucs = [roc(scores, member[model]).auc for model, scores in lira_online(confidences, member)]
    # 20 targets of 2,000 records each: standard error at most 0.013/√10 (pairs share their information).
    assert np.mean(aucs) == pytest.approx(0.5, abs=0.012)


def test_a_leak_is_found():
    rng = np.random.default_rng(6)
    confidences, member, _ = table(20, [1] * 1000, rng, effect=1.0)
    aucs = [roc(scores, member[model]).auc for model, scores in lira_online(confidences, member)]
    assert np.mean(aucs) > 0.7


def test_constant_records_give_finite_scores_and_no_certainty():
    rng = np.random.default_rng(7)
    confidences, member, _ = table(4, [1] * 6, rng)
    confidences[:, 0] = 2.5
    confidences[:, 1] = np.where(member[:, 1], 3, 2)  # separated without spread
    scores = dict(lira_online(confidences, member))
    for target, values in scores.items():
        assert np.isfinite(values).all()
        assert values[0] == 0
        assert (values[1] > 0) == member[target, 1]


def test_too_few_pairs_are_refused():
    with pytest.raises(ValueError, match="3 pairs"):
        next(lira_online(np.zeros((4, 5), np.float32), np.zeros((4, 5), bool)))
