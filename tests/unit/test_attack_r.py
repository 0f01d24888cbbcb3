"""Attack-R against the count by the definition, with and without ties, for every design."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from attacked_tables import DESIGNS, designed, folds_by_target, references

from tailrisk.attacks.attack_r import attack_r_scores, ranks_among_out
from tailrisk.attacks.references import counts


def scores_of(confidences, member, design, seed=2):
    with ThreadPoolExecutor(2) as pool:
        ranks = ranks_among_out(confidences, member, pool)
    return {
        target: attack_r_scores(fold, fold.values(confidences), ranks, counts(member))[i]
        for target, (fold, i) in folds_by_target(member, design, seed).items()
    }


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("decimals", [7, 0])
def test_every_score_equals_the_count_without_the_target_and_its_partner(design, decimals):
    confidences, _, member = designed(design, 20, 30, np.random.default_rng(1), effect=0.5)
    confidences = confidences.round(decimals)
    confidences[:, 4] = 0.5
    got, of = scores_of(confidences, member, design), folds_by_target(member, design, seed=2)
    for target, (fold, _) in of.items():
        for r in range(30):
            out = confidences[[m for m in references(fold, target, r, 20) if not member[m, r]], r]
            want = np.mean((out < confidences[target, r]) + 0.5 * (out == confidences[target, r]))
            assert got[target][r] == pytest.approx(want, abs=1e-6)


def test_losses_of_a_class_give_the_scores_of_confidences():
    confidences, losses, member = designed("complementary", 20, 3000, np.random.default_rng(3))
    by_loss, by_confidence = (scores_of(values, member, "complementary") for values in (losses, confidences))
    for target, scores in by_confidence.items():
        np.testing.assert_allclose(by_loss[target], scores, atol=0.06)  # one step, where losses of float32 tie
        assert (by_loss[target] == scores).mean() > 0.999
