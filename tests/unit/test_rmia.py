"""RMIA against loops over records and population, for every design, and its arithmetic at the edges."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from attacked_tables import DESIGNS, designed, folds_by_target, references

from tailrisk.attacks import rmia
from tailrisk.attacks.references import counts
from tailrisk.errors import UserError


def sums_of(losses, member):
    with ThreadPoolExecutor(2) as pool:
        return rmia.probability_sums(losses.__getitem__, member, pool)


def brute_force(losses, member, target, fold, a, population, gamma):
    """RMIA scores [N] of one target: online for a None, else offline with a."""
    p = np.exp(losses.astype(np.float64))
    ratio = np.empty(p.shape[1])
    for r in range(p.shape[1]):
        others = references(fold, target, r, len(p))
        of_in = np.mean([p[m, r] for m in others if member[m, r]])
        of_out = np.mean([p[m, r] for m in others if not member[m, r]])
        ratio[r] = p[target, r] / ((of_in + of_out) / 2 if a is None else ((1 + a) * of_out + 1 - a) / 2)
    return np.array(
        [np.mean([ratio[x] >= gamma * ratio[z] * (1 - 1e-12) for z in population]) for x in range(ratio.size)]
    )


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("gamma", [1.0, 1.3, 0.6])
def test_every_score_equals_the_loop_without_the_target_and_its_partner(design, gamma):
    _, losses, member = designed(design, 20, 40, np.random.default_rng(1), effect=0.8)
    losses[:, 7] = losses[:, 3]  # ties
    member[:, 7] = member[:, 3]
    population = np.arange(0, 40, 3)
    total, blends = sums_of(losses, member), [rmia.online, rmia.offline(0.3), rmia.offline(1.0)]
    for target, (fold, i) in folds_by_target(member, design, seed=2).items():
        got = rmia.ratios(fold, fold.values(losses), total, counts(member), blends)[:, i]
        for ratios, a in zip(got, (None, 0.3, 1.0), strict=True):
            share = (ratios[:, None] >= rmia.levels(ratios[population], gamma)).mean(axis=1)
            want = brute_force(losses, member, target, fold, a, population, gamma)
            np.testing.assert_allclose(share, want, atol=1e-12)


def test_near_certain_records_are_told_apart():
    rng = np.random.default_rng(3)
    _, _, member = designed("complementary", 10, 200, rng)
    losses = (-1e-9 * rng.exponential(size=(10, 200))).astype(np.float32)  # probabilities that round to 1 as float32
    fold, i = folds_by_target(member, "complementary", 0)[4]
    ratios = rmia.ratios(fold, fold.values(losses), sums_of(losses, member), counts(member), [rmia.online])[0, i]
    others = [m for m in range(10) if m // 2 != 2]
    want = losses[4].astype(np.float64) - losses[others].astype(np.float64).mean(axis=0)  # log ratio to first order
    np.testing.assert_allclose(ratios, want, atol=1e-6 * np.abs(want).max())


def test_hopeless_records_have_finite_ratios():
    _, losses, member = designed("complementary", 10, 50, np.random.default_rng(4))
    losses[:, 0], losses[:, 1], losses[2, 2], losses[2:4, 3] = -500, -np.inf, -np.inf, -1e4
    losses[[0, 1, 4, 5, 6, 7, 8, 9], 4] = -200  # all but the target's pair
    for fold, _ in folds_by_target(member, "complementary", 0).values():
        blends = [rmia.online, rmia.offline(0.0), rmia.offline(1.0)]
        ratios = rmia.ratios(fold, fold.values(losses), sums_of(losses, member), counts(member), blends)
        assert np.isfinite(ratios).all()
        assert (ratios[0, :, :2] == 0).all()


def test_the_scale_of_ratios_orders_as_they_do_and_gamma_multiplies_them():
    ratio = np.array([1e-6, 0.2, 0.5, 0.999, 1.0, 1.001, 2.0, 7.0, 1e6])
    scaled = np.where(ratio >= 1, ratio - 1, 1 - 1 / ratio).astype(np.float32)
    assert (np.diff(scaled) > 0).all()
    for gamma in (0.5, 1.0, 3.0):
        want = np.where(gamma * ratio >= 1, gamma * ratio - 1, 1 - 1 / (gamma * ratio))
        np.testing.assert_allclose(rmia.levels(scaled, gamma), want, rtol=1e-5, atol=1e-5)


def test_a_loss_that_is_no_number_is_named():
    _, losses, member = designed("complementary", 6, 9, np.random.default_rng(5))
    losses[3, 7] = np.nan
    with pytest.raises(UserError, match="target model 3 is not a number for record number 7"):
        sums_of(losses, member)
