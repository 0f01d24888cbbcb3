"""Figures show the tables' data, and equal input gives equal bytes."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from audited_study import CAPACITIES, THRESHOLDS, finished
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from tailrisk.figures import style
from tailrisk.figures.capacity import capacity
from tailrisk.figures.roc import aggregate_versus_patients
from tailrisk.figures.subgroups import p_text, subgroups
from tailrisk.figures.survival import survival_overlay
from tailrisk.figures.write import ACCESS_FIGURES, AUDIT_FIGURES, COMPARISON_FIGURES
from tailrisk.tables import read_json, read_table

WIDE = "main.hospital.wide"


def tables(experiment: str = WIDE) -> dict:
    folder = finished().files[experiment].audit
    names = ("survival", "aggregate", "subgroups")
    return {name: read_table(folder / f"{name}.parquet", f"audit_{name}") for name in names} | {
        "summary": read_json(folder / "summary.json")
    }


def line(ax, label: str):
    return next(found for found in ax.lines if str(found.get_label()).startswith(label))


def test_equal_input_gives_equal_bytes_in_another_process_with_other_settings(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsvg.hashsalt: other\naxes.grid: True\nlines.color: red\n")
    audit, out = finished().files[WIDE].audit, tmp_path / "again"
    code = (
        "from pathlib import Path\nfrom tailrisk.figures.write import write_audit_figures\n"
        f"write_audit_figures(Path({str(audit)!r}), Path({str(out)!r}))"
    )
    environment = os.environ | {
        "MATPLOTLIBRC": str(tmp_path / "matplotlibrc"), "PYTHONHASHSEED": "7", "SOURCE_DATE_EPOCH": "1"
    }  # fmt: skip
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    for name in AUDIT_FIGURES:
        for kind in ("svg", "png"):
            first = finished().files[WIDE].figures / f"{name}.{kind}"
            assert first.read_bytes() == (out / f"{name}.{kind}").read_bytes(), f"{name}.{kind}"


def test_every_figure_is_written_and_carries_text_but_no_date() -> None:
    study = finished()
    for folder, names in (
        *((files.figures, AUDIT_FIGURES) for files in study.files.values()),
        *((files.figures, ACCESS_FIGURES) for files in study.access.values()),
        (study.comparison, COMPARISON_FIGURES),
    ):
        assert sorted(path.name for path in folder.iterdir()) == sorted(
            f"{name}.{kind}" for name in names for kind in ("svg", "png")
        )
        for name in names:
            svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
            assert "<text" in svg
            assert "date" not in svg.lower()


def test_survival_panel_shows_curve_band_null_and_counts() -> None:
    data = tables()
    curve = data["survival"].query("level == 'patient_max'").sort_values("auc")
    figure = aggregate_versus_patients(data["aggregate"], data["survival"], data["summary"])
    ax = figure.axes[1]
    floor = 0.5 / data["summary"]["patients"]
    assert ax.get_ylim()[0] == floor
    for label, column in (("observed", "survival"), ("expected", "null")):
        drawn, values = line(ax, label), curve[column].to_numpy()
        np.testing.assert_array_equal(drawn.get_xdata(), curve["auc"])
        np.testing.assert_allclose(drawn.get_ydata()[values > floor], values[values > floor], rtol=1e-12)
        assert (drawn.get_ydata()[values == 0] < floor).all()  # the curve leaves the axes instead of ending inside
    band = ax.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(curve["high"].max())
    texts = [text.get_text() for text in ax.texts]
    counts = {row["auc"]: row["patients"] for row in data["summary"]["thresholds"]}
    assert texts == [f"{counts[t]} patients ≥ {t:g}" for t in (0.8, 0.9, 0.95)]


def test_roc_panel_is_the_mean_over_target_models() -> None:
    data = tables()
    figure = aggregate_versus_patients(data["aggregate"], data["survival"], data["summary"])
    drawn = line(figure.axes[0], "LiRA")
    mean = data["aggregate"].query("attack == 'lira_online'").groupby("fpr")["tpr"].mean()
    np.testing.assert_array_equal(drawn.get_xdata(), mean.index)
    np.testing.assert_allclose(drawn.get_ydata(), np.maximum(mean, 1e-6), rtol=1e-12)
    assert f"{data['summary']['aggregate']['lira_online']['auc']:.3f}" in drawn.get_label()


def test_roc_of_a_single_target_model_has_no_band_but_a_curve() -> None:
    data = tables()
    single = data["aggregate"].query("target_model == 0")
    ax = aggregate_versus_patients(single, data["survival"], data["summary"]).axes[0]
    assert np.isfinite(line(ax, "LiRA").get_ydata()).all()


def test_subgroup_figure_without_groups_says_so() -> None:
    figure = subgroups(tables()["subgroups"].iloc[:0])
    assert "nothing to compare" in figure.texts[0].get_text()


def test_capacity_points_intervals_and_zero_counts() -> None:
    table = read_table(finished().capacity, "capacity")
    figure = capacity(table)
    exposed, useful = figure.axes[:2]
    floor = 0.5 / table["n"].max()
    assert exposed.get_ylim()[0] == floor
    points = [found for found in exposed.lines if found.get_marker() not in ("None", "") and len(found.get_xdata())]
    hollow = [point for point in points if point.get_markerfacecolor() == "white"]
    assert sum(len(point.get_xdata()) for point in points) == len(table)
    assert sum(len(point.get_xdata()) for point in hollow) == (table["patients"] == 0).sum() > 0
    filled = np.sort(np.concatenate([p.get_ydata() for p in points if p.get_markerfacecolor() != "white"]))
    np.testing.assert_allclose(filled, np.sort(table.loc[table["patients"] > 0, "share"]))
    segments = [s for c in exposed.collections if isinstance(c, LineCollection) for s in c.get_segments()]
    np.testing.assert_allclose(np.sort([s[:, 1].max() for s in segments]), np.sort(table["high"]))
    means = table.drop_duplicates("experiment")["performance"]
    np.testing.assert_allclose(useful.lines[0].get_ydata(orig=False), means)
    assert [text.get_text() for text in useful.texts] == list(CAPACITIES)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[: len(THRESHOLDS)] == [f"AUC ≥ {t:g}" for t in THRESHOLDS]


def test_overlay_draws_one_labelled_curve_a_model_darker_with_capacity() -> None:
    curves = []
    for name in CAPACITIES:
        data = tables(f"main.hospital.{name}")
        curves.append((name, data["survival"], data["summary"]))
    ax = survival_overlay(curves).axes[0]
    lightness = []
    for name, table, _ in curves:
        drawn, curve = line(ax, name), table.query("level == 'patient_max'").sort_values("auc")
        values = curve["survival"].to_numpy()
        np.testing.assert_allclose(drawn.get_ydata()[values > 0], values[values > 0])
        lightness.append(np.mean(mpl.colors.to_rgb(drawn.get_color())))
    assert lightness == sorted(lightness, reverse=True)


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    svg, png = tmp_path / "a.svg", tmp_path / "a.png"
    svg.write_text("old")
    figure = Figure()

    def full_disk(path: Path, **_: object) -> None:
        path.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure, "savefig", full_disk)
    with pytest.raises(OSError, match="No space"):
        style.save(figure, svg, png)
    assert [path.name for path in tmp_path.iterdir()] == ["a.svg"]
    assert svg.read_text() == "old"


@given(st.floats(1e-9, 1))
def test_percent_keeps_two_significant_digits(share: float) -> None:
    assert float(style.percent(share).removesuffix(" %")) / 100 == pytest.approx(share, rel=0.051)


def test_percent_and_p_for_people() -> None:
    assert [style.percent(s) for s in (0, 1, 0.5, 0.117, 0.0186, 2e-5)] == [
        "0 %", "100 %", "50 %", "11.7 %", "1.9 %", "0.002 %"
    ]  # fmt: skip
    assert [p_text(p) for p in (0.0004, 0.031, 1.0, float("nan"))] == ["< 0.001", "0.031", "1", "not computed"]


def test_style_does_not_leak_into_the_users_settings() -> None:
    before = dict(mpl.rcParams)
    subgroups(pd.DataFrame(columns=tables()["subgroups"].columns))
    assert dict(mpl.rcParams) == before
