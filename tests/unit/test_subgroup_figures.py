"""The forest of residuals and the composition of the tail show the table's numbers."""

from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from tailrisk.audit.subgroups import SubgroupOptions, SubgroupResult, subgroup_tests, tie_breakers
from tailrisk.figures import style
from tailrisk.figures.subgroups import LEVEL, SMALL, composition, p_text, subgroups


@pytest.fixture(scope="module")
def audited() -> SubgroupResult:
    """Race with an effect, sex without one, and overlapping findings, one of them rare."""
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(800), rng.integers(1, 5, 800))
    findings = np.empty(patient.size, dtype=object)
    findings[:] = [[name for name, p in (("mass", 0.3), ("rib", 0.01)) if rng.random() < p] for _ in patient]
    race = rng.choice(["Asian", "Black", "White"], 800, p=[0.1, 0.3, 0.6])[patient]
    groups = pd.DataFrame({"race": race, "sex": rng.choice(["F", "M"], 800)[patient], "findings": findings})
    d = rng.normal(size=patient.size) + (race == "Black")
    ties = tie_breakers(np.arange(patient.size).astype(str), 0)
    return subgroup_tests(d, ties, patient, groups, SubgroupOptions(0.05, 199, ["sex"]), 0)


def sorted_rows(table, column):
    return [row for _, part in table.groupby("variable", sort=False)
            for row in part.sort_values(column, ascending=False).to_dict("records")]  # fmt: skip


def bars(ax):
    return [(bar.get_x(), bar.get_width()) for bar in ax.patches if isinstance(bar, Rectangle)]


def test_forest_shows_residuals_and_their_range_by_permutation(audited):
    table = audited.table.query("unit == 'record' and within == ''")
    rows = sorted_rows(table, "residual")
    ax = subgroups(audited.table).axes[0]
    points = [found for found in ax.lines if found.get_marker() == "o" and len(found.get_xdata())]
    assert [point.get_xdata()[0] for point in points] == [row["residual"] for row in rows]
    np.testing.assert_allclose(
        bars(ax), [(row["residual_low"], row["residual_high"] - row["residual_low"]) for row in rows]
    )
    assert (
        {row["p_adjusted"] <= LEVEL for row in rows} == {row["tail_expected"] < SMALL for row in rows} == {True, False}
    )
    for point, row in zip(points, rows, strict=True):
        assert point.get_color() == (style.VERMILLION if row["p_adjusted"] <= LEVEL else style.BLUE)
        assert (point.get_markerfacecolor() == "white") == (row["tail_expected"] < SMALL)
    assert [label.get_text().rsplit(", ", 1)[0] for label in ax.get_yticklabels()] == [row["group"] for row in rows]
    texts = [text.get_text() for text in ax.texts]
    for row in rows:
        assert f"{row['tail_n']:,} ({row['tail_expected']:,.1f})" in texts
    left, right = ax.get_xlim()
    assert left < table["residual_low"].min() and table["residual_high"].max() < right


def test_forest_names_the_p_of_every_test_of_a_variable(audited):
    texts = [text.get_text() for text in subgroups(audited.table).axes[0].texts]
    p = audited.table.groupby(["variable", "unit", "within"])["p_adjusted"].first()
    want = [p[name, "record", within] for name, within in (("race", ""), ("race", "sex"))]
    assert f"race (adjusted p {p_text(want[0])}; within sex {p_text(want[1])})" in texts
    assert f"sex (adjusted p {p_text(p['sex', 'record', ''])})" in texts


def test_composition_shows_the_tail_beside_the_whole_for_both_units(audited):
    figure = composition(audited.table)
    marginal = audited.table.query("within == ''")
    rows = sorted_rows(marginal.query("unit == 'record'"), "share")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [row["group"] for row in rows]
    shares = {(row.unit, row.variable, row.group): (row.share, row.tail_share) for row in marginal.itertuples()}
    for ax, unit in zip(figure.axes, ("record", "patient"), strict=True):
        keys = [(unit, row["variable"], row["group"]) for row in rows]
        want = [share for key in keys for share in shares.get(key, ())]
        assert [width for _, width in bars(ax)] == pytest.approx(want, rel=1e-12)
        assert ax.get_xlim()[1] > max(want)
    assert len(bars(figure.axes[0])) > len(bars(figure.axes[1])) > 0
    assert "findings (groups overlap)" in [text.get_text() for text in figure.axes[0].texts]
    assert [text.get_text() for text in figure.axes[1].texts].count("not one value a patient") == 1


def test_numbers_stand_inside_the_figure_however_many_groups(audited):
    one = audited.table.query("unit == 'record' and within == '' and variable == 'sex'")
    many = pd.concat([one.assign(group=[f"{name} {i}" for name in one["group"]]) for i in range(15)])
    many = pd.concat([many, many.assign(unit="patient")])
    for draw in (subgroups, composition):
        figure = draw(many)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        boxes = [text.get_window_extent(renderer) for ax in figure.axes for text in (*ax.texts, *ax.get_yticklabels())]
        assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width for box in boxes)
        labels = [text.get_window_extent(renderer) for text in figure.axes[0].get_yticklabels()]
        assert len(labels) == 30
        assert not any(above.overlaps(below) for above, below in pairwise(labels))


def test_figures_without_groups_say_so_and_leave_the_users_style_alone(audited):
    before = dict(mpl.rcParams)
    for draw in (subgroups, composition):
        assert "nothing to compare" in draw(audited.table.iloc[:0]).texts[0].get_text()
    assert dict(mpl.rcParams) == before
