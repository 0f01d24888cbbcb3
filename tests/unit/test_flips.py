"""The sign-flip null against exact enumeration of every labelling."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paired_scores import all_labellings, auc_under, table
from scipy.stats import binom

from tailrisk.audit import flips
from tailrisk.audit.pairs import blocks
from tailrisk.audit.survival import AUC_GRID, NULL_FLIPS, NullCurves
from tailrisk.audit.tails import (
    TIE,
    cumulant,
    maximum_p,
    number_of_draws,
    record_tail_p,
    saddlepoint_p,
    sampling_uniforms,
    smallest_p,
    tilt,
)


def one_block(pairs, sizes, seed, **kwargs):
    confidences, member, patient = table(pairs, sizes, np.random.default_rng(seed), **kwargs)
    (block,) = blocks(confidences, member, patient)
    return block


def scaled(block):
    return flips.scaled_differences(block.x, block.y)


def all_sums(v):
    """Σ ε v of every labelling [2^n, R] of v [n, R], by halves."""
    half = len(v) // 2
    first, second = (all_labellings(len(part)) @ part for part in (v[:half], v[half:]))
    return (first[:, None] + second[None, :]).reshape(-1, v.shape[1])


def test_statistic_gives_the_auc_of_every_labelling():
    block = one_block(8, [3, 2], 0, effect=0.5)
    v = scaled(block)
    signs = all_labellings(8)
    want = auc_under(signs, block.x, block.y)
    np.testing.assert_allclose(flips.auc_of(signs @ v, 8), want, rtol=1e-10)
    np.testing.assert_allclose(flips.statistic_of(want, 8), signs @ v, rtol=1e-8)


@pytest.mark.parametrize("pairs", [2, 5, 9])
def test_with_few_pairs_record_and_patient_p_are_exact(pairs):
    block = one_block(pairs, [1, 4, 2, 9], pairs, effect=0.4)
    signs = flips.sign_flips(pairs, 999, seed=1)
    assert flips.is_exhaustive(signs)
    v = scaled(block)
    observed, null = flips.observed_statistics(v), flips.null_statistics(v, signs)
    aucs = auc_under(all_labellings(pairs), block.x, block.y)  # row 0 is the observed labelling
    want = (aucs >= aucs[0] - 1e-9).mean(axis=0)
    np.testing.assert_allclose(flips.flip_p(observed, null, pairs), want, rtol=1e-12)

    def maximum(values):
        return flips.patient_maximum(values, block.starts, block.sizes)

    want = (maximum(aucs.T) >= maximum(aucs[0])[:, None] - 1e-9).mean(axis=1)
    np.testing.assert_allclose(flips.flip_p(maximum(observed), maximum(null), pairs), want, rtol=1e-12)


def test_tied_labellings_count_as_reached():
    d = np.tile([[3.0], [-3.0]], (4, 3)) * [1.0, 0.1, 1e-3]  # half of the differences are negative
    v = flips.scaled_differences(d, np.zeros_like(d))
    signs = flips.sign_flips(8, 999, seed=0)
    got = flips.flip_p(flips.observed_statistics(v), flips.null_statistics(v, signs), 8)
    want = (all_labellings(8).sum(axis=1) >= 0).mean()
    np.testing.assert_allclose(got, want)


def test_float32_products_are_exact_and_do_not_depend_on_the_block():
    block = one_block(100, [1] * 300, 3, effect=0.5)
    v = scaled(block)
    signs = flips.sign_flips(100, 999, seed=2)
    null = flips.null_statistics(v, signs)
    np.testing.assert_array_equal(null, flips.exact(v).T.astype(np.float64) @ signs)
    np.testing.assert_array_equal(null[17:18], flips.null_statistics(v[:, 17:18], signs))
    assert np.abs(null - v.T @ signs).max() < flips.tolerance(100)


@given(st.integers(2, 40), st.integers(0, 2**32), st.floats(0.01, 100), st.floats(-50, 50))
def test_scaled_differences_stay_within_the_range_of_exact_sums(pairs, seed, scale, shift):
    x, y = np.random.default_rng(seed).standard_cauchy((2, pairs, 5)) * scale + np.array([shift, 0])[:, None, None]
    assert (np.abs(flips.scaled_differences(x, y)).sum(axis=0) <= np.sqrt(2)).all()


def test_random_flips_are_fair_reproducible_and_differ_by_seed():
    signs = flips.sign_flips(100, 999, seed=5)
    assert signs.shape == (100, 999)
    assert set(np.unique(signs)) == {-1, 1}
    assert abs(signs.mean()) < 5 / np.sqrt(99900)
    np.testing.assert_array_equal(signs, flips.sign_flips(100, 999, seed=5))
    assert (signs != flips.sign_flips(100, 999, seed=6)).any()


def test_the_first_of_exhaustive_labellings_are_a_fair_sample_of_all():
    block = one_block(9, [1] * 1000, 4, effect=1.5)
    signs = flips.sign_flips(9, 999, seed=6)
    assert len(np.unique(signs, axis=1).T) == signs.shape[1] == 511
    null = flips.null_statistics(scaled(block), signs)
    curve = NullCurves(9)
    curve.add(null, null, block.starts)
    want = (flips.auc_of(null, 9).ravel() >= AUC_GRID[:, None]).mean(axis=1)
    # Records share the 99 labellings drawn of 511; a pair is then flipped 49.5 ± 4.5 times.
    np.testing.assert_allclose(curve.curve("record"), want, atol=0.06)
    assert np.abs(signs[:, :NULL_FLIPS].mean(axis=1)).max() < 0.3


def test_familywise_auc_is_the_upper_five_percent_of_the_largest_null_auc():
    block = one_block(50, [1] * 400, 7)
    v = scaled(block)
    signs = flips.sign_flips(50, 999, seed=0)
    aucs = auc_under(signs.T[:200], block.x, block.y).max(axis=1)
    got = flips.familywise_auc(flips.null_statistics(v, signs[:, :200]).max(axis=0), 50)
    assert got == pytest.approx(np.quantile(aucs, 0.95, method="higher"), abs=1e-4)


def test_familywise_auc_needs_more_labellings_than_one_in_the_level():
    largest = np.linspace(0, 0.5, 19, dtype=np.float32)
    assert flips.familywise_auc(largest, 10) is not None  # 1/20 = 5 %
    assert flips.familywise_auc(largest[1:], 10) is None
    assert flips.familywise_auc(largest[1:], 10, level=0.1) is not None


def test_saddlepoint_is_close_to_all_2_to_20_labellings():
    want, error = [], []
    for seed, effect in enumerate((0.5, 0.7, 0.9, 1.1, 1.3, 1.5)):
        v = scaled(one_block(20, [1] * 20, seed, effect=effect))
        exact = (all_sums(v) >= v.sum(axis=0) - 1e-12).mean(axis=0)
        want.append(exact)
        error.append(np.abs(saddlepoint_p(v) / exact - 1))
    want, error = np.concatenate(want), np.concatenate(error)
    # With 20 pairs p = 1e-4 is a hundred labellings: below that the steps of the discrete tail show.
    for low, high, typical, largest in ((1e-3, 0.02, 0.025, 0.07), (1e-4, 1e-3, 0.06, 0.25), (3e-5, 1e-4, 0.12, 0.3)):
        inside = (low < want) & (want < high)
        assert inside.sum() >= 4
        assert np.sqrt((error[inside] ** 2).mean()) < typical
        assert error[inside].max() < largest


def test_saddlepoint_and_importance_sampling_agree_deep_in_the_tail_of_100_pairs():
    uniforms = np.random.default_rng(0).random((20_000, 100), dtype=np.float32)
    v = np.hstack([scaled(one_block(100, [1] * 5, seed, effect=0.15 * seed)) for seed in range(3, 8)])
    p = saddlepoint_p(v)
    assert p.min() < 1e-8
    assert p.max() > 1e-3
    for r in np.flatnonzero(p < 0.02):
        x = v[:, r].sum()
        t = tilt(v[:, [r]], np.array([x]))
        sampled = maximum_p(v[:, [r]], x, t, cumulant(t, v[:, [r]]), uniforms)
        assert p[r] == pytest.approx(sampled, rel=0.05)  # the sampling error is about 1 %


def test_equal_differences_have_the_p_of_the_binomial_and_the_saddlepoint_would_be_too_small():
    v = np.ones((400, 1)) / 400
    v[:160] *= -1
    want = binom.sf(239, 400, 0.5)  # P(X ≥ 240)
    uniforms = np.random.default_rng(0).random((40_000, 400), dtype=np.float32)
    t = tilt(v, v.sum(axis=0))
    assert maximum_p(v, v.sum(), t, cumulant(t, v), uniforms) == pytest.approx(want, rel=0.03)
    assert record_tail_p(v, sampling_uniforms(400, 1)) == pytest.approx(want, rel=0.15)  # a step less is 0.6 of it
    assert saddlepoint_p(v)[0] < 0.9 * want


@pytest.mark.parametrize(("pairs", "step"), [(12, None), (16, None), (20, 1.0), (20, 0.5), (20, 0.25)])
def test_tails_of_few_pairs_and_of_rounded_differences_match_all_labellings(pairs, step):
    uniforms, ratios = sampling_uniforms(pairs, 2), []
    for seed in range(6):
        block = one_block(pairs, [1] * 12, 20 + seed, effect=1.1)
        d = block.x - block.y
        d = d if step is None else np.rint(d / step) * step
        v = flips.scaled_differences(d, np.zeros_like(d))
        want = (all_sums(v) >= v.sum(axis=0) - 1e-9).mean(axis=0)
        inside = (3 / 2**pairs < want) & (want < 0.02)
        ratios.append(np.log(record_tail_p(v[:, inside], uniforms) / want[inside]))
    ratios = np.concatenate(ratios)
    assert ratios.size >= 15
    assert abs(ratios.mean()) < 0.06
    assert np.sqrt((ratios**2).mean()) < 0.12


def test_continuous_differences_of_many_pairs_keep_the_saddlepoint():
    v = scaled(one_block(40, [1] * 30, 8, effect=0.8))
    np.testing.assert_allclose(record_tail_p(v, sampling_uniforms(40, 0)), saddlepoint_p(v), rtol=1e-12)


def test_no_saddlepoint_exists_when_every_difference_is_positive():
    v = np.abs(np.random.default_rng(1).normal(size=(30, 2)))
    v[:5, 1] = 0
    np.testing.assert_array_equal(saddlepoint_p(v), [2.0**-30, 2.0**-25])
    assert smallest_p(5000) > 0


def test_tilt_solves_the_saddlepoint_equation():
    rng = np.random.default_rng(2)
    v = rng.normal(size=(60, 200)) * np.logspace(-3, 3, 200)
    share = rng.uniform(0.01, 0.999, 200)
    x = share * np.abs(v).sum(axis=0)
    t = tilt(v, x)
    np.testing.assert_allclose((v * np.tanh(t * v)).sum(axis=0), x, rtol=1e-10)
    np.testing.assert_allclose(cumulant(t, v), np.log(np.cosh(np.minimum(t * v, 300))).sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize(("records", "effect"), [(2, 0.9), (5, 1.2), (20, 1.4), (20, 1.7)])
def test_importance_sampling_matches_all_2_to_20_labellings_of_the_maximum(records, effect):
    errors = []
    for seed in range(12):
        block = one_block(20, [records], 100 + seed, effect=effect, within_patient=0.6)
        v = scaled(block)
        x = v.sum(axis=0).max()
        want = (all_sums(v).max(axis=1) >= x - 1e-12).mean()
        able = np.abs(v).sum(axis=0) >= x
        v, x = v[:, able], np.full(able.sum(), x)
        t = tilt(v, x)
        got = maximum_p(v, x[0], t, cumulant(t, v), sampling_uniforms(20, seed))
        if 10 / 2**20 < want < 0.05:
            errors.append(np.log(got / want))
    assert len(errors) >= 4
    assert np.sqrt(np.mean(np.square(errors))) < 0.12
    assert abs(np.mean(errors)) < 0.08


def test_importance_sampling_reaches_the_smallest_p():
    v = np.abs(np.random.default_rng(3).normal(size=(40, 1))) / 40
    x = v.sum(axis=0)
    t = tilt(v, x)
    got = maximum_p(v, x[0], t, cumulant(t, v), sampling_uniforms(40, 0))
    assert got == pytest.approx(2.0**-40, rel=0.3)


def test_importance_sampling_of_2000_records_matches_all_2_to_16_labellings():
    assert number_of_draws(2000) == 8000
    uniforms = sampling_uniforms(16, 1, records=2000)
    np.testing.assert_array_equal(uniforms[:1000], sampling_uniforms(16, 1))
    signs, errors = all_labellings(16).astype(np.float32), []
    for seed, within_patient in enumerate((0.05, 0.3, 0.6)):
        v = scaled(one_block(16, [2000], seed, effect=0.4, within_patient=within_patient))
        x = v.sum(axis=0).max()
        rounded = flips.exact(v)
        maxima = np.concatenate([(part @ rounded).max(axis=1) for part in np.array_split(signs, 16)])
        able = np.abs(v).sum(axis=0) * (1 + TIE) >= x
        assert able.sum() > 100
        t = tilt(v[:, able], np.full(able.sum(), x))
        got = maximum_p(v[:, able], x, t, cumulant(t, v[:, able]), uniforms[: number_of_draws(able.sum())])
        errors.append(got / (maxima >= x - flips.tolerance(16)).mean() - 1)
    assert np.abs(errors).max() < 0.12


def test_no_record_is_forgotten_when_there_are_more_of_them_than_draws():
    # Each record reaches x by one labelling alone, so the maximum does by as many as there are different records.
    v = np.random.default_rng(0).choice([-0.03, 0.03], (20, 2000))
    x = np.full(2000, 0.6)
    t = tilt(v, x)
    got = maximum_p(v, 0.6, t, cumulant(t, v), sampling_uniforms(20, 1))
    assert got == pytest.approx(len(np.unique(v, axis=1).T) / 2**20, rel=0.02)
