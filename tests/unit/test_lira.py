"""LiRA against a loop by the definition, for every design and variance, and at the edges."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from attacked_tables import DESIGNS, designed, folds_by_target, references
from paired_scores import table
from scipy.stats import norm

from tailrisk.attacks.lira import LIRA, lira_online, lira_scores, moments
from tailrisk.attacks.roc import roc
from tailrisk.audit.shrinkage import fit_prior, shrink


def moments_of(confidences, member):
    with ThreadPoolExecutor(2) as pool:
        return moments(confidences, member, pool)


def brute_force(confidences, member, target, fold):
    """Every LiRA score [N] of one target, one record at a time."""
    values, records = confidences.astype(np.float64), range(confidences.shape[1])
    sides = {}
    for r in records:
        others = references(fold, target, r, len(values))
        sides[r] = [[values[m, r] for m in others if member[m, r] == side] for side in (True, False)]
    mean = np.array([[np.mean(side) for side in sides[r]] for r in records]).T
    own = np.array([[np.var(side, ddof=1) for side in sides[r]] for r in records]).T
    dof = np.array([[len(side) - 1 for side in sides[r]] for r in records]).T
    fixed = (own * dof).sum(axis=1, keepdims=True) / dof.sum(axis=1, keepdims=True)
    shrunk = np.empty_like(own)
    for side, inside in enumerate((member, ~member)):
        of_all = np.array([values[inside[:, r], r].var(ddof=1) for r in records])
        shrunk[side] = shrink(own[side], dof[side], fit_prior(of_all, inside.sum(axis=0) - 1))
    phi, scores = values[target], {}
    for name, variance in (("", own), ("_fixed", fixed), ("_shrunk", shrunk)):
        density = norm.logpdf(phi, mean, np.sqrt(variance))
        scores[f"lira_online{name}"] = density[0] - density[1]
        scores[f"lira_offline_two_sided{name}"] = -density[1] - np.log(2 * np.pi) / 2
        scores[f"lira_offline{name}"] = (phi - mean[1]) / np.sqrt(variance[1])
    return scores


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("offset", [0, 1000])  # far from zero, sums of squares would cancel
def test_every_score_equals_the_loop_without_the_target_and_its_partner(design, offset):
    confidences, _, member = designed(design, 24, 15, np.random.default_rng(2), effect=0.7, within_pair=-0.5)
    confidences += np.float32(offset)
    of_all = moments_of(confidences, member)
    for target, (fold, i) in folds_by_target(member, design, seed=3).items():
        want = brute_force(confidences, member, target, fold)
        got = lira_scores(fold, fold.values(confidences), of_all)
        assert set(got) == set(LIRA)
        for attack in LIRA:
            np.testing.assert_allclose(got[attack][i], want[attack], rtol=5e-6, atol=5e-6, err_msg=attack)


def test_three_pairs_are_enough_and_two_are_refused():
    confidences, _, member = designed("complementary", 6, 10, np.random.default_rng(4))
    for target, (fold, _) in folds_by_target(member, "complementary", 0).items():
        want = brute_force(confidences, member, target, fold)["lira_online"]
        np.testing.assert_allclose(dict(lira_online(confidences, member))[target], want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="3 pairs"):
        next(lira_online(confidences[:4], member[:4]))


def test_moments_are_exact_in_double_precision():
    confidences, _, member = designed("independent", 30, 50, np.random.default_rng(5))
    got = moments_of(confidences, member)
    for side, inside in enumerate((member, ~member)):
        for r in range(50):
            values = confidences[inside[:, r], r].astype(np.float64)
            assert got.mean[side, r] == pytest.approx(values.mean(), abs=1e-12)
            assert got.squares[side, r] == pytest.approx(((values - values.mean()) ** 2).sum(), rel=1e-10)
            assert got.count[side, r] == values.size


def test_offline_scores_order_as_the_normal_distribution_function_does():
    confidences, _, member = designed("complementary", 12, 40, np.random.default_rng(8))
    fold, i = folds_by_target(member, "complementary", 0)[5]
    got = lira_scores(fold, fold.values(confidences), moments_of(confidences, member))["lira_offline"][i]
    outside = [confidences[[m for m in references(fold, 5, r, 12) if not member[m, r]], r] for r in range(40)]
    p = [norm.cdf(confidences[5, r], outside[r].mean(), outside[r].std(ddof=1)) for r in range(40)]
    assert (np.argsort(got) == np.argsort(p)).all()


def test_each_fixed_variance_is_of_its_own_side():
    rng = np.random.default_rng(6)
    confidences, member, _ = table(20, [1] * 400, rng)
    confidences = np.where(member, 3 * confidences, confidences)
    fold, i = folds_by_target(member, "complementary", 0)[0]
    online = lira_scores(fold, fold.values(confidences), moments_of(confidences, member))["lira_online_fixed"][i]
    # N(0, 9) against N(0, 1): the log ratio at φ is 4 φ²/9 − log 3; means of 19 pairs are off by 3/√19 at most often.
    expected = 4 / 9 * confidences[0].astype(np.float64) ** 2 - np.log(3)
    assert np.corrcoef(online, expected)[0, 1] > 0.95
    assert np.median(online - expected) == pytest.approx(0, abs=0.15)


def test_a_leak_is_found():
    confidences, member, _ = table(20, [1] * 1000, np.random.default_rng(6), effect=1.0)
    aucs = [roc(scores, member[model]).auc for model, scores in lira_online(confidences, member)]
    assert np.mean(aucs) > 0.7


def test_constant_records_give_finite_scores_and_no_certainty():
    confidences, member, _ = table(4, [1] * 6, np.random.default_rng(7))
    confidences[:, 0] = 2.5
    confidences[:, 1] = np.where(member[:, 1], 3, 2)  # separated without spread
    for target, values in lira_online(confidences, member):
        assert np.isfinite(values).all()
        assert values[0] == 0
        assert (values[1] > 0) == member[target, 1]
    everything = np.full_like(confidences, -7.25)
    for fold, _ in folds_by_target(member, "complementary", 0).values():
        for scores in lira_scores(fold, fold.values(everything), moments_of(everything, member)).values():
            assert np.ptp(scores) == 0
            assert np.isfinite(scores).all()
