"""Subgroup tests: the published numbers, units, unknown values, overlapping labels, strata and Holm's families."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.special import ndtr

from tailrisk.audit.composition import composition
from tailrisk.audit.subgroups import (
    COLUMNS,
    SubgroupOptions,
    holm,
    subgroup_tests,
    tail_units,
    tie_breakers,
)
from tailrisk.errors import UserError

RNG = np.random.default_rng


def by_number(size):
    """Tie breakers in the order of the positions."""
    return np.arange(size, dtype=np.uint64)


def run(d, patient, groups, seed=0, **options):
    return subgroup_tests(
        d, by_number(len(d)), np.asarray(patient), pd.DataFrame(groups), SubgroupOptions(**options), seed
    )


def rows(result, variable, unit="record", within=""):
    table = result.table
    return table[(table["variable"] == variable) & (table["unit"] == unit) & (table["within"] == within)]


def test_tail_takes_the_highest_units_and_orders_where_the_auc_has_reached_one():
    d = np.array([0.5, 0.9, 0.7, 0.9, 0.9, -np.inf])
    np.testing.assert_array_equal(tail_units(d, by_number(6), 0.5), [1, 3, 4])
    np.testing.assert_array_equal(tail_units(d, by_number(6)[::-1], 1 / 3), [4, 3])
    assert tail_units(d, by_number(6), 0.01).tolist() == [1]
    assert tail_units(np.zeros(700), by_number(700), 0.01).size == 7
    far = np.array([11.0, 9.0, 12.0, np.inf])
    assert (ndtr(far) == 1).all()
    np.testing.assert_array_equal(tail_units(far, by_number(4), 0.75), [3, 2, 0])


def test_ties_are_broken_by_record_and_seed_whatever_the_order_of_the_table():
    record = np.array([f"r{i}" for i in range(500)])
    ties, order = tie_breakers(record, 3), RNG(8).permutation(500)
    assert len(set(ties.tolist())) == 500
    np.testing.assert_array_equal(tie_breakers(record[order], 3), ties[order])
    tail = set(record[tail_units(np.zeros(500), ties, 0.1)])
    assert tail == set(record[order][tail_units(np.zeros(500), tie_breakers(record[order], 3), 0.1)])
    assert len(tail & set(record[tail_units(np.zeros(500), tie_breakers(record, 4), 0.1)])) < 20
    # No place in the table is preferred: the 50 drawn of positions 0 … 499 lie around their middle.
    assert np.mean([int(name[1:]) for name in tail]) == pytest.approx(249.5, abs=3.5 * 144 / np.sqrt(50))


def test_published_columns_follow_their_definitions():
    rng = RNG(0)
    auc = rng.random(1000)
    labels = np.where(rng.random(1000) < 0.3 + 0.4 * (auc > 0.9), "b", "a").astype(object)
    labels[rng.random(1000) < 0.1] = None
    result = run(auc, np.arange(1000), {"g": labels}, tail=0.05, permutations=199)
    assert list(result.table.columns) == COLUMNS
    assert result.skipped == []
    known = np.flatnonzero(pd.notna(labels))
    tail = known[np.argsort(-auc[known])[: int(0.05 * known.size)]]
    want = stats.chisquare(
        [(labels[tail] == g).sum() for g in "ab"], [(labels[known] == g).mean() * tail.size for g in "ab"]
    )
    for i, g in enumerate("ab"):
        row = rows(result, "g").iloc[i]
        n, o = (labels[known] == g).sum(), (labels[tail] == g).sum()
        e = n / known.size * tail.size
        assert (row["variable"], row["group"], row["n"], row["tail_n"], row["dof"]) == ("g", g, n, o, 1)
        assert not row["overlapping"]
        assert row["share"] == pytest.approx(n / known.size, rel=1e-12)
        assert row["tail_expected"] == pytest.approx(e, rel=1e-12)
        assert row["tail_share"] == pytest.approx(o / tail.size, rel=1e-12)
        assert row["relative_change"] == pytest.approx(o / e - 1, rel=1e-12)
        assert row["residual"] == pytest.approx((o - e) / np.sqrt(e), rel=1e-12)
        assert row["statistic"] == pytest.approx(want.statistic, rel=1e-12)
        assert row["p_value"] == pytest.approx(want.pvalue, rel=1e-10)
        # One stratum: with a record a patient the two expectations are the same.
        assert row["tail_expected_clustered"] == pytest.approx(e, rel=1e-12)
        assert row["residual_low"] < 0 < row["residual_high"] < abs(row["residual"])
    assert rows(result, "g")["p_clustered"].iloc[0] < 0.05
    assert result.alone == {"g": 0}
    # With a record a patient, patients are records.
    assert result.movable == [
        {"variable": "g", "unit": unit, "within": "", "share": 1.0} for unit in ("record", "patient")
    ]
    published = COLUMNS[: COLUMNS.index("p_clustered")]
    pd.testing.assert_frame_equal(
        rows(result, "g")[published].reset_index(drop=True),
        rows(result, "g", "patient")[published].reset_index(drop=True),
    )


def test_published_arithmetic_of_the_emergency_department():
    """Tail of 2,945 stays: Black 26.1 → 33.4 % is +28 %, χ² 92.0, p 6e-20 over six variables, to shares' rounding."""
    tail, size = 2945, 294500
    whole, chosen = np.array([5.1, 26.1, 68.8]) / 100, np.array([3.3, 33.4, 63.2]) / 100
    names = np.array(["Asian", "Black", "White"], dtype=object)
    table = composition(names, np.round(whole * size), np.round(chosen * tail), size, tail, False)
    np.testing.assert_allclose(100 * table["relative_change"], [-35, 28, -8], atol=0.5)
    # A share that is rounded to 0.1 % lets χ² = tail · Σ Δ²/share move by up to about 2 · tail · Σ |Δ| 0.001/share.
    slack = 2 * tail * (np.abs(chosen - whole) * 0.001 / whole).sum()
    assert slack < 5
    assert table["statistic"] == pytest.approx(92.0, abs=slack)
    assert 6 * table["p_value"] == pytest.approx(6e-20, rel=0.2)


def test_published_arithmetic_of_a_small_cell():
    """BI-RADS 4: 11 of the 3,512 records of the tail, 0.86 expected, is +1,179 %."""
    n, tail_n = np.array([351200 - 86, 86]), np.array([3501, 11])
    columns = composition(np.array(["other", "4"], dtype=object), n, tail_n, 351200, 3512, False)
    row = pd.DataFrame(columns).iloc[1]
    assert row["tail_expected"] == pytest.approx(0.86, rel=1e-12)
    assert round(100 * row["relative_change"]) == 1179
    assert row["residual"] == pytest.approx((11 - 0.86) / np.sqrt(0.86), rel=1e-12)


def test_patients_are_ranked_by_their_maximum_and_keep_their_known_value():
    rng = RNG(1)
    sizes = rng.integers(1, 6, 400)
    patient = np.repeat(np.arange(400), sizes)
    d = rng.normal(size=patient.size)
    group = rng.choice(["a", "b"], 400).astype(object)
    group[:20] = None
    records = group[patient]
    records[np.flatnonzero(patient == 30)[1:]] = None  # known from one record only
    order = rng.permutation(patient.size)
    result = run(d[order], patient[order], {"g": records[order]}, tail=0.1, permutations=99)
    maximum = np.array([d[patient == p].max() for p in range(20, 400)])
    tail = 20 + np.argsort(-maximum)[:38]
    table = rows(result, "g", "patient")
    for row in table.itertuples():
        assert row.n == (group[20:] == row.group).sum()
        assert row.tail_n == (group[tail] == row.group).sum()
    # The expectation among patients with equally many records.
    want = sum((sizes[tail] == s).sum() * (group[20:][sizes[20:] == s] == "a").mean() for s in np.unique(sizes[20:]))
    assert table["tail_expected_clustered"].iloc[0] == pytest.approx(want, rel=1e-12)


def test_ties_between_patients_do_not_favour_those_with_many_records():
    sizes = np.repeat([1, 9], 1000)
    patient = np.repeat(np.arange(2000), sizes)
    groups = pd.DataFrame({"g": np.where(sizes == 9, "many", "one")[patient]})
    ties = tie_breakers(patient.astype(str) + np.arange(patient.size).astype(str), 1)
    result = subgroup_tests(
        np.full(patient.size, np.inf), ties, patient, groups, SubgroupOptions(tail=0.2, permutations=9), 0
    )
    many = rows(result, "g", "patient").iloc[0]
    assert many["tail_n"] == pytest.approx(200, abs=3.5 * np.sqrt(400 * 0.25 * 0.8))


def test_a_variable_that_differs_within_a_patient_is_tested_for_records_only():
    patient = np.repeat(np.arange(60), 2)
    groups = {"view": ["frontal", "lateral"] * 60, "sex": np.repeat(["f", "m"], 60)}
    result = run(RNG(3).random(120), patient, groups, tail=0.1, permutations=99)
    assert set(zip(result.table["variable"], result.table["unit"], strict=True)) == {
        ("view", "record"), ("sex", "record"), ("sex", "patient")
    }  # fmt: skip
    reason = "differs between records of one patient, for 100% of them"
    assert result.skipped == [{"variable": "view", "unit": "patient", "within": "", "reason": reason}]


def test_a_few_patients_whose_records_contradict_each_other_are_left_out_of_the_patients():
    patient = np.repeat(np.arange(60), 2)
    sex = np.array(np.repeat(["f", "m"], 60), dtype=object)
    sex[[0, 118]] = "m", None  # patient 0 is f and m, patient 59 m and unknown
    result = run(np.arange(120.0), patient, {"sex": sex}, tail=0.1, permutations=99)
    table = rows(result, "sex", "patient")
    assert dict(zip(table["group"], table["n"], strict=True)) == {"f": 29, "m": 30}
    assert rows(result, "sex", "record")["n"].sum() == 119
    sex[:8] = ["f", "m"] * 4
    skipped = run(np.arange(120.0), patient, {"sex": sex}, tail=0.1, permutations=99).skipped
    assert [one["reason"] for one in skipped] == ["differs between records of one patient, for 7% of them"]


def test_a_variable_with_one_known_group_is_skipped_with_its_reason():
    groups = {"one": ["x"] * 50 + [None] * 50, "none": [None] * 100, "two": ["u", "v"] * 50, "set": [["s"]] * 100}
    result = run(RNG(1).random(100), np.arange(100), groups, tail=0.1, permutations=99)
    assert set(result.table["variable"]) == {"two"}
    assert [(skip["variable"], skip["unit"], skip["reason"]) for skip in result.skipped] == [
        ("one", "", "only one known group"),
        ("none", "", "no known values"),
        ("set", "", "only one known group"),
    ]
    assert result.alone == {"two": 0}
    empty = run(RNG(1).random(100), np.arange(100), {"one": groups["one"]}, permutations=99)
    assert empty.table.empty
    assert list(empty.table.columns) == COLUMNS


def test_unknown_values_are_dropped_or_a_group_of_their_own():
    d = np.arange(200.0)
    labels = np.array(["a", "b", None, "a"] * 50, dtype=object)
    sets = np.empty(200, dtype=object)
    sets[:] = [["s", "t"], [], None, ["s"]] * 50
    groups = {"plain": labels, "sets": sets}
    dropped = run(d, np.arange(200), groups, tail=0.1, permutations=99)
    kept = run(d, np.arange(200), groups, tail=0.1, permutations=99, unknown_as_group=["plain", "sets"])
    for unit in ("record", "patient"):
        for name, want in (("plain", {"a": 100, "b": 50}), ("sets", {"s": 100, "t": 50})):
            table = rows(dropped, name, unit)
            assert dict(zip(table["group"], table["n"], strict=True)) == want
            assert table["share"].iloc[0] == pytest.approx(100 / 150)
            table = rows(kept, name, unit)
            assert dict(zip(table["group"], table["n"], strict=True)) == want | {"unknown": 50}
            assert table["share"].iloc[0] == pytest.approx(100 / 200)
    # A patient with one known record is no unknown patient.
    labels = np.array(["a", None] * 50 + ["b", "b"] * 50 + [None, None] * 50, dtype=object)
    table = rows(
        run(RNG(0).random(300), np.arange(300) // 2, {"g": labels}, permutations=9, unknown_as_group=["g"]),
        "g",
        "patient",
    )
    assert dict(zip(table["group"], table["n"], strict=True)) == {"a": 50, "b": 50, "unknown": 50}


def test_overlapping_labels_count_a_record_in_each_of_its_groups():
    rng = RNG(4)
    sets = np.empty(600, dtype=object)
    sets[:] = [[g for g in "abc" if rng.random() < 0.3] for _ in range(600)]
    sets[:30] = None
    d = np.array([rng.normal() + (one is not None and "a" in one) for one in sets])
    result = run(d, np.arange(600), {"dx": sets, "dy": [one and np.array(one, dtype=object) for one in sets]}, tail=0.1)
    known = np.arange(30, 600)
    tail = known[np.argsort(-d[known])[:57]]
    table = rows(result, "dx")
    for row in table.itertuples():
        n, o = (sum(row.group in sets[i] for i in part) for part in (known, tail))
        e = n / 570 * 57
        assert (row.n, row.tail_n, row.dof) == (n, o, 0)
        assert row.residual == pytest.approx((o - e) / np.sqrt(e), rel=1e-12)
        assert row.tail_expected_clustered == pytest.approx(e, rel=1e-12)
        assert np.isnan(row.p_value)
        assert row.overlapping
    a = table.iloc[0]
    assert a["p_clustered"] <= 0.001 and a["residual"] > a["residual_high"]
    # Lists and arrays (as Parquet gives them) are the same; both count in Holm's family.
    assert (rows(result, "dy")["residual"].to_numpy() == table["residual"].to_numpy()).all()
    pair = np.array([a["p_clustered"], rows(result, "dy")["p_clustered"].iloc[0]])
    assert a["p_adjusted"] == pytest.approx(holm(pair)[0])


def test_lists_beside_single_values_are_the_users_mistake():
    mixed = np.empty(3, dtype=object)
    mixed[:] = [["a"], "b", None]
    with pytest.raises(UserError, match="'dx' has lists beside single values"):
        run(np.zeros(3), np.arange(3), {"dx": mixed})
    mixed[:] = [["a"], [1], None]
    with pytest.raises(UserError, match="'dx' has a list with something else than strings"):
        run(np.zeros(3), np.arange(3), {"dx": mixed})


def test_holm_adjusts_the_clustered_p_over_the_variables_of_a_family():
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])
    rng = RNG(2)
    auc = rng.random(500)
    groups = pd.DataFrame(
        {"a": np.where(auc > 0.5, "x", "y"), "b": rng.choice(["x", "y"], 500), "c": rng.choice(["x", "y"], 500)}
    )
    result = run(auc, np.arange(500), groups, tail=0.05, permutations=999, within=["c"])
    for unit in ("record", "patient"):
        for within, m in (("", 3), ("c", 2)):
            family = result.table[(result.table["unit"] == unit) & (result.table["within"] == within)]
            p = family.groupby("variable")[["p_clustered", "p_adjusted"]].first()
            assert len(p) == m
            np.testing.assert_allclose(p["p_adjusted"], holm(p["p_clustered"].to_numpy()))
            assert p.loc["a", "p_clustered"] == 1 / 1000  # none of 999 permutations is as extreme
            assert p.loc["a", "p_adjusted"] == pytest.approx(m / 1000)
    # The variable's number does not depend on what else is tested, nor does the seed leave it to chance.
    single = run(auc, np.arange(500), groups[["b"]], tail=0.05, permutations=999)
    assert rows(single, "b")["p_clustered"].iloc[0] == rows(result, "b")["p_clustered"].iloc[0]


def test_strata_of_another_variable_give_its_expectation_and_keep_the_published_columns():
    rng = RNG(6)
    race = rng.choice(["x", "y"], 1000)
    rare = rng.random(1000) < np.where(race == "x", 0.4, 0.1)
    d = rng.normal(size=1000) + 2 * rare
    rarity = np.where(rare, "rare", "usual").astype(object)
    rarity[:100] = None
    result = run(d, np.arange(1000), {"race": race, "rarity": rarity}, tail=0.1, permutations=99, within=["rarity"])
    known = np.arange(100, 1000)
    tail = known[np.argsort(-d[known])[:90]]
    want = sum(
        (rarity[tail] == label).sum() * (race[known][rarity[known] == label] == "x").mean()
        for label in ("rare", "usual")
    )
    for unit in ("record", "patient"):
        row = rows(result, "race", unit, "rarity").iloc[0]
        assert row["tail_expected"] == pytest.approx((race[known] == "x").mean() * 90, rel=1e-12)
        assert row["tail_expected_clustered"] == pytest.approx(want, rel=1e-12)
        assert want > row["tail_expected"] + 10
        # The range of the residual lies around what the other variable explains.
        middle = (want - row["tail_expected"]) / np.sqrt(row["tail_expected"])
        assert row["residual_low"] < middle < row["residual_high"]
        assert row["residual_low"] > 0
    assert rows(result, "rarity", "record", "rarity").empty


def test_a_variable_that_the_other_determines_is_skipped_with_the_reason():
    rng = RNG(7)
    label = rng.choice(["a", "b", "c"], 2000)
    groups = {"label": label, "copy": np.where(label == "a", "p", "q"), "free": rng.choice(["f", "m"], 2000)}
    result = run(rng.random(2000), np.arange(2000), groups, within=["label", "absent"], permutations=49)
    skipped = [s for s in result.skipped if s["within"] == "label"]
    assert [(s["variable"], s["unit"]) for s in skipped] == [("copy", "record"), ("copy", "patient")]
    assert skipped[0]["reason"] == (
        "hardly varies among patients with equal 'label': only 0.0% of the tail could change places"
    )
    assert result.skipped[0] == {
        "variable": "absent",
        "unit": "",
        "within": "",
        "reason": "no variable of this dataset: others cannot be tested within it",
    }
    assert {m["variable"]: m["share"] for m in result.movable if m["within"] == "label"} == {"free": 1.0}


def test_results_do_not_depend_on_the_order_of_the_records():
    rng = RNG(9)
    patient = np.repeat(np.arange(300), rng.integers(1, 6, 300))
    size = patient.size
    sets = np.empty(size, dtype=object)
    sets[:] = [[g for g in "ab" if rng.random() < 0.4] for _ in range(size)]
    groups = pd.DataFrame(
        {"sex": rng.choice(["f", "m"], 300)[patient], "view": rng.choice(["u", "v"], size), "dx": sets}
    )
    d, ties, order = rng.normal(size=size), tie_breakers(np.arange(size).astype(str), 0), rng.permutation(size)
    options = SubgroupOptions(tail=0.05, permutations=99, within=["view"])
    first = subgroup_tests(d, ties, patient, groups, options, 0)
    again = subgroup_tests(d[order], ties[order], patient[order], groups.iloc[order], options, 0)
    pd.testing.assert_frame_equal(first.table, again.table, check_exact=True)
    assert first[1:] == again[1:]


def test_equal_numbers_of_records_are_those_of_all_records():
    """Risk grows with the number of records, of which one group knows fewer: no effect of the group."""
    rng = RNG(11)
    rejected = 0
    for _ in range(20):
        group = rng.integers(0, 2, 300)
        sizes = rng.integers(1 + 3 * group, 5 + 3 * group)
        patient = np.repeat(np.arange(300), sizes)
        d = (rng.normal(size=300) + 0.6 * sizes)[patient] + 0.3 * rng.normal(size=patient.size)
        labels = np.array(["a", "b"], dtype=object)[group][patient]
        labels[(group[patient] == 1) & (rng.random(patient.size) < 0.6)] = None
        table = run(d, patient, {"g": labels}, tail=0.1, permutations=99)
        rejected += rows(table, "g", "record")["p_clustered"].iloc[0] <= 0.05
    assert rejected <= 5  # binomial: 6 or more of 20 with probability 3e-4 at a level of 5 %
