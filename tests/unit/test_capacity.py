"""Who becomes vulnerable with capacity: counts against a loop over the patients, McNemar's test, and the figure."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from audited_study import THRESHOLDS, finished
from hypothesis import given, settings
from hypothesis import strategies as st

from tailrisk.compare.capacity import PAIRED, capacity_table
from tailrisk.errors import UserError
from tailrisk.figures.capacity import CHANGES, changes
from tailrisk.tables import read_table


def audit(model: str, capacity: int, auc: list[float], q: list[float], ids: list[str] | None = None) -> dict:
    names = [f"p{i}" for i in range(len(auc))] if ids is None else ids
    return {
        "experiment": f"main.d.{model}",
        "model": model,
        "capacity": capacity,
        "performance": pd.DataFrame({"model": [0, 1], "split": "test", "metric": "auroc", "value": [0.7, 0.8]}),
        "patients": pd.DataFrame({"patient": names, "auc": auc, "q_value": q}),
        "summary": {"patients": len(auc), "fdr": 0.05, "thresholds": [{"auc": 0.8}, {"auc": 0.95}]},
    }


PERSON = st.tuples(*[st.sampled_from([0.5, 0.8, 0.9, 0.95, 1.0]), st.sampled_from([0.01, 0.05, 0.06])] * 2)


@settings(max_examples=30)
@given(st.lists(PERSON, min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_changes_are_those_of_a_loop_over_the_patients_in_any_order(people: list, random) -> None:
    order = list(range(len(people)))
    random.shuffle(order)
    small = audit("small", 5, [p[0] for p in people], [p[1] for p in people])
    large = audit("large", 7, [people[i][2] for i in order], [people[i][3] for i in order], [f"p{i}" for i in order])
    table = capacity_table([large, small]).set_index(["model", "threshold"])
    for t in (0.8, 0.95):
        kept = new = gone = 0
        for auc, q, auc_large, q_large in people:
            was, is_ = auc >= t and q <= 0.05, auc_large >= t and q_large <= 0.05
            kept, new, gone = kept + (was and is_), new + (is_ and not was), gone + (was and not is_)
        row = table.loc[("large", t)]
        assert [row[name] for name in PAIRED] == [kept, new, gone]
        # Two-sided exact binomial p at one half: twice the smaller tail.
        total, fewer = new + gone, min(new, gone)
        tail = sum(comb(total, k) for k in range(fewer + 1)) / 2**total
        assert row["mcnemar_p"] == pytest.approx(min(1.0, 2 * tail), abs=1e-12)
        assert table.loc[("small", t), [*PAIRED, "mcnemar_p"]].isna().all()


def test_each_model_is_compared_with_the_next_smaller_one() -> None:
    aucs = {"a": [0.9, 0.5, 0.5], "b": [0.9, 0.9, 0.5], "c": [0.5, 0.9, 0.9]}
    audits = [audit(name, capacity, aucs[name], [0.01] * 3) for capacity, name in enumerate("abc", 1)]
    table = capacity_table(audits[::-1]).query("threshold == 0.8")
    assert table["model"].tolist() == ["a", "b", "c"]
    assert table[list(PAIRED)].to_numpy()[1:].tolist() == [[1, 1, 0], [1, 1, 1]]


def test_other_patients_are_refused_without_naming_them() -> None:
    small = audit("small", 5, [0.5, 0.6], [0.5, 0.5])
    large = audit("large", 7, [0.5, 0.6], [0.5, 0.5], ["p0", "p7"])
    with pytest.raises(UserError, match=r"'main.d.small' and 'main.d.large' are not of the same patients") as error:
        capacity_table([small, large])
    assert "p7" not in str(error.value)


def test_the_table_of_real_audits_adds_up_and_is_drawn() -> None:
    table = read_table(finished().capacity, "capacity")
    later = table.groupby("threshold").tail(2)
    assert (later["still_vulnerable"] + later["newly_vulnerable"]).tolist() == later["vulnerable"].tolist()
    assert later["newly_vulnerable"].sum() > 0
    figure = changes(table)
    assert [ax.get_title(loc="left") for ax in figure.axes] == [f"AUC ≥ {t:g}" for t in THRESHOLDS]
    for ax, threshold in zip(figure.axes, THRESHOLDS, strict=True):
        rows = table[table["threshold"] == threshold].iloc[1:]
        for (column, label, _, side), bars in zip(CHANGES, ax.containers, strict=True):
            assert bars.get_label() == label
            np.testing.assert_array_equal([side * bar.get_width() for bar in bars], rows[column])
