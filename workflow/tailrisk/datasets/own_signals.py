"""A user's own signals: a manifest, and a WFDB record or an array [leads, samples] for each of its rows."""

from functools import partial
from pathlib import Path

import numpy as np

from tailrisk.config.sources import Signals
from tailrisk.datasets import manifest
from tailrisk.datasets.contract import Dataset, Files
from tailrisk.datasets.needs import Need
from tailrisk.datasets.waveforms import Wanted, waveform


def needs(spec: Signals) -> list[Need]:
    """The table with its columns, and the folder of the signals."""
    return manifest.needs(spec)


def read(spec: Signals) -> Dataset:
    """One record a row of the table. A path to .npy is an array; any other names a WFDB record, with .hea or not."""
    values = "Values" if spec.units is None else f"Values in {', '.join(dict.fromkeys(_units(spec) or []))}"
    return manifest.files_dataset(spec, partial(_inputs, spec), spec.leads, f"{values} as they are.")


def _inputs(spec: Signals, paths: list[Path]) -> Files:
    files = [_signal_file(path) for path in paths]
    wanted = Wanted(spec.leads, spec.samples, spec.rate, _units(spec))
    # Processes, as most of the time goes into wfdb's parsing of headers, in Python.
    headers = any(file.suffix == ".hea" for file in files)
    shape, decode = (len(spec.leads), spec.samples), partial(waveform, wanted=wanted)
    return Files(files, decode, shape, np.float32, "signals", "processes" if headers else "threads")


def _units(spec: Signals) -> list[str] | None:
    return [spec.units] * len(spec.leads) if isinstance(spec.units, str) else spec.units


def _signal_file(path: Path) -> Path:
    """The array, or the header of a WFDB record: its name may come without a suffix, or with that of its samples."""
    if path.suffix in {".npy", ".hea"}:
        return path
    return path.with_suffix(".hea") if path.suffix == ".dat" else path.with_name(f"{path.name}.hea")
