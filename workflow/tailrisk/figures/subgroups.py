"""Who is over-represented among the most exposed records."""

from __future__ import annotations

from textwrap import shorten

import pandas as pd
from matplotlib.figure import Figure

from tailrisk.figures import style

LEVEL = 0.05
SMALL = 5  # expected count below which a Pearson residual is far from normal


@style.styled
def subgroups(subgroups: pd.DataFrame) -> Figure:
    """Pearson residual (O − E)/√E of every group in the tail, by variable.

    Vermillion marks the groups of variables with p_adjusted ≤ 0.05; hollow points expect fewer than 5 records.
    """
    if subgroups.empty:
        figure = Figure(figsize=(style.WIDTH, 0.8))
        figure.text(0.5, 0.5, "No group variable with two known groups: nothing to compare.", ha="center")
        return figure
    rows = len(subgroups) + subgroups["variable"].nunique()
    figure = Figure(figsize=(style.WIDTH, max(2.2, 1.3 + 0.2 * rows)), layout="constrained")
    ax = figure.subplots()
    ticks: list[tuple[float, str]] = []
    y = 0.0
    for variable, table in subgroups.groupby("variable", sort=False, observed=True):
        p = table["p_adjusted"].iloc[0]
        ax.text(
            0.0,
            y,
            f"{variable} (adjusted p {p_text(p)})",
            transform=ax.get_yaxis_transform(),
            ha="left",
            va="center",
            fontsize=8,
            weight="bold",
        )
        for row in table.sort_values("residual", ascending=False).itertuples():
            y += 1
            colour = style.VERMILLION if p <= LEVEL else style.BLUE
            hollow = row.tail_expected < SMALL
            ax.plot([0, row.residual], [y, y], color=colour, linewidth=1, zorder=2)
            ax.plot(row.residual, y, "o", color=colour, markerfacecolor="white" if hollow else colour, zorder=3)
            ax.text(
                1.01,
                y,
                f"{row.tail_n:,} ({row.tail_expected:,.1f})",
                transform=ax.get_yaxis_transform(),
                ha="left",
                va="center",
                fontsize=8,
            )
            ticks.append((y, f"{shorten(str(row.group), 36, placeholder=' …')}, {style.percent(row.share)}"))
        y += 1
    ax.spines["left"].set_visible(False)
    ax.set_yticks([tick for tick, _ in ticks], [text for _, text in ticks])
    ax.tick_params(axis="y", length=0)
    ax.set_ylim(y - 0.4, -0.6)
    ax.axvline(0, color=style.BLACK, linewidth=0.7, zorder=1)
    limit = max(3.0, 1.12 * float(subgroups["residual"].abs().max()))
    ax.set_xlim(-limit, limit)
    ax.axvspan(-2, 2, color=style.GREY, alpha=0.1, linewidth=0, zorder=0)
    ax.set_xlabel("Pearson residual (shaded: within ±2)")
    ax.set_title("Group and its share of records")
    ax.set_title("in the tail (expected)", loc="right", fontsize=8, weight="normal")
    for colour, face, text in (
        (style.VERMILLION, style.VERMILLION, f"adjusted p ≤ {LEVEL}"),
        (style.BLUE, style.BLUE, f"adjusted p > {LEVEL}"),
        (style.GREY, "white", f"fewer than {SMALL} expected"),
    ):
        ax.plot([], [], "o", color=colour, markerfacecolor=face, label=text)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def p_text(p: float) -> str:
    """A p-value for people: 0.03, < 0.001, or "not computed" for a missing one."""
    if pd.isna(p):
        return "not computed"
    return "< 0.001" if p < 0.001 else f"{p:.2g}"
