"""The null of designs without pairs: labellings, statistics and small p-values against enumeration."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paired_scores import all_labellings
from scipy.special import ndtr

from tailrisk.audit import flips
from tailrisk.audit.balanced import BALANCED, double_tilt, saddlepoint_p, smallest_p
from tailrisk.audit.tails import maximum_p, record_tail_p, sampling_uniforms


def sides(models, records, rng, effect=0.0, correlation=0.0, inside=None):
    inside = models // 2 if inside is None else inside
    z = np.sqrt(1 - correlation) * rng.standard_normal((models, records))
    z += np.sqrt(correlation) * rng.standard_normal((models, 1))
    return z[:inside] + effect, z[inside:]


def halves(models):
    """Whether a model is IN [labellings, M], all with half of them IN; the first has the first half IN."""
    rows = np.zeros((comb(models, models // 2), models), dtype=bool)
    for row, chosen in zip(rows, combinations(range(models), models // 2), strict=True):
        row[list(chosen)] = True
    return rows


def relative(inside):
    """Signs [labellings, M], +1 where a model keeps the side of the first labelling."""
    return np.where(inside == inside[0], 1.0, -1.0)


def binormal(z, inside):
    """d of z [M, B] with the models `inside` [M] IN, by the definition."""
    x, y = z[inside], z[~inside]
    return (x.mean(axis=0) - y.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + y.var(axis=0, ddof=1))


def test_balanced_statistic_gives_the_auc_of_every_labelling():
    x, y = sides(10, 6, np.random.default_rng(0), effect=0.8)
    v = flips.scaled_contributions(x, y)
    inside = halves(10)
    want = ndtr([binormal(np.concatenate([x, y]), row) for row in inside])
    np.testing.assert_allclose(flips.auc_of(relative(inside) @ v, 5), want, rtol=1e-10)


def test_coins_statistic_is_the_sum_over_in_less_the_sum_over_out_models():
    x, y = sides(9, 5, np.random.default_rng(1), effect=0.8, inside=3)
    z = np.concatenate([x, y])
    v = flips.scaled_contributions(x, y)
    a = ((z - z.mean(axis=0)) ** 2).sum(axis=0) / 3.5
    signs = all_labellings(9)
    observed = np.repeat([1.0, -1.0], [3, 6])
    want = (signs * observed) @ (z - z.mean(axis=0)) / (4.5 * np.sqrt(a))
    np.testing.assert_allclose(signs @ v, want, atol=1e-12)


@given(st.integers(2, 30), st.integers(2, 30), st.integers(0, 2**32), st.floats(0.01, 100), st.floats(-50, 50))
def test_contributions_stay_within_the_range_of_exact_sums(n1, n0, seed, scale, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_cauchy((n1, 5)) * scale + shift, rng.standard_cauchy((n0, 5)) * scale
    assert (np.abs(flips.scaled_contributions(x, y)).sum(axis=0) <= np.sqrt(2)).all()


@pytest.mark.parametrize("inside", [8, 12])
def test_auc_scale_of_the_coins_null_matches_redrawn_memberships(inside):
    rng = np.random.default_rng(2)
    z = rng.standard_normal((24, 300))
    signs = flips.sign_flips(24, 2000, seed=3)
    u = flips.null_statistics(flips.scaled_contributions(z[:inside], z[inside:]), signs)
    relabelled = (np.arange(24) < inside)[:, None] ^ (signs < 0)
    want = np.array([binormal(z, relabelled[:, f]) for f in range(2000)]).T
    got = flips.auc_of(u * flips.auc_scale(signs, inside), 12)
    assert np.sqrt(((got - ndtr(want)) ** 2).mean()) < 0.006
    for share in (0.5, 0.9, 0.99, 0.999):
        assert np.quantile(got, share) == pytest.approx(ndtr(np.quantile(want, share)), abs=0.006)
    # Without the scale a labelling with few IN models would look less variable than it is.
    assert np.quantile(flips.auc_of(u, 12), 0.999) < ndtr(np.quantile(want, 0.999)) - 0.006


@pytest.mark.parametrize("models", [4, 8, 12])
def test_few_balanced_models_are_enumerated_and_p_is_exact(models):
    signs = flips.balanced_flips(models, 999, seed=1)
    assert flips.is_exhaustive(signs, balanced=True)
    assert len(np.unique(signs, axis=1).T) == signs.shape[1] == comb(models, models // 2) - 1
    x, y = sides(models, 7, np.random.default_rng(models), effect=0.7)
    v = flips.scaled_contributions(x, y)
    got = flips.flip_p(flips.observed_statistics(v), flips.null_statistics(v, signs), models)
    d = np.array([binormal(np.concatenate([x, y]), row) for row in halves(models)])
    np.testing.assert_allclose(got, (d >= d[0] - 1e-9).mean(axis=0), rtol=1e-12)


def test_random_balanced_flips_are_balanced_fair_and_reproducible():
    signs = flips.balanced_flips(60, 999, seed=4)
    assert signs.shape == (60, 999)
    assert not flips.is_exhaustive(signs, balanced=True)
    np.testing.assert_array_equal(signs[:30].sum(axis=0), signs[30:].sum(axis=0))  # as many leave IN as come
    assert np.abs(signs.mean(axis=1)).max() < 5 / np.sqrt(999)
    np.testing.assert_array_equal(signs, flips.balanced_flips(60, 999, seed=4))
    assert (signs != flips.balanced_flips(60, 999, seed=5)).any()


def test_double_tilt_solves_both_saddlepoint_equations():
    rng = np.random.default_rng(5)
    z = (rng.standard_normal((60, 100)) + rng.exponential(size=(60, 100))) * np.logspace(-3, 3, 100)
    ordered = np.sort(z, axis=0)
    reach = ordered[30:].sum(axis=0) - ordered[:30].sum(axis=0)
    x = rng.uniform(0.01, 0.99, 100) * reach
    t, s = double_tilt(z, x)
    tanh = np.tanh(t * z + s)
    np.testing.assert_allclose((z * tanh).sum(axis=0), x, rtol=1e-8)
    np.testing.assert_allclose(tanh.sum(axis=0), 0, atol=1e-8)
    assert (t > 0).all()


def test_double_saddlepoint_is_close_to_all_halves_of_20_models():
    inside = relative(halves(20)).astype(np.float32)
    errors = []
    for seed, effect in enumerate((0.7, 1.0, 1.3, 1.6)):
        v = flips.scaled_contributions(*sides(20, 20, np.random.default_rng(seed), effect=effect))
        want = (inside @ v.astype(np.float32) >= v.sum(axis=0) - 1e-6).mean(axis=0)
        use = (want < 0.05) & (want > 100 / len(inside))
        errors.append(np.log(saddlepoint_p(v[:, use]) / want[use]))
    errors = np.concatenate(errors)
    assert errors.size > 20
    assert np.abs(errors).max() < 0.2
    assert abs(errors.mean()) < 0.04


def test_double_saddlepoint_of_100_models_agrees_with_importance_sampling():
    x, y = sides(100, 30, np.random.default_rng(6), effect=np.linspace(0.6, 1.6, 30))
    v = flips.scaled_contributions(x, y)
    t, k = BALANCED.tilt(v, v.sum(axis=0))
    uniforms = np.random.default_rng(7).random((4000, 100), dtype=np.float32)
    sampled = [maximum_p(v[:, [i]], v[:, i].sum(), t[[i]], k[[i]], uniforms, BALANCED) for i in range(30)]
    p = saddlepoint_p(v)
    assert p.min() < 1e-8
    np.testing.assert_allclose(np.log(p / sampled), 0, atol=0.2)
    assert abs(np.log(p / sampled).mean()) < 0.03


@pytest.mark.parametrize(("records", "effect"), [(1, 1.2), (4, 1.4), (15, 1.6)])
def test_importance_sampling_of_the_maximum_matches_all_halves_of_16_models(records, effect):
    inside, errors = relative(halves(16)), []
    for seed in range(10):
        rng = np.random.default_rng(50 + seed)
        v = flips.scaled_contributions(*sides(16, records, rng, effect=effect, correlation=0.5))
        x = v.sum(axis=0).max()
        want = ((inside @ v).max(axis=1) >= x - 1e-12).mean()
        t, k = BALANCED.tilt(v, np.full(records, x))
        got = maximum_p(v, x, t, k, sampling_uniforms(16, seed), BALANCED)
        if 3 / len(inside) < want < 0.05:
            errors.append(np.log(got / want))
    assert len(errors) >= 3
    assert np.sqrt(np.mean(np.square(errors))) < 0.15


def test_a_labelling_that_nothing_surpasses_has_the_smallest_p():
    x, y = np.arange(30.0)[:, None] + 100, np.arange(30.0)[:, None]
    v = flips.scaled_contributions(x, y)
    assert saddlepoint_p(v)[0] == smallest_p(60) == 1 / comb(60, 30)
    t, k = BALANCED.tilt(v, v.sum(axis=0))
    sampled = maximum_p(v, v.sum(), t, k, sampling_uniforms(60, 0), BALANCED)
    assert sampled == pytest.approx(smallest_p(60), rel=0.05)
    assert smallest_p(5000) > 0


def test_tied_and_few_values_go_to_importance_sampling():
    inside = relative(halves(16))
    rng = np.random.default_rng(8)
    x, y = (np.rint(part / 0.5) * 0.5 for part in sides(16, 12, rng, effect=1.2))
    v = flips.scaled_contributions(x, y)
    want = (inside @ v >= v.sum(axis=0) - 1e-9).mean(axis=0)
    use = (want < 0.02) & (want > 3 / len(inside))
    assert use.sum() >= 3
    got = record_tail_p(v[:, use], sampling_uniforms(16, 1), BALANCED)
    np.testing.assert_allclose(np.log(got / want[use]), 0, atol=0.25)
