"""Stated designs of membership against the masks."""

import numpy as np
import pytest
from designed_scores import coins, table
from hypothesis import given
from hypothesis import strategies as st

from tailrisk.audit.design import DESIGNS, check
from tailrisk.errors import UserError


def checked(design, member, patient=None):
    patient = np.arange(member.shape[1]) if patient is None else patient
    check(design, np.zeros(member.shape, np.float32), member, patient)


@pytest.mark.parametrize("models", [40, 200])
@pytest.mark.parametrize("design", DESIGNS)
def test_masks_drawn_as_stated_pass(design, models):
    for seed in range(20):
        checked(design, coins(design, models, 200, np.random.default_rng(seed))[:, :150])


@pytest.mark.parametrize("stated", ["balanced", "independent"])
def test_complementary_pairs_must_be_stated_as_such(stated):
    member = coins("complementary", 12, 100, np.random.default_rng(0))
    with pytest.raises(UserError, match=f"state `complementary`, not `{stated}`"):
        checked(stated, member)
    with pytest.raises(UserError, match=r"model 0 is that of model 6\): order the models"):
        checked(stated, np.concatenate([member[0::2], member[1::2]]))


def test_exactly_balanced_masks_must_be_stated_as_such():
    with pytest.raises(UserError, match="IN exactly 10 of 20 models: state `balanced`"):
        checked("independent", coins("balanced", 20, 50, np.random.default_rng(0)))


@pytest.mark.parametrize("drawn", ["complementary", "balanced", "independent"])
def test_whoever_claims_nothing_is_not_contradicted(drawn):
    checked("unknown", coins(drawn, 12, 50, np.random.default_rng(0)))


def test_a_few_patients_balanced_by_chance_are_no_contradiction():
    checked("independent", np.array([[1, 0, 1], [1, 1, 0], [0, 0, 1], [0, 1, 0]], dtype=bool))


def test_pairs_that_are_not_complementary_are_named():
    member = coins("complementary", 8, 30, np.random.default_rng(1))
    member[5, 7] = member[4, 7]
    with pytest.raises(UserError, match=r"pair 2 \(target models 4 and 5\).* 1 of 30"):
        checked("complementary", member)
    with pytest.raises(UserError, match="cannot form pairs"):
        checked("complementary", member[:7])


def test_a_patient_not_in_half_of_the_models_is_named():
    member = coins("balanced", 10, 30, np.random.default_rng(2))
    member[np.flatnonzero(~member[:, 4])[0], 4] = True
    with pytest.raises(UserError, match=r"record number 4 is IN 6 of 10 models, and so are 1 of 30 patients"):
        checked("balanced", member)
    with pytest.raises(UserError, match="even number"):
        checked("balanced", member[:9])


def test_membership_that_differs_within_a_patient_is_named():
    patient = np.array([3, 0, 1, 3, 2])
    member = coins("independent", 40, 4, np.random.default_rng(3))[:, patient]
    member[:, 3] = member[:, 0]
    checked("independent", member, patient)
    member[17, 3] = ~member[17, 3]
    for design in ("independent", "unknown"):
        with pytest.raises(UserError, match="target model 17, record number 3 and record number 0 belong to the same"):
            checked(design, member, patient)


@pytest.mark.parametrize("design", ["independent", "unknown"])
def test_a_record_without_two_models_of_each_kind_is_named(design):
    member = coins("independent", 40, 60, np.random.default_rng(4))
    member[:, 9] = np.arange(40) == 3
    with pytest.raises(UserError, match="record number 9 is IN 1 and OUT of 39 of 40 models"):
        checked(design, member)


def test_coins_that_are_not_fair_are_refused_as_independent_and_pass_as_unknown():
    rng = np.random.default_rng(5)
    biased = rng.random((50, 300)) < 0.45
    per_patient = rng.random((50, 300)) < np.where(np.arange(300) % 2, 0.35, 0.65)
    per_model = rng.random((50, 300)) < np.where(np.arange(50) % 2, 0.3, 0.7)[:, None]
    for member, message in (
        (biased, "of all memberships are IN"),
        (per_patient, "number of models that a patient is IN varies"),
        (per_model, "number of patients in a model varies"),
    ):
        checked("unknown", member)
        with pytest.raises(UserError, match=message):
            checked("independent", member)


def test_models_with_exactly_half_of_the_patients_pass_as_independent():
    rng = np.random.default_rng(6)
    checked("independent", rng.permuted(np.tile(np.arange(200) < 100, (60, 1)), axis=1))


@given(st.sampled_from(DESIGNS), st.integers(2, 20), st.integers(1, 40), st.integers(0, 2**32))
def test_what_a_design_draws_is_never_refused_as_contradictory(design, half, patients, seed):
    member = coins(design, 2 * half, patients, np.random.default_rng(seed))
    side = np.minimum(member.sum(axis=0), (~member).sum(axis=0))
    if side.min() >= 2:
        checked(design, member)


@pytest.mark.parametrize("design", DESIGNS)
def test_tables_too_small_or_of_other_shapes_are_refused(design):
    member = coins("complementary", 4, 3, np.random.default_rng(7))
    with pytest.raises(UserError, match="one membership per confidence"):
        check(design, np.zeros((4, 4), np.float32), member, np.arange(4))
    with pytest.raises(UserError, match="one patient per record"):
        check(design, np.zeros((4, 3), np.float32), member, np.arange(4))
    with pytest.raises(UserError, match="no records"):
        checked(design, member[:, :0])
    with pytest.raises(UserError, match="too few"):
        checked(design, member[:2])


def test_a_simulated_table_has_constant_membership_within_patients():
    for design in DESIGNS:
        confidences, member, patient = table(design, 40, [2, 3, 1] * 30, np.random.default_rng(8))
        check(design, confidences, member, patient)


def paired(coin: np.ndarray) -> np.ndarray:
    """Complementary pairs of which the first models have these members."""
    return np.stack([coin, ~coin], axis=1).reshape(2 * len(coin), -1)


def test_halves_that_serve_twice_are_refused():
    fair = np.random.default_rng(7).random((10, 200)) < 0.5
    checked("complementary", paired(fair))
    for again in (np.repeat(fair[:1], 10, axis=0), np.ones((10, 200), dtype=bool), np.repeat(fair[:5], 2, axis=0)):
        with pytest.raises(UserError, match=r"pairs \d+ and \d+ have the same members"):
            checked("complementary", paired(again))
    with pytest.raises(UserError, match="pairs 3 and 7 have the same members, or opposite ones"):
        checked("complementary", paired(np.concatenate([fair[:7], ~fair[3:4]])))
    with pytest.raises(UserError, match=r"models \d+ and \d+ have the same members"):
        checked("balanced", np.repeat(coins("balanced", 10, 200, np.random.default_rng(8)), 2, axis=0))


def test_patients_who_are_drawn_together_are_refused():
    rng = np.random.default_rng(9)
    hospital = rng.integers(0, 25, 200)
    for design, masks in (
        ("complementary", paired(rng.random((20, 25)) < 0.5)),
        ("balanced", coins("balanced", 40, 25, rng)),
        ("independent", rng.random((40, 25)) < 0.5),
    ):
        checked(design, masks)
        with pytest.raises(UserError, match="membership was not drawn for every patient alone"):
            checked(design, masks[:, hospital])
        checked("unknown", masks[:, hospital])


@pytest.mark.parametrize("n", [2, 4, 10, 40])
@pytest.mark.parametrize("patients", [20, 300, 5000])
def test_fair_coins_are_never_refused(n, patients):
    for seed in range(5):
        checked("complementary", paired(np.random.default_rng(seed).random((n, patients)) < 0.5))


def test_independent_coins_of_few_models_pass_without_those_who_cannot_be_audited():
    for models in (4, 6, 8, 12):
        member = np.random.default_rng(models).random((models, 20_000)) < 0.5
        count = member.sum(axis=0)
        checked("independent", member[:, (count >= 2) & (count <= models - 2)])
