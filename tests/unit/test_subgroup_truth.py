"""Subgroup tests on simulated patients with a known truth: level, and power where there is an effect.

Rejections at 5 % in R studies may exceed 5 % by three standard errors, 3·√(0.05·0.95/R).
"""

import numpy as np
import pandas as pd
import pytest

from tailrisk.audit.subgroups import SubgroupOptions, subgroup_tests

RNG = np.random.default_rng
STUDIES = 50
LEVEL = 0.05 + 3 * np.sqrt(0.05 * 0.95 / STUDIES)
OPTIONS = SubgroupOptions(tail=0.05, permutations=99)


def p_values(d, patient, groups, options, rng):
    """variable, unit, within → (plain p, permutation p)."""
    result = subgroup_tests(
        d, np.arange(d.size, dtype=np.uint64), patient, pd.DataFrame(groups), options, int(rng.integers(2**31))
    )
    columns = result.table[["variable", "unit", "within", "p_value", "p_clustered"]]
    return {tuple(row[:3]): tuple(row[3:]) for row in columns.itertuples(index=False)}


def rejected(simulate, options, seed):
    """Share of studies with p ≤ 0.05 by the plain test and by permutation, for every variable, unit and stratum."""
    rng = RNG(seed)
    studies = [p_values(*simulate(rng), options, rng) for _ in range(STUDIES)]
    return {key: np.mean([np.array(study[key]) <= 0.05 for study in studies], axis=0) for key in studies[0]}


def patients(rng, sizes, spread=0.5):
    """Patients with similar records: patient of each record, and its AUC order."""
    patient = np.repeat(np.arange(sizes.size), sizes)
    return patient, rng.normal(size=sizes.size)[patient] + spread * rng.normal(size=patient.size)


def similar(rng):
    """20 similar records a patient."""
    patient, d = patients(rng, np.full(150, 20), 0.2)
    return d, patient, {"g": rng.integers(0, 2, 150)[patient]}


def more_of_one_group(rng):
    """The group with more records is not easier to recognise but for their number: those who are ill have many."""
    group = rng.integers(0, 2, 300)
    sizes = np.where(group == 1, rng.integers(4, 9, 300), rng.integers(1, 6, 300))
    patient, d = patients(rng, sizes)
    return d + 0.1 * sizes[patient], patient, {"g": group[patient]}


def overlapping(rng):
    """Label sets of a patient that repeat from record to record, with a label more now and then."""
    patient, d = patients(rng, rng.integers(1, 9, 300))
    own = rng.random((300, 3)) < 0.3
    sets = np.empty(patient.size, dtype=object)
    sets[:] = [["abc"[i] for i in np.flatnonzero(one)] for one in own[patient] | (rng.random((patient.size, 3)) < 0.05)]
    return d, patient, {"g": sets}


@pytest.mark.parametrize("simulate", [similar, more_of_one_group, overlapping])
def test_permutation_of_patients_holds_its_level_where_the_plain_test_fails(simulate):
    found = rejected(simulate, OPTIONS, 4)
    plain, permuted = found["g", "record", ""]
    assert permuted <= LEVEL
    if simulate is overlapping:
        assert plain == 0  # not computed: a record counts in several groups
    else:
        assert plain > 2 * LEVEL
        assert found["g", "patient", ""][1] <= LEVEL


def by_rarity(own):
    """Race, rarity of the diagnosis of a record, which one race has more often and which is what is recognised, and
    an effect `own` of race itself."""

    def simulate(rng):
        race = rng.integers(0, 2, 500)
        patient, d = patients(rng, rng.integers(1, 4, 500))
        rare = rng.random(patient.size) < np.where(race == 1, 0.5, 0.1)[patient]
        return d + 1.5 * rare + own * race[patient], patient, {"race": race[patient], "rarity": rare}

    return simulate


def test_an_effect_of_another_variable_vanishes_within_its_strata_and_an_own_one_stays():
    options = SubgroupOptions(tail=0.05, permutations=99, within=["rarity"])
    borrowed = rejected(by_rarity(0.0), options, 5)
    for unit in ("record", "patient"):
        assert borrowed["race", unit, ""][1] > 0.7
        assert borrowed["race", unit, "rarity"][1] <= LEVEL
    own = rejected(by_rarity(2.0), options, 6)
    for unit in ("record", "patient"):
        assert min(own["race", unit, ""][1], own["race", unit, "rarity"][1]) > 0.8


def views(effect):
    """Two views a patient, always in the same order; the first is recognised more easily by `effect`."""

    def simulate(rng):
        patient, d = patients(rng, np.full(200, 2))
        view = np.tile([0, 1], 200)
        return d + effect * (view == 0), patient, {"view": view}

    return simulate


def test_a_variable_in_the_same_order_within_every_patient_is_seen():
    assert rejected(views(0.0), OPTIONS, 7)["view", "record", ""][1] <= LEVEL
    assert rejected(views(1.0), OPTIONS, 8)["view", "record", ""][1] > 0.9


def test_the_range_of_a_residual_holds_for_every_group_small_cells_included():
    rng, outside = RNG(9), 0
    for _ in range(STUDIES):
        patient, d = patients(rng, rng.integers(1, 9, 300))
        group = rng.choice(["a", "b", "c"], 300, p=[0.7, 0.27, 0.03])[patient]
        table = subgroup_tests(
            d,
            np.arange(d.size, dtype=np.uint64),
            patient,
            pd.DataFrame({"g": group}),
            OPTIONS,
            int(rng.integers(2**31)),
        ).table.query("unit == 'record'")
        missed = (table["residual"] < table["residual_low"]) | (table["residual"] > table["residual_high"])
        outside += missed.to_numpy().astype(int)
    assert (outside / STUDIES <= LEVEL).all()
