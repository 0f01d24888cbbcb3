"""How every figure looks and how it is written to disk.

Equal input gives equal bytes: the SVG hash salt is fixed and no date, host or version is written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from tailrisk.tables import replacing

# Okabe & Ito (2008): distinguishable with every common colour-vision deficiency.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY = "#6E6E6E"
# Yellow is left out of cycles: too faint on white paper.
CYCLE = (BLUE, VERMILLION, GREEN, ORANGE, PURPLE, SKY, BLACK)
MARKERS = "osD^vPX"

WIDTH = 7.1  # inches: the full text width of A4 and of most journals
RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.6,
    "savefig.dpi": 200,
    "svg.hashsalt": "tailrisk",
    # Text stays text: selectable, and several figures fit in one page. DejaVu is wider than its substitutes.
    "svg.fonttype": "none",
}
_SVG_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}

P = ParamSpec("P")


def _style() -> AbstractContextManager[None]:
    """The common style over matplotlib's defaults, whatever the user's matplotlibrc says."""
    settings: dict[Any, Any] = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    return mpl.rc_context(settings | RC)


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Run a figure function under the common style."""

    @functools.wraps(draw)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            return draw(*args, **kwargs)

    return wrapper


def save(figure: Figure, svg: Path, png: Path) -> None:
    """Write a figure as SVG and PNG, each to a temporary name and then renamed."""
    with _style():
        # The layout is the dearest part of drawing: once for both formats.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for path, kind, metadata in ((svg, "svg", _SVG_METADATA), (png, "png", {"Software": None})):
            with replacing(path) as temporary:
                figure.savefig(temporary, format=kind, metadata=metadata)


def visible(share: ArrayLike, floor: float) -> NDArray[np.float64]:
    """Shares for a log axis that ends at `floor`: zeros lie below it, so a curve leaves the axes and is not cut off."""
    return np.maximum(np.asarray(share, dtype=float), floor / 10)


def share_axis(ax: Axes, n: int, label: str = "patients") -> float:
    """Log axis for shares of n patients, with counts on the right; ends at half a patient, which is returned."""
    floor = 0.5 / max(n, 1)
    ax.set_yscale("log")
    ax.set_ylim(floor, 1.3)

    def counts(share: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(share, dtype=float) * n

    def shares(count: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(count, dtype=float) / n

    right = ax.secondary_yaxis("right", functions=(counts, shares))
    right.set_ylabel(f"number of {label}")
    right.spines["right"].set_visible(True)
    for axis in (ax.yaxis, right.yaxis):
        axis.set_major_locator(mpl.ticker.LogLocator(numticks=12))
        axis.set_minor_formatter(mpl.ticker.NullFormatter())
    right.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda count, _: f"{count:,.0f}"))
    ax.yaxis.set_major_formatter(mpl.ticker.FuncFormatter(lambda share, _: percent(share)))
    return floor


def legend_below(ax: Axes) -> None:
    """A legend under the axes, where it cannot cover a curve."""
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, columnspacing=1.2, borderaxespad=0)


def percent(share: float) -> str:
    """A share as a percentage for people: 100 %, 1.9 %, 0.05 %, 0.002 %."""
    value = 100 * share
    if value == 0:
        return "0 %"
    if value >= 10:
        return f"{value:.0f} %" if abs(value - round(value)) < 0.05 else f"{value:.1f} %"
    return f"{float(f'{value:.2g}'):.10f}".rstrip("0").rstrip(".") + " %"
