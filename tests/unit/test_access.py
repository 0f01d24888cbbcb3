"""Comparison of queries: counts against brute force over the patients, words, figure and sentences."""

import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from audited_study import QUERIES, THRESHOLDS, finished
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tailrisk.cli import main
from tailrisk.compare.access import access_table
from tailrisk.config.base import canonical
from tailrisk.config.queries import Augmented, Clean, Redacted
from tailrisk.errors import UserError
from tailrisk.figures.queries import in_words
from tailrisk.figures.survival import access
from tailrisk.report.access import Asked, sentences
from tailrisk.tables import read_json, read_table

ECG, TABLE, IMAGE = (12, 1000), (31,), (1, 64, 64)


def audit(query: str, auc: list[float], q: list[float], fdr: float = 0.05, patients: list[str] | None = None) -> dict:
    """An audit as far as the comparison reads it; the summary's counts are made up, as they pass through."""
    ids = [f"p{i}" for i in range(len(auc))] if patients is None else patients
    thresholds = [
        {"auc": t, "patients": 1, "share": 0.1, "low": 0.0, "high": 0.2, "expected_by_chance": 0.5, "vulnerable": 1,
         "certain": 0, "debiased": 2, "by_rank": 3}
        for t in THRESHOLDS
    ]  # fmt: skip
    summary = {"patients": len(auc), "fdr": fdr, "thresholds": thresholds, "aggregate": {"lira_online": {"auc": 0.6}}}
    return {
        "query": query,
        "kind": "redacted",
        "patients": pd.DataFrame({"patient": ids, "auc": auc, "q_value": q}),
        "summary": summary,
    }


VALUES = st.sampled_from([0.4, 0.79, 0.8, 0.85, 0.9, 0.95, 0.97, 0.99, 1.0])
QS = st.sampled_from([0.0, 0.04, 0.05, 0.050001, 0.1, 0.5])


@given(
    st.lists(st.tuples(VALUES, QS, VALUES, QS), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.sampled_from([0.05, 0.1]),
)
def test_counts_are_those_of_a_loop_over_the_patients_in_any_order(people, random, fdr: float) -> None:
    order = list(range(len(people)))
    random.shuffle(order)
    full = audit("full", [p[0] for p in people], [p[1] for p in people])
    part = audit("part", [people[i][2] for i in order], [people[i][3] for i in order], fdr, [f"p{i}" for i in order])
    table = access_table("e.d.m", [full, part]).set_index(["query", "threshold"])
    for t in THRESHOLDS:
        still = new = before = 0
        for auc, q, auc_part, q_part in people:
            was, stays = auc >= t and q <= 0.05, auc_part >= t and q_part <= fdr
            before += was
            still += was and stays
            new += stays and not was
        counts = table.loc[("part", t), ["still_vulnerable", "newly_vulnerable"]].tolist()
        assert counts == [still, new]
        assert table.loc[("full", t), ["still_vulnerable", "newly_vulnerable"]].tolist() == [before, 0]
    before, after = np.array([p[0] for p in people]), np.array([p[2] for p in people])
    found = table.loc[("part", 0.8), "rank_correlation"]
    if len(set(before)) > 1 and len(set(after)) > 1:
        assert found == pytest.approx(spearmanr(before, after).statistic, abs=1e-12)
    else:
        assert np.isnan(found)


def test_rows_follow_the_queries_and_the_summaries_pass_through() -> None:
    audits = [audit(query, [0.5, 0.9], [0.5, 0.01]) for query in ("z", "a", "m")]
    audits[2]["summary"]["aggregate"] = {"lira_online": {"auc": None}}
    table = access_table("e.d.m", audits)
    assert table["query"].tolist() == [query for query in ("z", "a", "m") for _ in THRESHOLDS]
    assert table["threshold"].tolist() == THRESHOLDS * 3
    for column, value in (("patients", 1), ("share", 0.1), ("high", 0.2), ("debiased", 2), ("n", 2)):
        assert set(table[column]) == {value}
    assert table["aggregate_auc"].isna().tolist() == [False] * 8 + [True] * 4


def test_other_patients_are_refused_without_naming_them() -> None:
    full = audit("full", [0.5, 0.6], [0.5, 0.5])
    for ids in (["p0", "p7"], ["p0"], ["p0", "p1", "p7"]):
        part = audit("part", [0.5] * len(ids), [0.5] * len(ids), patients=ids)
        with pytest.raises(UserError, match="queries 'full' and 'part' are not of the same patients") as error:
            access_table("e.d.m", [full, part])
        assert "p7" not in str(error.value)


def test_the_table_of_real_audits_is_consistent() -> None:
    study = finished()
    for name, files in study.access.items():
        table = read_table(files.table, "access")
        assert table["query"].tolist() == [query for query in QUERIES for _ in THRESHOLDS]
        # Two ways to one number: the audit counted the vulnerable, the comparison found them again by patient.
        assert (table["still_vulnerable"] + table["newly_vulnerable"]).equals(table["vulnerable"])
        for query, rows in table.groupby("query"):
            summary = read_json(study.audit(name, str(query)) / "summary.json")
            assert rows["patients"].tolist() == [row["patients"] for row in summary["thresholds"]]
            assert set(rows["aggregate_auc"]) == {summary["aggregate"]["lira_online"]["auc"]}
    wide = read_table(study.access["main.hospital.wide"].table, "access").set_index(["query", "threshold"])
    full, part = wide.loc[("clean", 0.95)], wide.loc[("arrival", 0.95)]
    assert 0 < part["still_vulnerable"] < full["vulnerable"]  # less is known, fewer are found
    assert part["newly_vulnerable"] == 1  # the patient who leaks under that query alone


def test_commands_write_what_the_functions_write(tmp_path) -> None:
    study, name = finished(), "main.hospital.wide"
    audits = [f"--audit={query}={study.audit(name, query)}" for query in QUERIES]
    table = [
        "access",
        "--experiment",
        name,
        "--queries",
        canonical(QUERIES),
        *audits,
        "--output",
        f"{tmp_path}/a.parquet",
    ]
    figures = ["access-figures", "--queries", canonical(QUERIES), "--card", f"{study.datasets['hospital']}/card.json"]
    for command in (table, [*figures, *audits, "--output", str(tmp_path)]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 0, done.output
    written = read_table(tmp_path / "a.parquet", "access")
    assert written.equals(read_table(study.access[name].table, "access"))
    for kind in ("svg", "png"):
        made = study.access[name].figures / f"access.{kind}"
        assert (tmp_path / f"access.{kind}").read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("region", "words"),
    [
        ((0.25, 0, 1, 1), "the lower 75 % of the image"),
        ((0, 0, 1, 0.5), "the left 50 % of the image"),
        ((0, 0.9, 1, 1), "the right 10 % of the image"),
        ((0.25, 0, 0.5, 1), "the part of the image 25 to 50 % from its top"),
    ],
)
def test_regions_in_words(region: tuple[float, ...], words: str) -> None:
    query = Redacted(kind="redacted", hidden_region=region)
    assert in_words(query, (1, 64, 64)) == f"without {words}, filled with the median"


@pytest.mark.parametrize(
    ("query", "shape", "words"),
    [
        (Clean(kind="clean"), ECG, "the whole record"),
        (Augmented(kind="augmented"), IMAGE, "16 augmented views"),
        (Augmented(kind="augmented", views=1), IMAGE, "1 augmented view"),
        (Redacted(kind="redacted", known=["I"]), ECG, "only lead I, the rest filled with the median"),
        (Redacted(kind="redacted", hidden=["I", "II"], fill="zero"), ECG, "without leads I and II, filled with zeros"),
        (
            Redacted(kind="redacted", known=["age", "sex", "pulse"], fill="donor"),
            TABLE,
            "only age, sex and pulse, the rest filled with another patient's values",
        ),
        (
            Redacted(kind="redacted", known_region=(0, 0.25, 0.5, 0.75)),
            IMAGE,
            "only the part of the image 0 to 50 % from its top and 25 to 75 % from its left, the rest filled with "
            "the median",
        ),
        (
            Redacted(kind="redacted", hidden_region=(0, 0, 0.125, 1), fill="zero"),
            IMAGE,
            "without the upper 12.5 % of the image, filled with zeros",
        ),
    ],
)
def test_queries_in_words(query, shape: tuple[int, ...], words: str) -> None:
    assert in_words(query, shape) == words


def test_many_features_are_shortened_with_their_number() -> None:
    names = [f"laboratory value {i}" for i in range(40)]
    words = in_words(Redacted(kind="redacted", known=names), TABLE)
    assert words.startswith("only laboratory value 0, laboratory")
    assert "… (40 in all), the rest" in words
    assert len(words) < 110


def test_figure_draws_full_access_darkest_and_tells_curves_apart_without_colour() -> None:
    study, name = finished(), "main.hospital.wide"
    folders = [(label, study.audit(name, query)) for label, query in (("a", "clean"), ("b", "arrival"), ("c", "clean"))]
    curves = [
        (label, read_table(folder / "survival.parquet", "audit_survival"), read_json(folder / "summary.json"))
        for label, folder in folders
    ]
    figure = access(curves)
    ax = figure.axes[0]
    drawn = {str(line.get_label()): line for line in ax.lines}
    floor = 0.5 / 300
    assert ax.get_yscale() == "log"
    assert ax.get_ylim()[0] == floor
    nulls = [line for line in ax.lines if line.get_linestyle() == "--" and len(line.get_xdata())]
    assert len(nulls) == 3
    for (label, table, _), null in zip(curves, nulls, strict=True):
        curve = table.query("level == 'patient_max'").sort_values("auc")
        for line, column in ((drawn[label], "survival"), (null, "null")):
            values = curve[column].to_numpy()
            np.testing.assert_array_equal(line.get_xdata(), curve["auc"])
            np.testing.assert_allclose(line.get_ydata()[values > floor], values[values > floor], rtol=1e-12)
            assert (line.get_ydata()[values == 0] < floor).all()
        assert null.get_color() is not None
        assert mpl.colors.same_color(null.get_color(), drawn[label].get_color())
    lightness = [np.mean(mpl.colors.to_rgb(drawn[label].get_color())) for label in "abc"]
    assert lightness == sorted(lightness)
    assert np.diff(lightness).min() > 0.15
    assert drawn["a"].get_linewidth() > drawn["b"].get_linewidth()
    markers = [(drawn[label].get_marker(), drawn[label].get_markevery()) for label in "abc"]
    for (one, place), (other, elsewhere) in itertools.combinations(markers, 2):
        assert one != other
        assert place != elsewhere
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c", "expected by chance"]


def asked(name: str, *counts: tuple[int, int, int]) -> Asked:
    keys = ("vulnerable", "still_vulnerable", "newly_vulnerable")
    rows = {t: dict(zip(keys, row, strict=True)) for t, row in zip((0.8, 0.95), counts, strict=True)}
    return Asked(name, f"the {name}", rows, 0.5, 1.0)


def test_sentences_say_how_many_remain() -> None:
    full = asked("whole", (9, 9, 0), (4, 4, 0))
    half, rest, twice = (
        asked("half", (1, 1, 0), (3, 1, 2)),
        asked("rest", (0, 0, 0), (1, 0, 1)),
        asked("twice", (9, 9, 0), (4, 4, 0)),
    )
    start = "4 patients are vulnerable at an attack AUC of 0.95 or more with the whole; "
    assert sentences([full, half, rest, twice], 0.95) == [
        start + "1 of these remains so with the half, and 2 others become vulnerable.",
        start + "none of these remain so with the rest, and 1 other becomes vulnerable.",
        start + "all of these remain so with the twice.",
    ]
    assert sentences([full, half], 0.8) == [
        "9 patients are vulnerable at an attack AUC of 0.8 or more with the whole; 1 of these remains so with the half."
    ]


def test_sentences_step_down_where_nobody_is_vulnerable_at_the_headline() -> None:
    lower = asked("whole", (1, 1, 0), (0, 0, 0))
    assert sentences([lower, asked("half", (1, 1, 0), (0, 0, 0))], 0.95) == [
        "1 patient is vulnerable at an attack AUC of 0.8 or more with the whole; 1 of these remains so with the half."
    ]
    nobody = asked("whole", (0, 0, 0), (0, 0, 0))
    found = sentences([nobody, asked("half", (0, 0, 0), (0, 0, 0)), asked("third", (2, 0, 2), (0, 0, 0))], 0.95)
    start = "No patient is vulnerable at an attack AUC of 0.8 or more with the whole; "
    assert found == [start + "no patient is with the half.", start + "2 patients are with the third."]
