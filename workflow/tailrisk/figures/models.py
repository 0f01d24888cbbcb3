"""How many models are enough: the standard error and the survival curve of the same audit with fewer of its models."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tailrisk.figures import style

AIM = 0.05  # the standard error that the paper asks of its 200 models


def _draw_errors(ax: Axes, table: pd.DataFrame) -> None:
    for quantity, colour, marker, label in (
        ("se_all", style.BLUE, "o", "all records"),
        ("se_tail", style.VERMILLION, "s", "the 1 % with the highest AUC"),
    ):
        rows = table[table["quantity"].astype(str) == quantity].sort_values("n_models")
        n = rows["n_models"]
        ax.fill_between(n, rows["low"], rows["high"], color=colour, alpha=0.2, linewidth=0)
        ax.plot(n, rows["value"], color=colour, marker=marker, markersize=5, label=label)
    ax.axhline(AIM, color=style.GREY, linestyle="--", linewidth=0.9)
    ax.text(0.98, AIM, f"{AIM:g} ", transform=ax.get_yaxis_transform(), ha="right", va="bottom", fontsize=7.5)
    models = sorted(table.loc[table["quantity"].astype(str) == "se_all", "n_models"].unique())
    ax.set_xscale("log")
    ax.set_xticks(models, [str(n) for n in models])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlim(models[0] / 1.2, models[-1] * 1.2)
    ax.set_ylim(0, max(1.15 * float(ax.dataLim.y1), 1.3 * AIM))
    ax.set_xlabel("number of target models")
    ax.set_ylabel("mean standard error of a record's AUC")
    style.legend_below(ax)


def _draw_survival(ax: Axes, table: pd.DataFrame, patients: int) -> None:
    curves = table[table["quantity"].astype(str) == "survival"]
    floor = style.share_axis(ax, patients)
    sizes = sorted(curves["n_models"].unique())
    # cividis is ordered in lightness, so that the order survives black-and-white print; its yellow end does not.
    for size, colour in zip(sizes, mpl.colormaps["cividis"](np.linspace(0.8, 0.0, len(sizes))), strict=True):
        rows = curves[curves["n_models"] == size].sort_values("auc")
        low, high = style.visible(rows["low"], floor), style.visible(rows["high"], floor)
        ax.fill_between(rows["auc"], low, high, color=colour, alpha=0.25, linewidth=0)
        ax.plot(rows["auc"], style.visible(rows["value"], floor), color=colour, label=f"{size} models")
    ax.set_xlim(0.45, 1.0)
    ax.set_xlabel("attack AUC t of a patient")
    ax.set_ylabel("share of patients with AUC ≥ t")
    style.legend_below(ax)


@style.styled
def models(table: pd.DataFrame, patients: int) -> Figure:
    """Mean standard error and survival curve against the number of models; bands span the subsamples of each size.

    table: the columns of `audit.convergence.convergence_table`; patients: the number of audited patients.
    """
    figure = Figure(figsize=(style.WIDTH, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[1, 1.15])
    _draw_errors(left, table)
    left.set_title("a  Precision")
    _draw_survival(right, table, patients)
    right.set_title("b  Exposed patients")
    return figure
