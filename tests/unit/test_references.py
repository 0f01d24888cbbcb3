"""What each target is compared with, and that leaving it out betrays nothing of its membership."""

import numpy as np
import pytest
from attacked_tables import DESIGNS, designed, folds_by_target, references

from tailrisk.attacks.references import counts, folds, matched_partners, parts, sides


def balanced(models, records, rng):
    return designed("balanced", models, records, rng)[2]


def test_matches_are_mutual_and_of_opposite_membership():
    member = balanced(10, 500, np.random.default_rng(0))
    partner = matched_partners(member, seed=1)
    columns = np.arange(500)
    for model in range(10):
        assert (member[partner[model], columns] != member[model]).all()
        assert (partner[partner[model], columns] == model).all()


def test_every_model_of_the_other_side_is_an_equally_likely_match():
    member = np.tile(np.array([True, True, False, True, False, False])[:, None], 12_000)
    partner = matched_partners(member, seed=2)
    for model in range(6):
        found = np.bincount(partner[model], minlength=6)
        assert (found[member[:, 0] == member[model, 0]] == 0).all()
        # A third of 12,000 each, standard deviation 52.
        assert np.abs(found[member[:, 0] != member[model, 0]] - 4000).max() < 220


@pytest.mark.parametrize("design", DESIGNS)
def test_counts_of_the_references_do_not_tell_the_membership(design):
    member = designed(design, 10, 4000, np.random.default_rng(3))[2]
    inside = {True: [], False: []}
    for target, (fold, _) in list(folds_by_target(member, design, seed=4).items())[:2]:
        left = np.broadcast_to(counts(member) - fold.gone(), (2, 4000))
        assert (left.sum(axis=0) == 10 - (1 if design == "independent" else 2)).all()
        for r in range(0, 4000, 40):
            others = references(fold, target, r, 10)
            assert left[0, r] == member[others, r].sum()
            assert left[1, r] == len(others) - member[others, r].sum()
        for side in (True, False):
            inside[side].append(left[0, member[target] == side].mean())
    # With fair coins 9/2 ± 1.5/√2000 each; by the pair or the match exactly 4.
    assert np.abs(np.subtract(inside[True], inside[False])).max() < 0.2
    if design != "independent":
        assert inside[True] == inside[False] == [4, 4]


def test_pairs_share_their_fold_and_other_designs_have_one_target_each():
    member = designed("complementary", 6, 50, np.random.default_rng(5))[2]
    assert [fold.targets for fold in folds(member, True, 0)] == [(0, 1), (2, 3), (4, 5)]
    # Without the statement pairs are one way of being balanced.
    assert [fold.targets for fold in folds(member, False, 0)] == [(m,) for m in range(6)]
    assert all(isinstance(fold.partner, np.ndarray) for fold in folds(member, False, 0))
    member[0, 0] = ~member[0, 0]
    assert all(fold.partner is None for fold in folds(member, False, 0))


def test_sides_name_what_leaves_and_parts_cover_all_records():
    inside = np.array([True, False])
    own, partner = np.array([1.0, 2.0], np.float32), np.array([3.0, 4.0], np.float32)
    assert sides(inside, [own, partner]).tolist() == [[1, 4], [3, 2]]
    assert sides(inside, [own]).tolist() == [[1, 0], [0, 2]]
    covered = np.concatenate([np.arange(40_000)[part] for part in parts(40_000)])
    assert (covered == np.arange(40_000)).all()
