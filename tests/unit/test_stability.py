"""Stability: agreement against brute force, and chance by relabelling, shared where the halves are."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from audited_study import finished
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tailrisk.audit.agreement import Agreement, agreement, half_agreement
from tailrisk.audit.subgroups import tie_breakers
from tailrisk.compare.stability import beside_chance, difference, stability_table, write_stability
from tailrisk.errors import UserError
from tailrisk.tables import Confidences, read_table, write_table

RECIPE = {"seed": 1, "model": {"architecture": "logistic"}, "code": None, "recipe": {"epochs": 3}, "recipe_version": 2}


NOTHING = Agreement(50, 0.5, 0.0, 3, 2, 0.1, 0.02)


def ties(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.uint64)


def test_agreement_is_spearmans_and_chance_is_that_of_the_relabellings() -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 400))
    b += 0.5 * a
    null_a, null_b = rng.normal(size=(2, 30, 400))
    null_b += 0.3 * null_a
    found = agreement(a, b, null_a, null_b, ties(400), 0.1)

    def overlap(x: np.ndarray, y: np.ndarray) -> int:
        return len(set(np.argsort(-x)[:40]) & set(np.argsort(-y)[:40]))

    drawn = [overlap(x, y) for x, y in zip(null_a, null_b, strict=True)]
    assert (found.n, found.tail_n, found.tail_overlap) == (400, 40, overlap(a, b))
    assert found.rank_correlation == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    expected = np.mean([spearmanr(x, y).statistic for x, y in zip(null_a, null_b, strict=True)])
    assert found.rank_correlation_expected == pytest.approx(expected, abs=1e-12)
    assert found.tail_expected == pytest.approx(np.mean(drawn), rel=1e-12)
    assert found.tail_p == pytest.approx((1 + sum(one >= found.tail_overlap for one in drawn)) / 31, rel=1e-12)
    alone = agreement(a, b, null_a[:0], null_b[:0], ties(400), 0.1)
    assert np.isnan([alone.rank_correlation_expected, alone.tail_expected, alone.tail_p]).all()


def test_patients_who_are_tied_do_not_agree() -> None:
    names = tie_breakers(np.arange(1000).astype(str), 3)
    same = np.zeros(1000)
    found = agreement(same, same, np.zeros((19, 1000)), np.zeros((19, 1000)), names, 0.05)
    assert np.isnan(found.rank_correlation)
    assert found.tail_n == 50
    assert found.tail_overlap <= 8  # 2.5 by chance
    some = np.where(np.arange(1000) < 30, 1.0, 0.0)
    assert agreement(some, some, same[None], same[None], names, 0.05).tail_overlap >= 30


def simulated(seed: int, shared: bool, patients: int = 300, pairs: int = 20) -> tuple[np.ndarray, ...]:
    """Scores of two experiments without any trace of a patient in them: what a model says of a patient varies with
    who else was in the half, alike in both experiments where they share halves."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(patients), 1 + np.arange(patients) % 3)

    def halves() -> np.ndarray:
        coins = rng.random((pairs, patients)) < 0.5
        return np.stack([coins, ~coins], axis=1).reshape(2 * pairs, patients)

    first, second = halves(), halves()
    member, other = first, first if shared else second
    influence = rng.normal(size=(patients, owner.size)) / np.sqrt(patients)
    influence[owner, np.arange(owner.size)] = 0  # none of its own
    a = 4 * member @ influence + rng.normal(size=(2 * pairs, owner.size))
    b = 4 * other @ influence + rng.normal(size=(2 * pairs, owner.size))
    return a.astype(np.float32), b.astype(np.float32), member[:, owner], other[:, owner], owner


def risk_of(confidences: np.ndarray, member: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Largest d of every patient, record by record."""
    best = np.full(owner.max() + 1, -np.inf)
    for r, person in enumerate(owner):
        x, y = confidences[member[:, r], r].astype(float), confidences[~member[:, r], r].astype(float)
        best[person] = max(best[person], (x.mean() - y.mean()) / np.sqrt(x.var(ddof=1) + y.var(ddof=1)))
    return best


def table(confidences: np.ndarray, member: np.ndarray) -> Confidences:
    models, rows = (np.arange(n) for n in confidences.shape)
    return Confidences(models.astype(np.int16), rows.astype(np.int32), member, confidences, None)


def test_chance_is_shared_with_the_halves_and_only_then() -> None:
    """Without any trace, two experiments on the same halves agree strongly, but no more than their shared chance."""
    p_shared, apart = [], []
    for seed in range(8):
        a, b, member, _, owner = simulated(seed, shared=True)
        found, same = beside_chance(table(a, member), table(b, member), owner, ties(300), 0.05, seed)
        observed = spearmanr(risk_of(a, member, owner), risk_of(b, member, owner)).statistic
        assert same
        assert found.rank_correlation == pytest.approx(observed, abs=1e-3)
        assert found.rank_correlation > 0.4
        assert found.rank_correlation == pytest.approx(found.rank_correlation_expected, abs=0.15)
        p_shared.append(found.tail_p)
        a, b, member, other, owner = simulated(seed, shared=False)
        found, same = beside_chance(table(a, member), table(b, other), owner, ties(300), 0.05, seed)
        assert not same
        assert found.rank_correlation == pytest.approx(found.rank_correlation_expected, abs=0.2)
        apart.append(found.tail_p)
    assert np.mean(np.array(p_shared) <= 0.05) <= 0.25  # a valid test rejects more than 2 of 8 with probability 0.006
    assert np.mean(np.array(apart) <= 0.05) <= 0.25


def test_experiments_that_lost_pairs_are_compared_on_the_models_that_both_have() -> None:
    a, b, member, _, owner = simulated(3, shared=True)
    kept = np.r_[0:6, 10:40]
    fewer = Confidences(kept.astype(np.int16), np.arange(owner.size, dtype=np.int32), member[kept], a[kept], None)
    found, same = beside_chance(fewer, table(b, member), owner, ties(300), 0.05, 0)
    assert same
    again, _ = beside_chance(table(a[kept], member[kept]), table(b[kept], member[kept]), owner, ties(300), 0.05, 0)
    assert found == again


def test_halves_of_the_models_agree_by_what_leaks() -> None:
    a, _, member, _, owner = simulated(1, shared=True, pairs=40)
    nothing = half_agreement(a, member, owner, ties(300), 0.05, 1)
    leaking = half_agreement(a + 5 * member * (owner < 15), member, owner, ties(300), 0.05, 1)
    assert nothing.tail_p > 0.05
    assert abs(nothing.rank_correlation - nothing.rank_correlation_expected) < 0.15
    assert leaking.tail_overlap >= 11  # of 15
    assert leaking.tail_p == 0.01
    is_odd = np.arange(80) // 2 % 2 == 1
    even, odd = (risk_of(a[chosen], member[chosen], owner) for chosen in (~is_odd, is_odd))
    assert nothing.rank_correlation == pytest.approx(spearmanr(even, odd).statistic, abs=1e-3)


def test_patients_with_equal_records_are_no_agreement() -> None:
    """The maximum over unrelated records is larger than over alike ones, in either half of the models."""
    rng = np.random.default_rng(4)
    owner = np.repeat(np.arange(200), 10)
    alike = np.where(owner < 100, 0.98, 0.0)
    coins = rng.random((20, 200)) < 0.5
    member = np.stack([coins, ~coins], axis=1).reshape(40, 200)[:, owner]
    p = []
    for _ in range(12):
        own = rng.normal(size=(40, 200))[:, owner]
        scores = np.sqrt(alike) * own + np.sqrt(1 - alike) * rng.normal(size=(40, owner.size))
        found = half_agreement(scores.astype(np.float32), member, owner, ties(200), 0.1, 5)
        assert found.rank_correlation_expected > 0.15
        p.append(found.tail_p)
    assert np.mean(np.array(p) <= 0.05) <= 0.25


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({}, "nothing"),
        ({"seed": 2}, "seed"),
        ({"model": {"architecture": "x"}}, "model"),
        ({"code": "abc"}, "model"),
        ({"model": {"architecture": "x"}, "code": "abc"}, "model"),
        ({"recipe": {"epochs": 4}}, "recipe"),
        ({"recipe_version": 1}, "recipe"),
        ({"privacy": {"epsilon": 1}}, "recipe"),
        ({"seed": 2, "recipe": {"epochs": 4}}, "several"),
    ],
)
def test_what_differs_is_read_off_the_recipes(changed: dict, word: str) -> None:
    assert difference(RECIPE, RECIPE | changed) == difference(RECIPE | changed, RECIPE) == word
    assert difference(None, RECIPE) == difference(RECIPE, None) == "unknown"


def audit(name: str, auc: list[float], q: list[float], ids: list[str], seed: int = 1) -> dict:
    frame = pd.DataFrame({"patient": ids, "n_records": 1, "auc": auc, "q_value": q})
    summary = {"fdr": 0.05, "thresholds": [{"auc": 0.8}, {"auc": 0.95}]}
    return {"experiment": name, "recipe": RECIPE | {"seed": seed}, "summary": summary, "patients": frame}


PERSON = st.tuples(*[st.sampled_from([0.5, 0.8, 0.95]), st.sampled_from([0.01, 0.05, 0.06])] * 2)


@settings(max_examples=30)
@given(st.lists(PERSON, min_size=2, max_size=10), st.randoms(use_true_random=False))
def test_vulnerable_counts_are_those_of_a_loop_in_any_order(people: list, random) -> None:
    order = list(range(len(people)))
    random.shuffle(order)
    a = audit("e.d.a", [p[0] for p in people], [p[1] for p in people], [f"p{i}" for i in range(len(people))])
    b = audit("e.d.b", [people[i][2] for i in order], [people[i][3] for i in order], [f"p{i}" for i in order], seed=2)
    table = stability_table([a, b], {("e.d.a", "e.d.b"): (NOTHING, True)}).set_index("threshold")
    assert table["same_halves"].all()
    assert set(table["tail_overlap"]) == {2}
    assert set(table["differs"]) == {"seed"}
    for t in (0.8, 0.95):
        first = [p[0] >= t and p[1] <= 0.05 for p in people]
        second = [p[2] >= t and p[3] <= 0.05 for p in people]
        both = sum(x and y for x, y in zip(first, second, strict=True))
        row = table.loc[t]
        assert (row["vulnerable_a"], row["vulnerable_b"], row["vulnerable_both"]) == (sum(first), sum(second), both)
        assert row["vulnerable_expected"] == pytest.approx(sum(first) * sum(second) / len(people))


def test_other_patients_are_refused_without_naming_them() -> None:
    a, b = audit("a", [0.5, 0.6], [0.5, 0.5], ["p0", "p1"]), audit("b", [0.5, 0.6], [0.5, 0.5], ["p0", "p7"])
    with pytest.raises(UserError, match="'a' and 'b' are not of the same patients") as error:
        stability_table([a, b], {})
    assert "p7" not in str(error.value)


def confidence_table(path: Path, values: np.ndarray, member: np.ndarray, models: list[int]) -> None:
    from tailrisk.tables import ConfidenceWriter

    with ConfidenceWriter(path, "confidences", {}) as writer:
        for model in models:
            rows = np.arange(values.shape[1], dtype=np.int32)
            writer.add(model, rows, member[model], values[model].astype(np.float32))


def test_finished_audits_are_compared_by_the_halves_that_their_tables_show(tmp_path: Path) -> None:
    """The audits of two models on the same halves, one of which lost a pair, and of a third on other halves."""
    from audited_study import confidences

    study = finished()
    names = list(study.files)
    patients = read_table(study.files[names[0]].audit / "patients.parquet", "audit_patients")
    tables = {}
    for name, leak, seed in zip(names, ((0, 0.0), (6, 2.5), (12, 3.0)), (0, 0, 5), strict=True):
        values, member, owner = confidences(*leak, seed=seed)
        tables[name] = tmp_path / f"{name}.parquet"
        confidence_table(tables[name], values, member, [m for m in range(120) if name != names[0] or m // 2 != 7])
    records = pd.DataFrame({"record": np.arange(len(owner)).astype(str), "patient": np.array(study.patients)[owner]})
    write_table(tmp_path / "records.parquet", "records", records.assign(split="audit"))
    audits = {name: files.audit for name, files in study.files.items()}
    write_stability(audits, tables, tmp_path / "records.parquet", 0.04, 1, tmp_path / "out.parquet")
    table = read_table(tmp_path / "out.parquet", "stability")
    assert set(table["n"]) == {len(patients)}
    assert table.groupby(["experiment_a", "experiment_b"], sort=False)["same_halves"].first().tolist() == (
        [True, False, False]
    )
    # The scores of the first two differ by the leak alone, so that chance is all but the same.
    shared = table[table["same_halves"]].iloc[0]
    assert shared["rank_correlation_expected"] > 0.9
    assert shared["tail_p"] > 0.05
    # Of the 6 leaking patients of the second, all leak in the third.
    last = table[(table["experiment_a"] == names[1]) & (table["experiment_b"] == names[2])].set_index("threshold")
    assert last.loc[0.8, "vulnerable_both"] == last.loc[0.8, "vulnerable_a"] >= 5
    assert last.loc[0.8, "tail_p"] == 0.01
