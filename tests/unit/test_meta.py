"""Meta-analysis of groups: correlations against scipy, both baselines against what they must be, words and figure."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr

from tailrisk.compare.baselines import permuted_patients, shuffled_changes
from tailrisk.compare.groups import EVERYWHERE, correlations, groups_table, meta_table, write_groups
from tailrisk.errors import UserError
from tailrisk.figures.meta import in_words, meta
from tailrisk.tables import SCHEMAS, read_table, write_table


@settings(max_examples=30)
@given(st.integers(3, 12), st.integers(0, 1000))
def test_correlations_are_those_of_scipy(groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    share, residual = rng.random(groups).round(1), rng.normal(size=(5, groups)).round(1)
    for kind, theirs in (("spearman", spearmanr), ("pearson", pearsonr)):
        for row, value in zip(residual, correlations(share, residual, kind), strict=True):
            if len(set(share)) > 1 and len(set(row)) > 1:
                assert value == pytest.approx(theirs(share, row).statistic, abs=1e-10)
            else:
                assert np.isnan(value)


def subgroups(rng: np.random.Generator, variables: int, risks, tail: int = 600) -> pd.DataFrame:
    """Audited groups of variables with 2 to 8 groups; risks(shares) are the risks that decide the tail."""
    parts = []
    for variable in range(variables):
        share = rng.dirichlet(np.full(rng.integers(2, 9), 0.7)).clip(2e-3)
        share /= share.sum()
        weight = share * risks(share)
        count, expected = rng.multinomial(tail, weight / weight.sum()), tail * share
        parts.append(
            pd.DataFrame(
                {
                    "variable": f"v{variable}",
                    "group": np.arange(share.size).astype(str),
                    "share": share,
                    "tail_expected": expected,
                    "relative_change": count / expected - 1,
                    "residual": (count - expected) / np.sqrt(expected),
                    "residual_low": -1.0,
                    "residual_high": 1.0,
                    "unit": "record",
                    "within": "",
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_shuffled_changes_keep_the_tail_and_exchange_the_risks() -> None:
    table = subgroups(np.random.default_rng(1), 3, lambda share: np.ones(share.size))
    drawn = shuffled_changes(table.sample(frac=1, random_state=1), 300, 1)
    order = table.sample(frac=1, random_state=1)
    assert np.array_equal(drawn, shuffled_changes(order, 300, 1))
    for variable in table["variable"].unique():
        chosen = (order["variable"] == variable).to_numpy()
        expected, change = (order.loc[chosen, name].to_numpy() for name in ("tail_expected", "relative_change"))
        counts = drawn[:, chosen] * np.sqrt(expected) + expected
        np.testing.assert_allclose(counts.sum(axis=1), 600, rtol=1e-10)
        rates = np.sort(counts / expected, axis=1)
        known = np.sort(1 + change)
        largest = known[-1]
        np.testing.assert_allclose(rates / rates[:, -1:], np.tile(known / largest, (300, 1)), atol=1e-10)
        assert len(np.unique((counts / expected).round(6), axis=0)) > 1


def test_where_the_exposed_group_has_any_size_only_permuted_patients_show_a_relation() -> None:
    """One group a variable at fourfold risk, drawn whatever its size: the correlation is negative on average, which
    the shuffled changes know and the permuted patients do not; risk that does fall with size shows against both."""

    def one_exposed(share: np.ndarray) -> np.ndarray:
        risk = np.ones(share.size)
        risk[rng.integers(share.size)] = 4
        return risk

    def analysed(table: pd.DataFrame) -> pd.DataFrame:
        one = groups_table([{"dataset": "d", "experiment": "e.d.m", "subgroups": table}])
        permuted = []  # patients with one record each: the tail is a random draw
        for _, rows in one.groupby("variable", sort=False):
            expected = rows["tail_expected"].to_numpy()
            permuted.append((rng.multinomial(600, rows["share"], 299) - expected) / np.sqrt(expected))
        found = meta_table(one, {"d": np.concatenate(permuted, axis=1)}, 1)
        return found[found["correlation"] == "spearman"].set_index("baseline")

    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        found.append(analysed(subgroups(rng, 4, one_exposed)))
    value, changes, patients = (
        np.array([one.loc["changes", "value"] for one in found]),
        pd.DataFrame([one.loc["changes"] for one in found]),
        pd.DataFrame([one.loc["patients"] for one in found]),
    )
    assert value.mean() < -0.15  # mechanical
    assert changes["null_mean"].mean() == pytest.approx(value.mean(), abs=0.1)
    assert abs(patients["null_mean"].mean()) < 0.05
    wrong = [(one["p_value"] <= 0.05).mean() for one in (changes, patients)]
    assert wrong[0] <= 0.175  # 0.08 in 250 studies
    assert wrong[1] > wrong[0]  # 0.24

    rng = np.random.default_rng(0)
    related = analysed(subgroups(rng, 6, lambda share: share**-0.4))
    assert (related["value"] < -0.5).all()
    assert (related["p_value"] <= 0.01).all()


def brute_force(risk, ties, patient, groups, tail) -> dict[tuple[str, str], float]:
    """Residuals of the tail, record by record; lists are sets of groups, None is unknown."""
    found = {}
    for variable in groups:
        column = groups[variable]
        values = [one if isinstance(one, list) else None if pd.isna(one) else [one] for one in column]
        known = [i for i, one in enumerate(values) if one is not None]
        chosen = sorted(known, key=lambda i: (-risk[i], ties[i]))[: max(1, int(tail * len(known) * (1 + 1e-12)))]
        for group in sorted({name for i in known for name in values[i]}):
            share = sum(group in values[i] for i in known) / len(known)
            expected = share * len(chosen)
            count = sum(group in values[i] for i in chosen)
            found[variable, group] = (count - expected) / expected**0.5
    return found


def test_permuted_patients_are_the_residuals_of_patients_who_change_places() -> None:
    """The mean and spread of the draws against explicit permutations of whole patients, everything recomputed."""
    rng = np.random.default_rng(5)
    patient = np.repeat(np.arange(60), 1 + np.arange(60) % 3)
    n = patient.size
    risk, ties = rng.normal(size=n) + rng.normal(size=60)[patient], np.arange(n, dtype=np.uint64)
    coarse = rng.choice(["a", "b"], 60, p=[0.7, 0.3])[patient]
    groups = pd.DataFrame(
        {
            "coarse": coarse,
            "fine": [f"{one}{i % 2}" if i % 5 else None for one, i in zip(coarse, rng.integers(0, 10, n), strict=True)],
            "labels": [[["x"], ["x", "y"], []][i] for i in rng.integers(0, 3, n)],
        }
    )
    drawn = permuted_patients(risk, ties, patient, groups, [], 0.1, 3000, 1)
    explicit = []
    starts, sizes = np.unique(patient, return_index=True)[1], np.bincount(patient)
    for _ in range(600):
        source = np.empty(n, dtype=int)
        for size in (1, 2, 3):
            same = np.flatnonzero(sizes == size)
            for one, other in zip(same, rng.permutation(same), strict=True):
                source[starts[one] + np.arange(size)] = starts[other] + rng.permutation(size)
        explicit.append(brute_force(risk, ties, patient, groups.iloc[source].reset_index(drop=True), 0.1))
    expected = pd.DataFrame(explicit)
    drawn = drawn[list(expected.columns)]
    error = np.sqrt(expected.var() / 600 + drawn.var() / 3000).to_numpy()
    assert (np.abs(drawn.mean().to_numpy() - expected.mean().to_numpy()) <= 4.5 * error).all()
    np.testing.assert_allclose(drawn.std(), expected.std(), rtol=0.12)
    np.testing.assert_allclose(drawn.corr(), expected.corr(), atol=0.15)  # between variables, too


def test_permuted_patients_do_not_depend_on_the_order_of_records_and_cope_with_nothing_known() -> None:
    rng = np.random.default_rng(6)
    patient, risk = np.repeat(np.arange(50), 2), rng.normal(size=100)
    ties = rng.permutation(100).astype(np.uint64)
    groups = pd.DataFrame({"sex": rng.choice(["f", "m"], 100), "none": None, "rare": None})
    groups.loc[:3, "rare"] = ["a", "a", "b", "b"]
    once = permuted_patients(risk, ties, patient, groups, ["rare"], 0.1, 50, 1)
    order = rng.permutation(100)
    moved = groups.iloc[order].reset_index(drop=True)
    again = permuted_patients(risk[order], ties[order], patient[order], moved, ["rare"], 0.1, 50, 1)
    pd.testing.assert_frame_equal(once, again)
    assert set(once.columns) == {("sex", "f"), ("sex", "m"), ("rare", "a"), ("rare", "b"), ("rare", "unknown")}
    assert permuted_patients(risk, ties, patient, groups[["none"]], [], 0.1, 50, 1).shape == (50, 0)


def test_variables_that_say_the_same_do_not_count_twice() -> None:
    """The null of two copies of one variable is as wide as that of the one."""
    rng = np.random.default_rng(7)
    patient, risk, ties = np.arange(3000), rng.normal(size=3000), np.arange(3000, dtype=np.uint64)
    label = rng.choice(list("abcdef"), 3000, p=[0.4, 0.2, 0.15, 0.1, 0.1, 0.05])
    spread = []
    for copies in (1, 2):
        groups = pd.DataFrame({f"v{i}": label for i in range(copies)})
        drawn = permuted_patients(risk, ties, patient, groups, [], 0.02, 800, 1)
        share = np.tile(pd.Series(label).value_counts(normalize=True).sort_index().to_numpy(), copies)
        spread.append(correlations(share, drawn.to_numpy(), "pearson").std())
    assert spread[1] == pytest.approx(spread[0], rel=0.05)


def test_tables_keep_records_without_strata_and_refuse_a_dataset_twice() -> None:
    table = subgroups(np.random.default_rng(1), 2, lambda share: np.ones(share.size))
    other = pd.concat([table, table.assign(unit="patient"), table.assign(within="v0")], ignore_index=True)
    audits = [{"dataset": name, "experiment": f"e.{name}.m", "subgroups": other} for name in ("b", "a")]
    found = groups_table(audits)
    assert list(found.columns) == SCHEMAS["compared_groups"].names
    assert found["dataset"].tolist() == ["b"] * len(table) + ["a"] * len(table)
    np.testing.assert_array_equal(found["residual"][: len(table)], table["residual"])
    with pytest.raises(UserError, match="two experiments of the dataset 'a'"):
        groups_table([*audits, audits[1]])


def test_meta_table_has_every_dataset_all_of_them_and_missing_values_where_nothing_is_defined() -> None:
    rng = np.random.default_rng(3)
    tables = {
        "many": subgroups(rng, 5, lambda share: np.ones(share.size)),
        "one": subgroups(rng, 1, lambda share: np.ones(share.size)).iloc[:1],
    }
    found = groups_table([{"dataset": k, "experiment": f"e.{k}.m", "subgroups": v} for k, v in tables.items()])
    permuted = {name: rng.normal(size=(99, len(table))) for name, table in tables.items()}
    result = meta_table(found, permuted, 1)
    pd.testing.assert_frame_equal(result, meta_table(found, permuted, 1))
    assert result["dataset"].tolist() == ["many"] * 4 + ["one"] * 4 + [EVERYWHERE] * 4
    by = result.set_index(["dataset", "correlation", "baseline"])
    assert by.loc["one", ["value", "null_mean", "p_value"]].isna().all().all()
    null = correlations(found["share"].to_numpy(), np.concatenate(list(permuted.values()), axis=1), "spearman")
    row = by.loc[(EVERYWHERE, "spearman", "patients")]
    assert row["value"] == pytest.approx(spearmanr(found["share"], found["residual"]).statistic)
    assert row[["null_mean", "null_low", "null_high"]].tolist() == pytest.approx(
        [null.mean(), *np.quantile(null, [0.025, 0.975])]
    )
    sides = [(null <= row["value"]).sum(), (null >= row["value"]).sum()]
    assert row["p_value"] == pytest.approx(min(1, 2 * (1 + min(sides)) / 100))
    assert row["groups"] == len(found)
    assert not set(meta_table(found[found["dataset"] == "many"], permuted, 1)["dataset"]) - {"many"}


def audited(folder: Path, name: str, seed: int) -> tuple[Path, Path]:
    """An audit on disk in which a rare group is exposed, as far as the meta-analysis reads it, and its groups."""
    from tailrisk.audit.subgroups import SubgroupOptions, subgroup_tests, tie_breakers

    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(900), 1 + np.arange(900) % 2)
    record = np.array([f"r{i}" for i in range(patient.size)])
    race = rng.choice(["a", "b", "c"], 900, p=[0.85, 0.1, 0.05])[patient]
    described = pd.DataFrame({"race": race, "view": rng.choice(["AP", "PA", None], patient.size)})
    auc = np.clip(0.5 + 0.05 * rng.normal(size=patient.size) + 0.2 * (race == "c"), 0, 1)
    result = subgroup_tests(auc, tie_breakers(record, 1), patient, described, SubgroupOptions(0.05, 99), 1)
    audit, groups = folder / "audit" / f"e.{name}.m", folder / f"{name}.parquet"
    records = pd.DataFrame({"record": record, "patient": patient.astype(str), "auc": auc})
    for column in SCHEMAS["audit_records"].names:
        if column not in records:
            records[column] = 0
    write_table(audit / "records.parquet", "audit_records", records)
    write_table(audit / "subgroups.parquet", "audit_subgroups", result.table)
    described.insert(0, "record", record)
    write_table(groups, "groups", described.sample(frac=1, random_state=1))
    return audit, groups


def test_finished_audits_are_compared_and_drawn(tmp_path: Path) -> None:
    made = {f"e.{name}.m": audited(tmp_path, name, seed) for seed, name in enumerate(("first", "second"))}
    audits, groups = ({name: paths[i] for name, paths in made.items()} for i in (0, 1))
    out = tmp_path / "groups.out", tmp_path / "meta.out"
    write_groups(audits, groups, [], 0.05, 1, *out)
    compared, found = read_table(out[0], "compared_groups"), read_table(out[1], "meta")
    assert compared.groupby("dataset", sort=False).size().to_dict() == {"first": 5, "second": 5}
    assert compared.sort_values("residual")["group"].tolist()[-2:] == ["c", "c"]
    assert set(found["dataset"]) == {"first", "second", EVERYWHERE}

    before = dict(mpl.rcParams)
    figure = meta(compared, found)
    left, right = figure.axes
    points = [
        line for line in left.lines if line.get_marker() in "os" and len(line.get_xdata()) and line.get_zorder() == 3
    ]
    shown = {(x, y): line.get_markerfacecolor() == "white" for line in points for x, y in line.get_xydata()}
    rows = compared.to_dict("records")
    assert shown == {(100 * row["share"], row["residual"]): row["tail_expected"] < 5 for row in rows}
    spearman = found[(found["correlation"] == "spearman") & (found["baseline"] == "changes")]
    assert [label.get_text() for label in right.get_yticklabels()] == ["first (5)", "second (5)", "all datasets (10)"]
    marks = [line.get_xdata()[0] for line in right.lines if line.get_markersize() == 6 and line.get_marker() != "None"]
    assert marks == pytest.approx(spearman["value"].tolist())
    assert f"p = {spearman['p_value'].iloc[-1]:.2g} against changes" in figure.get_suptitle()
    assert dict(mpl.rcParams) == before

    (tmp_path / "first.parquet").unlink()
    write_table(tmp_path / "first.parquet", "groups", read_table(groups["e.second.m"], "groups").iloc[:10])
    with pytest.raises(UserError, match="lacks variables or records of the audit"):
        write_groups(audits, groups, [], 0.05, 1, *out)


def test_words_say_whether_sizes_explain_it_and_an_empty_figure_says_so() -> None:
    rows = pd.DataFrame(
        {"dataset": "d", "groups": 9, "correlation": "spearman", "value": -0.5, "baseline": ["patients", "changes"],
         "null_mean": [0.0, -0.2], "null_low": -0.4, "null_high": 0.4, "p_value": [0.0004, 0.05]}
    )  # fmt: skip
    assert in_words(rows) == (
        "Over 9 groups, Spearman's correlation of residual and share is −0.50: more than sizes alone explain.\n"
        "p = 0.05 against changes shuffled between groups (mean −0.20), "
        "p < 0.001 against patients permuted (mean 0.00)."
    )
    assert "no more than sizes alone explain" in in_words(rows.assign(p_value=[0.0004, 0.051]))
    assert "too few groups" in in_words(rows.assign(value=np.nan))
    empty = groups_table([])
    assert "nothing to compare" in meta(empty, meta_table(empty, {}, 1)).texts[0].get_text()
