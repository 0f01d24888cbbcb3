"""The statistics of whole tables: every design, exact null, threads, blocks, and rates without a leak."""

import numpy as np
import pytest
from designed_scores import table
from scipy.special import ndtr

from tailrisk.audit import flips, pairs
from tailrisk.audit.score import LINEAR_COLUMNS, RECORD_COLUMNS, score
from tailrisk.audit.survival import AUC_GRID
from tailrisk.errors import UserError

DESIGNS = ("complementary", "balanced", "independent", "unknown")
SIZES = [1, 3, 2, 1, 5, 1, 4]


def scored(design, models, sizes, seed, n_flips=499, threads=1, linear=False, **kwargs):
    data = table(design, models, sizes, np.random.default_rng(seed), **kwargs)
    return data, score(*data, design, n_flips=n_flips, linear=linear, seed=seed, threads=threads)


def d_of(values, inside):
    x, y = values[inside], values[~inside]
    return (x.mean(axis=0) - y.mean(axis=0)) / np.sqrt(x.var(axis=0, ddof=1) + y.var(axis=0, ddof=1))


@pytest.mark.parametrize("design", DESIGNS)
def test_records_and_patients_equal_loops_over_each(design):
    (confidences, member, patient), got = scored(design, 24, SIZES, 0, effect=0.6, linear=True)
    values = confidences.astype(np.float64)
    d = np.array([d_of(values[:, r], member[:, r]) for r in range(patient.size)])
    np.testing.assert_allclose(got.records["d"], d, rtol=1e-10)
    np.testing.assert_allclose(got.records["auc"], ndtr(d), rtol=1e-10)
    np.testing.assert_array_equal(got.records["n_in"], member.sum(axis=0))
    np.testing.assert_array_equal(got.records["n_in"] + got.records["n_out"], 24)
    assert set(got.records) == {*RECORD_COLUMNS, "n_in", "n_out", "p_value"}
    assert set(LINEAR_COLUMNS) < set(got.patients)
    for p, size in enumerate(SIZES):
        mine = np.flatnonzero(patient == p)
        best = mine[d[mine].argmax()]
        z = (values[:, mine] - values[:, mine].mean(axis=0)) / values[:, mine].std(axis=0, ddof=1)
        want = {
            "n_records": size,
            "auc": ndtr(d[best]),
            "d": d[best],
            "d_se": got.records["d_se"][best],
            "auc_mean": ndtr(d[mine]).mean(),
            "auc_empirical": got.records["auc_empirical"][mine].max(),
            "auc_joint": ndtr(d_of(z.sum(axis=1), member[:, mine[0]])),
        }
        for name, value in want.items():
            assert got.patients[name][p] == pytest.approx(value, rel=1e-10), name
        if size == 1:
            assert got.patients["auc_joint_linear"][p] == got.patients["auc"][p]
            assert got.patients["joint_p"][p] == pytest.approx(got.records["p_value"][mine[0]], nan_ok=True)
    for low, high, middle in (("auc_low", "auc_high", "auc"), ("joint_low", "joint_high", "auc_joint")):
        assert (got.patients[low] < got.patients[middle]).all()
        assert (got.patients[middle] < got.patients[high]).all()
    assert got.pairs == 12


def labellings(design, member):
    """Every membership [L, M] of one patient with the observed one `member` [M] that the design could have drawn."""
    models = member.size
    every = ((np.arange(2**models)[:, None] >> np.arange(models)) & 1).astype(bool)
    if design == "complementary":
        return every[(every[:, 0::2] != every[:, 1::2]).all(axis=1)]
    return every[every.sum(axis=1) == models // 2] if design == "balanced" else every


@pytest.mark.parametrize(("design", "models"), [("complementary", 8), ("balanced", 8), ("independent", 9)])
def test_p_values_of_few_models_are_those_of_all_memberships_that_could_have_been(design, models):
    rng = np.random.default_rng(1)
    while True:
        data = table(design, models, SIZES, rng, effect=1.0)
        if np.minimum(data[1].sum(axis=0), (~data[1]).sum(axis=0)).min() >= 2:
            break
    got = score(*data, design, n_flips=999)
    confidences, member, patient = data
    centred = confidences.astype(np.float64) - confidences.mean(axis=0, dtype=np.float64)
    for p in range(len(SIZES)):
        mine = np.flatnonzero(patient == p)
        possible = labellings(design, member[:, mine[0]])
        joint = (centred[:, mine] / centred[:, mine].std(axis=0)).sum(axis=1, keepdims=True)
        for values, want in (
            *((centred[:, [r]], got.records["p_value"][r]) for r in mine),
            (centred[:, mine], got.patients["p_value"][p]),
            (joint, got.patients["joint_p"][p]),
        ):
            if design == "independent":  # the sum, in units that make records comparable
                unit = values / np.sqrt((values**2).sum(axis=0))
                statistic = np.where(possible, 1.0, -1.0) @ unit
                seen = np.where(member[:, mine[0]], 1.0, -1.0) @ unit
            else:
                statistic = np.array([d_of(values, inside) for inside in possible])
                seen = d_of(values, member[:, mine[0]])
            p_of_all = (statistic.max(axis=1) >= seen.max() - 1e-5).mean()
            if design == "independent":  # given that there are two models or more on either side
                sides = possible.sum(axis=1)
                p_of_all = min(1.0, p_of_all / ((sides >= 2) & (sides <= models - 2)).mean())
            assert want == pytest.approx(p_of_all, abs=1e-12)


def test_without_a_known_design_there_are_intervals_but_no_p_values():
    _, got = scored("unknown", 30, SIZES, 2, effect=1.5)
    for name in ("p_value", "joint_p"):
        assert np.isnan(got.patients[name]).all()
    assert np.isnan(got.records["p_value"]).all()
    assert got.largest is None
    assert np.isnan(got.null.curve("patient_max")).all()
    assert np.isfinite(got.patients["auc_low"]).all()


@pytest.mark.parametrize("design", DESIGNS)
def test_threads_and_blocks_and_the_order_of_records_change_nothing(design, monkeypatch):
    sizes = SIZES * 10
    (confidences, member, patient), one = scored(design, 40, sizes, 3, effect=1.0)
    monkeypatch.setattr(pairs.spans, "__defaults__", (17, None))
    two = score(confidences, member, patient, design, n_flips=499, seed=3, threads=3)
    moved = np.random.default_rng(1).permutation(patient.size)
    three = score(confidences[:, moved], member[:, moved], patient[moved], design, n_flips=499, seed=3)
    back = np.argsort(moved)
    # Products of matrices of other widths may round the influence null otherwise in its last bit.
    for name in one.records:
        np.testing.assert_allclose(two.records[name], one.records[name], rtol=1e-12, atol=1e-14, err_msg=name)
        np.testing.assert_allclose(three.records[name][back], one.records[name], rtol=1e-12, atol=1e-14, err_msg=name)
    for name in one.patients:
        np.testing.assert_allclose(two.patients[name], one.patients[name], rtol=1e-6, err_msg=name)
        np.testing.assert_allclose(three.patients[name], one.patients[name], rtol=1e-6, err_msg=name)
    for level in ("record", "patient_max", "patient_mean", "patient_joint"):
        np.testing.assert_array_equal(two.null.curve(level), one.null.curve(level))
    np.testing.assert_array_equal(two.largest, one.largest)
    threads = score(confidences, member, patient, design, n_flips=499, seed=3, threads=1)
    for name in two.patients:  # the same blocks on one thread or three: the same bits
        np.testing.assert_array_equal(threads.patients[name], two.patients[name])


@pytest.mark.parametrize("design", DESIGNS[:3])
def test_patients_without_a_trace_are_rejected_at_the_nominal_rate(design):
    # Scores that models share would, under labellings alike for all patients, change their maxima together.
    _, got = scored(design, 40, [1, 4] * 700, 4, n_flips=999, shared=0.5)
    for p in (got.records["p_value"], got.patients["p_value"], got.patients["joint_p"]):
        for level in (0.05, 0.01):
            # Common flips add to the binomial spread: about √(level/1000) of relative error in the cut-off itself.
            spread = np.sqrt(level * (1 - level) / 1400 + level / 1000)
            assert (p <= level).mean() == pytest.approx(level, abs=3.5 * spread)
    curve = got.null.curve("patient_joint")
    seen = (got.patients["auc_joint"][:, None] >= AUC_GRID).mean(axis=0)
    assert np.abs(curve - seen).max() < 0.06


@pytest.mark.parametrize("design", DESIGNS[:3])
def test_the_familywise_threshold_holds_when_models_share_scores(design):
    exceeded = []
    for seed in range(40):
        _, got = scored(design, 20, [1] * 60, 100 + seed, n_flips=199, shared=0.7)
        exceeded.append(got.patients["auc"].max() > flips.familywise_auc(got.largest, got.pairs))
    assert 0 < np.mean(exceeded) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 40)


@pytest.mark.parametrize("design", DESIGNS[:3])
def test_exposed_patients_have_tiny_p_values_together_and_apart(design):
    effect = np.repeat([1.8] * 6 + [0.0] * 54, 5)
    _, got = scored(design, 80, [5] * 60, 5, effect=effect)
    for name in ("p_value", "joint_p"):
        assert got.patients[name][:6].max() < 1e-5
        assert got.patients[name][6:].min() > 1e-4
    assert got.patients["auc_joint"][:6].min() > 0.85


@pytest.mark.parametrize("design", DESIGNS[1:])
def test_a_confidence_that_is_not_finite_is_located_without_pairs(design):
    confidences, member, patient = table(design, 40, SIZES, np.random.default_rng(6))
    confidences[7, 4] = np.nan
    with pytest.raises(UserError, match="target model 7 for record number 4"):
        score(confidences, member, patient, design)


def test_odd_numbers_of_models_have_no_pairs_but_statistics():
    _, got = scored("independent", 41, [2] * 30, 7)
    assert got.pairs == 20.5
    assert np.isfinite(got.patients["p_value"]).all()
    assert np.isfinite(got.null.curve("patient_max")).all()
