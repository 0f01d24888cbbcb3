"""A few records of a prepared dataset as models see them; only of sources whose licence allows it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.figures import style

DATASET_FIGURES = ("inputs",)
SHOWN, SEED = 8, 0
LEADS = ("I", "II", "V2")
"""Leads that are drawn of signals that have them; else the first ones."""
CLIPPED = 99.5
"""Percentile of the size of signals where the axis ends; one artefact would flatten all else."""


def write_dataset_figures(dataset: Path, folder: Path) -> None:
    """Write DATASET_FIGURES of a prepared dataset of images or signals into `folder`."""
    style.save(inputs(open_prepared(dataset)), folder / "inputs.svg", folder / "inputs.png")


@style.styled
def inputs(prepared: Prepared) -> Figure:
    """SHOWN random audited records, without a word of who they are: images [C, H, W], or signals [leads, samples]."""
    audited = prepared.rows("audit")
    rows = np.random.default_rng(SEED).permutation(audited)[:SHOWN]
    chosen = [np.asarray(prepared.inputs[row]) for row in rows]
    return _traces(chosen, prepared.features) if chosen[0].ndim == 2 else _pictures(chosen)


def _pictures(chosen: Sequence[NDArray[Any]]) -> Figure:
    channels, height, width = chosen[0].shape
    columns = min(4, len(chosen))
    lines = -(-len(chosen) // columns)
    side = style.WIDTH / columns
    figure = Figure(figsize=(style.WIDTH, max(1.0, lines * side * min(2.0, height / width))), layout="constrained")
    for ax in _axes(figure, lines, columns, len(chosen)):
        ax.set_axis_off()
    for ax, image in zip(figure.axes, chosen, strict=True):
        pixels = image[0] if channels == 1 else image.transpose(1, 2, 0)
        # Pixels as they are: neither smoothed nor stretched to the range of the image.
        ax.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none")
    return figure


def _traces(chosen: Sequence[NDArray[Any]], names: Sequence[str]) -> Figure:
    leads = [names.index(name) for name in LEADS if name in names] or list(range(min(len(LEADS), len(chosen[0]))))
    columns = min(2, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(style.WIDTH, 0.4 + 0.3 * (1 + len(leads)) * lines), layout="constrained")
    apart = 2 * float(np.percentile(np.abs([_centred(signal[leads]) for signal in chosen]), CLIPPED)) or 1.0
    for ax, signal in zip(_axes(figure, lines, columns, len(chosen)), chosen, strict=True):
        for place, lead in enumerate(_centred(signal[leads])):
            ax.plot(np.clip(lead, -apart, apart) - place * apart, color=style.BLACK, linewidth=0.5)
        ax.set_yticks([-place * apart for place in range(len(leads))], [names[lead] for lead in leads])
        ax.set_ylim(-(len(leads) - 0.4) * apart, 0.6 * apart)
        ax.set_xlim(0, signal.shape[1] - 1)
        ax.set_xticks([])
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
    return figure


def _axes(figure: Figure, lines: int, columns: int, used: int) -> list[Axes]:
    """The first `used` axes of a grid; the others are taken away."""
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax in axes[used:]:
        ax.remove()
    return axes[:used]


def _centred(signal: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(signal - np.median(signal, axis=1, keepdims=True), dtype=np.float64)
