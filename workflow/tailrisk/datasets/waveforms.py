"""Signals: the leads that are wanted from a WFDB record or an array, checked against what was announced."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import wfdb
from numpy.typing import NDArray

from tailrisk.datasets.contract import first
from tailrisk.errors import UserError

VOLTS = {"v": 0, "mv": -3, "uv": -6, "nv": -9}
"""Volts, as a power of ten, in the units of headers in lower case."""


@dataclass(frozen=True)
class Wanted:
    """The leads of a signal by name, samples of each, samples per second, and a unit a lead; None takes any."""

    leads: Sequence[str]
    samples: int
    rate: float | None = None
    units: Sequence[str] | None = None


def waveform(file: Path, wanted: Wanted) -> NDArray[np.float32]:
    """One signal [leads, samples] from the WFDB record of a header (.hea), or from an array (.npy).

    UserError where it is damaged or not as announced, FileNotFoundError where it or its samples are missing.
    """
    signal = _array(file, wanted) if file.suffix == ".npy" else _record(file, wanted)
    if signal.shape[1] != wanted.samples:
        raise UserError(f"{signal.shape[1]:,} samples a lead, not {wanted.samples:,}")
    lacking = ~np.isfinite(signal).all(axis=1)
    if lacking.any():
        raise UserError(f"lead {wanted.leads[int(lacking.argmax())]} has samples without a value")
    return np.ascontiguousarray(signal, dtype=np.float32)


def _record(file: Path, wanted: Wanted) -> NDArray[np.float64]:
    if not all(line.isascii() for line in file.read_bytes().splitlines() if not line.startswith(b"#")):
        # wfdb passes over such characters, and reads a millionth of a volt as a volt.
        raise UserError("its header has letters beyond ASCII: write uV for microvolts")
    try:
        record = wfdb.rdrecord(str(file.with_suffix("")), physical=False)
        # A header that leaves out the checksum has no names either. Of several samples a frame, the average is read.
        sound = max(record.samps_per_frame) > 1 or record.checksum == record.calc_checksum()
        names, units = [str(name).strip() for name in record.sig_name], list(record.units)
        values = record.dac(return_res=64)
    except FileNotFoundError:
        raise
    except Exception as error:  # wfdb raises whatever its parser stumbles on
        raise UserError(f"not a readable WFDB record: {' '.join(str(error).split())}") from None
    columns = [_column(name, names) for name in wanted.leads]
    if not sound:
        raise UserError("its samples do not agree with the checksum in its header")
    if wanted.rate is not None and record.fs != wanted.rate:
        raise UserError(f"{record.fs:g} samples per second, not {wanted.rate:g}")
    scale = np.ones(len(columns))
    if wanted.units is not None:
        given = [str(units[column]) for column in columns]
        scale[:] = [_scale(*three) for three in zip(wanted.leads, given, wanted.units, strict=True)]
    return np.asarray(values[:, columns].T * scale[:, None])


def _column(lead: str, names: list[str]) -> int:
    """Which signal of a record is the lead; older files write aVR where newer ones write AVR."""
    found = [number for number, name in enumerate(names) if name.casefold() == lead.casefold()]
    if len(found) != 1:
        many = f"{len(found)} of its leads are" if found else "none of its leads is"
        raise UserError(f"{many} called {lead}: it has {first(names, 12)}")
    return found[0]


def _scale(lead: str, given: str, wanted: str) -> float:
    """What values in the unit `given` are multiplied by to be in `wanted`."""
    if given == wanted:
        return 1.0
    old, new = VOLTS.get(given.lower()), VOLTS.get(wanted.lower())
    if old is None or new is None:
        raise UserError(f"lead {lead} is in {given}, not in {wanted}")
    return float(10.0 ** (old - new))


def _array(file: Path, wanted: Wanted) -> NDArray[np.float64]:
    try:
        array = np.load(file, allow_pickle=False)
    except OSError:
        raise
    except Exception as error:  # a damaged header is read as if it were Python
        raise UserError(f"not a readable array: {' '.join(str(error).split())}") from None
    if array.ndim != 2 or len(array) != len(wanted.leads):
        shape = " × ".join(map(str, array.shape))
        raise UserError(f"an array of {shape}, not of {len(wanted.leads)} leads × {wanted.samples} samples")
    if array.dtype.kind not in "iuf":
        raise UserError(f"values of the type {array.dtype}, not numbers")
    return array.astype(np.float64)
