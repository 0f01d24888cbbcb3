"""Subgroup tests: the published numbers, and validity when patients have several records."""

from itertools import permutations, product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import ndtr

from tailrisk.audit.subgroups import clustered_test, holm, subgroup_tests, tail_records, tie_breakers

RNG = np.random.default_rng


def by_number(size):
    """Tie breakers in the order of the positions."""
    return np.arange(size, dtype=np.uint64)


def test_tail_takes_the_highest_records_and_orders_where_the_auc_has_reached_one():
    d = np.array([0.5, 0.9, 0.7, 0.9, 0.9, -np.inf])
    np.testing.assert_array_equal(tail_records(d, by_number(6), 0.5), [1, 3, 4])
    np.testing.assert_array_equal(tail_records(d, by_number(6)[::-1], 1 / 3), [4, 3])
    assert tail_records(d, by_number(6), 0.01).tolist() == [1]
    assert tail_records(np.zeros(700), by_number(700), 0.01).size == 7
    far = np.array([11.0, 9.0, 12.0, np.inf])
    assert (ndtr(far) == 1).all()
    np.testing.assert_array_equal(tail_records(far, by_number(4), 0.75), [3, 2, 0])


def test_ties_are_broken_by_record_and_seed_whatever_the_order_of_the_table():
    record = np.array([f"r{i}" for i in range(500)])
    ties, order = tie_breakers(record, 3), RNG(8).permutation(500)
    assert len(set(ties.tolist())) == 500
    np.testing.assert_array_equal(tie_breakers(record[order], 3), ties[order])
    tail = set(record[tail_records(np.zeros(500), ties, 0.1)])
    assert tail == set(record[order][tail_records(np.zeros(500), tie_breakers(record[order], 3), 0.1)])
    assert len(tail & set(record[tail_records(np.zeros(500), tie_breakers(record, 4), 0.1)])) < 20
    # No place in the table is preferred: the 50 drawn of positions 0 … 499 lie around their middle.
    assert np.mean([int(name[1:]) for name in tail]) == pytest.approx(249.5, abs=3.5 * 144 / np.sqrt(50))


def test_published_columns_follow_their_definitions():
    rng = RNG(0)
    auc = rng.random(1000)
    labels = np.where(rng.random(1000) < 0.3 + 0.4 * (auc > 0.9), "b", "a").astype(object)
    labels[rng.random(1000) < 0.1] = None
    table, skipped, alone = subgroup_tests(
        auc, by_number(1000), np.arange(1000), pd.DataFrame({"g": labels}), 0.05, 199, 1
    )
    assert skipped == []
    known = np.flatnonzero(pd.notna(labels))
    tail = known[np.argsort(-auc[known])[: int(0.05 * known.size)]]
    want = stats.chisquare(
        [(labels[tail] == g).sum() for g in "ab"], [(labels[known] == g).mean() * tail.size for g in "ab"]
    )
    for i, g in enumerate("ab"):
        row = table.iloc[i]
        n, o = (labels[known] == g).sum(), (labels[tail] == g).sum()
        e = n / known.size * tail.size
        assert (row["variable"], row["group"], row["n"], row["tail_n"], row["dof"]) == ("g", g, n, o, 1)
        assert row["share"] == pytest.approx(n / known.size)
        assert row["tail_expected"] == pytest.approx(e)
        assert row["tail_share"] == pytest.approx(o / tail.size)
        assert row["relative_change"] == pytest.approx(o / e - 1)
        assert row["residual"] == pytest.approx((o - e) / np.sqrt(e))
        assert row["statistic"] == pytest.approx(want.statistic)
        assert row["p_value"] == pytest.approx(want.pvalue)
        # One stratum: with a record a patient the two expectations are the same.
        assert row["tail_expected_clustered"] == pytest.approx(e)
    assert table["p_clustered"].iloc[0] < 0.05
    assert alone == {"g": 0}


def test_a_variable_with_one_known_group_is_skipped_with_its_reason():
    groups = pd.DataFrame({"one": ["x"] * 50 + [None] * 50, "none": [None] * 100, "two": ["u", "v"] * 50})
    table, skipped, alone = subgroup_tests(RNG(1).random(100), by_number(100), np.arange(100), groups, 0.1, 99, 0)
    assert set(table["variable"]) == {"two"}
    assert skipped == [
        {"variable": "one", "reason": "only one known group"},
        {"variable": "none", "reason": "no known values"},
    ]
    assert alone == {"two": 0}
    table, *_ = subgroup_tests(RNG(1).random(100), by_number(100), np.arange(100), groups[["one"]], 0.1, 99, 0)
    assert table.empty
    assert "p_adjusted" in table.columns


def test_holm_adjusts_the_clustered_p_over_variables():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    rng = RNG(2)
    auc = rng.random(500)
    groups = pd.DataFrame({"a": np.where(auc > 0.5, "x", "y"), "b": rng.choice(["x", "y"], 500)})
    table, *_ = subgroup_tests(auc, by_number(500), np.arange(500), groups, 0.05, 999, 0)
    p = table.groupby("variable")[["p_clustered", "p_adjusted"]].first()
    assert p.loc["a", "p_adjusted"] == pytest.approx(2 * p.loc["a", "p_clustered"])
    # The variable's number does not depend on what else is tested, nor does the seed leave it to chance.
    single, *_ = subgroup_tests(auc, by_number(500), np.arange(500), groups[["a"]], 0.05, 999, 0)
    assert single["p_clustered"].iloc[0] == p.loc["a", "p_clustered"]


def exact_p(labels, patient, chosen):
    """All permutations of label vectors among patients of equal size (one or two records), and of the labels within
    each vector, by brute force."""
    strata = {}
    for p in np.unique(patient):
        strata.setdefault((patient == p).sum(), []).append(np.flatnonzero(patient == p))
    in_tail = np.isin(np.arange(labels.size), chosen)
    expected = np.zeros(2)
    possible = [np.zeros((1, 2))]
    observed = np.bincount(labels[chosen], minlength=2)
    for rows in map(np.array, strata.values()):
        share = np.bincount(labels[rows].ravel(), minlength=2) / rows.size
        expected += in_tail[rows].sum() * share
        counts = [
            np.bincount(
                np.where(np.array(swapped)[:, None], moved[:, ::-1], moved)[in_tail[rows]],
                minlength=2,
            )
            for moved in (labels[rows[list(order)]] for order in permutations(range(len(rows))))
            for swapped in product([False, True], repeat=len(rows) if rows.shape[1] > 1 else 1)
        ]
        possible.append(np.array(counts))
    totals = possible[0]
    for counts in possible[1:]:
        totals = (totals[:, None, :] + counts[None, :, :]).reshape(-1, 2)
    statistic = ((totals - expected) ** 2 / expected).sum(axis=1)
    return (statistic >= ((observed - expected) ** 2 / expected).sum() - 1e-9).mean()


def test_clustered_p_agrees_with_all_permutations():
    sizes = [1] * 6 + [2] * 5
    patient = np.repeat(np.arange(11), sizes)
    labels = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 1, 0, 1, 1, 1, 0, 0])
    chosen = np.array([1, 4, 8, 9, 11])
    got = clustered_test(labels, patient, chosen, 20000, RNG(3)).p_value
    assert got == pytest.approx(exact_p(labels, patient, chosen), abs=0.012)  # 3.5 standard errors


def simulated(rng, sizes_by_group):
    """Records of 300 patients whose AUC varies between patients; the group is the patient's and has no effect."""
    group = rng.integers(0, 2, 300)
    sizes = np.where(group == 1, *(rng.integers(low, high, 300) for low, high in sizes_by_group))
    patient = np.repeat(np.arange(300), sizes)
    auc = rng.normal(size=300)[patient] + 0.5 * rng.normal(size=patient.size)
    # Patients with many records are followed for being ill, and are also easier to recognise.
    auc += 0.1 * sizes[patient]
    return auc, patient, group[patient]


@pytest.mark.parametrize("sizes_by_group", [((1, 9), (1, 9)), ((4, 9), (1, 6))])
def test_permutation_of_patients_holds_its_level_where_the_plain_test_fails(sizes_by_group):
    rng = RNG(4)
    plain, clustered = [], []
    for _ in range(150):
        auc, patient, labels = simulated(rng, sizes_by_group)
        chosen = tail_records(auc, by_number(auc.size), 0.05)
        observed = np.bincount(labels[chosen], minlength=2)
        expected = np.bincount(labels, minlength=2) / labels.size * chosen.size
        plain.append(stats.chisquare(observed, expected).pvalue)
        clustered.append(clustered_test(labels, patient, chosen, 99, rng).p_value)
    assert np.mean(np.array(plain) <= 0.05) > 0.15
    assert np.mean(np.array(clustered) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)


def test_a_real_over_representation_is_found():
    rng = RNG(5)
    patient = np.repeat(np.arange(400), rng.integers(1, 5, 400))
    labels = (rng.random(400) < 0.3).astype(int)[patient]
    auc = rng.normal(size=patient.size) + labels
    chosen = tail_records(auc, by_number(auc.size), 0.05)
    assert clustered_test(labels, patient, chosen, 999, rng).p_value < 0.01


def test_expectation_is_the_one_among_patients_with_equally_many_records():
    sizes = np.array([1] * 8 + [2] * 4 + [3] + [5])
    patient = np.repeat(np.arange(sizes.size), sizes)
    labels = np.array([1] + [0] * 7 + [1, 1, 1, 1, 0, 0, 0, 0] + [1, 0, 0] + [0] * 5)
    chosen = np.array([8, 9, 10, 1, 17])  # three records of pairs, one single, one of the patient with three
    got = clustered_test(labels, patient, chosen, 99, RNG(0))
    ones = 1 * (1 / 8) + 3 * (4 / 8) + 1 * (1 / 3)
    np.testing.assert_allclose(got.expected, [5 - ones, ones])
    assert abs(5 * labels.mean() - ones) > 0.4  # not what the share of all records gives
    assert got.alone == 2
    groups = pd.DataFrame({"g": labels.astype(str)})
    d = np.isin(np.arange(labels.size), chosen).astype(float)
    table, _, alone = subgroup_tests(d, by_number(labels.size), patient, groups, 5 / labels.size, 99, 0)
    np.testing.assert_allclose(table["tail_expected_clustered"], got.expected)
    assert alone == {"g": 2}


def test_a_variable_in_the_same_order_within_every_patient_is_seen():
    patient = np.repeat(np.arange(200), 2)
    view = np.tile([0, 1], 200)  # frontal first, lateral second
    rng = RNG(6)
    assert clustered_test(view, patient, rng.choice(200, 20, replace=False) * 2, 999, rng).p_value < 0.01
    p = [clustered_test(view, patient, rng.choice(400, 20, replace=False), 99, rng).p_value for _ in range(200)]
    assert np.mean(np.array(p) <= 0.05) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
