"""Survival function of patient AUCs: the share of patients at or above every AUC."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from tailrisk.figures import style

MARKED = (0.8, 0.9, 0.95)
_X_LABEL = "attack AUC t of a patient (maximum over their records)"
_Y_LABEL = "share of patients with AUC ≥ t"


def _level(survival: pd.DataFrame, level: str) -> pd.DataFrame:
    return survival[survival["level"].astype(str) == level].sort_values("auc")


def draw_survival(ax: Axes, survival: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    """Draw the `patient_max` curve, its 95 % band and counts at AUC 0.8, 0.9 and 0.95 on `ax`.

    The null curve is drawn where the design of membership has one, the debiased curve where it was shown to hold.
    """
    curve = _level(survival, "patient_max")
    floor = style.share_axis(ax, int(summary["patients"]))
    t = curve["auc"]
    low, high = style.visible(curve["low"], floor), style.visible(curve["high"], floor)
    ax.fill_between(t, low, high, color=style.BLUE, alpha=0.2, linewidth=0, label="95 % band")
    ax.plot(t, style.visible(curve["survival"], floor), color=style.BLUE, label="observed")
    if curve["debiased"].notna().any():
        debiased = style.visible(curve["debiased"], floor)
        ax.plot(t, debiased, color=style.VERMILLION, linestyle="-.", label="debiased")
    if curve["null"].notna().any():
        null = style.visible(curve["null"], floor)
        ax.plot(t, null, color=style.GREY, linestyle="--", label="expected by chance")
    for row in summary["thresholds"]:
        if row["auc"] not in MARKED:
            continue
        ax.axvline(row["auc"], color=style.GREY, linewidth=0.7, linestyle=":")
        # The label stands above the curve, or below it where the curve runs high.
        height = np.interp(row["auc"] - 0.03, t, np.log(high / floor)) / np.log(1.3 / floor)
        above = height < 0.6
        noun = "patient" if row["patients"] == 1 else "patients"
        ax.text(
            row["auc"] - 0.004,
            0.98 if above else 0.02,
            f"{row['patients']:,} {noun} ≥ {row['auc']:g}",
            transform=ax.get_xaxis_transform(),
            rotation=90,
            ha="right",
            va="top" if above else "bottom",
            fontsize=7.5,
        )
    ax.set_xlim(0.45, 1.0)
    ax.set_xlabel(_X_LABEL)
    ax.set_ylabel(_Y_LABEL)
    style.legend_below(ax)


Curves = Sequence[tuple[str, pd.DataFrame, Mapping[str, Any]]]
"""Audits to draw in one plot: (label, survival table, summary)."""


@style.styled
def survival_overlay(curves: Curves) -> Figure:
    """Survival curves of several models in one plot, in the order of capacity; the colour darkens with that order."""
    figure = Figure(figsize=(style.WIDTH, 4.2), layout="constrained")
    _overlay(figure, curves, np.linspace(0.85, 0.0, len(curves)))
    figure.legend(loc="outside lower center", ncols=min(3, len(curves) + 1))
    return figure


@style.styled
def access(curves: Curves) -> Figure:
    """Survival curves of the queries of one experiment: the first one, full access, darkest and thickest."""
    figure = Figure(figsize=(style.WIDTH, 3.7 + 0.17 * len(curves)), layout="constrained")
    lines = _overlay(figure, curves, np.linspace(0.0, 0.85, len(curves)))
    lines[0].set_linewidth(2.4)
    for place, (line, marker) in enumerate(zip(lines, itertools.cycle(style.MARKERS), strict=False)):
        # One marker in every 0.1 of the AUC, at another place for every curve, so that print needs no colour.
        line.set(marker=marker, markersize=4.5, markevery=(7 * place % 40, 40))
    figure.legend(loc="outside lower center", ncols=1)
    return figure


def _overlay(figure: Figure, curves: Curves, shades: NDArray[np.float64]) -> list[Line2D]:
    """Draw the `patient_max` and null curve of every audit; shades: places on the colour map, from dark to light."""
    ax = figure.subplots()
    sizes = {int(summary["patients"]) for _, _, summary in curves}
    if len(sizes) == 1:
        floor = style.share_axis(ax, sizes.pop())
    else:  # counts on the right would differ from curve to curve
        floor = 0.5 / max(sizes)
        ax.set_yscale("log")
        ax.set_ylim(floor, 1.3)
    lines = []
    # cividis is ordered in lightness, so that the order survives black-and-white print; its yellow end does not.
    for (label, table, _), colour in zip(curves, mpl.colormaps["cividis"](shades), strict=True):
        curve = _level(table, "patient_max")
        lines += ax.plot(curve["auc"], style.visible(curve["survival"], floor), color=colour, label=label)
        if curve["null"].notna().any():
            ax.plot(curve["auc"], style.visible(curve["null"], floor), color=colour, linestyle="--", linewidth=0.8)
    for t in MARKED:
        ax.axvline(t, color=style.GREY, linewidth=0.7, linestyle=":", zorder=0)
    if any(_level(table, "patient_max")["null"].notna().any() for _, table, _ in curves):
        ax.plot([], [], color=style.GREY, linestyle="--", linewidth=0.8, label="expected by chance")
    ax.set_xlim(0.45, 1.0)
    ax.set_xlabel(_X_LABEL)
    ax.set_ylabel(_Y_LABEL)
    return lines
