"""Decoding one file a record, in parallel, into one array on disk: resumable, at a bounded memory."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from tailrisk.datasets.contract import Files, first
from tailrisk.errors import UserError
from tailrisk.tables import read_json, write_json

BLOCK = 64
"""Files that a worker decodes before it hands them on."""
SAVED, SHOWN = 2.0, 10.0
"""Seconds between two notes of what is done on disk, and between two lines of progress."""
Faults = dict[int, tuple[str, str]]
"""Row → reason (missing, unreadable, constant) and detail."""


class BlankError(UserError):
    """A record without content, such as a black image."""


class Decoding:
    """The array that `files` decode to, in the folder `work`, which outlives a job that is killed.

    `work` may hold what an earlier job decoded; it is used where `key`, which says all that decides the result, is the
    same. Rows with faults are tried again.
    """

    def __init__(self, files: Files, work: Path, key: str) -> None:
        self._files, self._work, self._key = files, work, key
        self._raw, self._state = work / "inputs.raw", work / "state.json"
        self._bytes = int(np.prod(files.shape)) * np.dtype(files.dtype).itemsize

    def run(self, allowed: float, threads: int) -> Faults:
        """Decode what is not decoded yet, on `threads` threads or processes; the rows that cannot be used.

        UserError as soon as more than the share `allowed` of them cannot.
        """
        paths = self._files.paths
        done, faults = self._resumed()
        self._work.mkdir(parents=True, exist_ok=True)
        allowance = int(allowed * len(paths))
        progress = _Progress(self._files.kind, len(paths), done)
        # Rows with faults are tried again; until then what was noted of them stands.
        before, faults = faults, {}
        again = sorted(before)
        saved = time.monotonic()
        with self._raw.open("r+b" if done else "w+b") as raw:

            def save() -> None:
                raw.flush()
                os.fsync(raw.fileno())
                state = {"key": self._key, "done": done, "faults": {**before, **faults}}
                write_json(self._state, state)

            try:
                for rows, array, wrong in self._decoded([*again, *range(done, len(paths))], threads):
                    for row, record in zip(rows, array, strict=True):
                        raw.seek(row * self._bytes)
                        raw.write(record.data)
                    before = {row: fault for row, fault in before.items() if row not in rows}
                    faults |= wrong
                    done = max(done, rows[-1] + 1)
                    progress.show(done, len(faults))
                    if len(faults) > allowance:
                        self._refuse(faults, allowed)
                    if time.monotonic() - saved > SAVED:
                        save()
                        saved = time.monotonic()
            finally:
                with contextlib.suppress(OSError):  # of a full disk, which the write above has reported
                    save()
        return faults

    def rows(self, keep: NDArray[np.int64]) -> Iterator[NDArray[Any]]:
        """The decoded records `keep`, in blocks [n, *shape]."""
        shape = (len(self._files.paths), *self._files.shape)
        step = max(1, (1 << 26) // self._bytes)
        for start in range(0, len(keep), step):
            raw = np.memmap(self._raw, dtype=self._files.dtype, mode="r", shape=shape)  # anew, so that pages are freed
            yield raw[keep[start : start + step]]

    def clear(self) -> None:
        """Remove the folder, once its rows lie where they belong."""
        for path in (self._raw, self._state):
            path.unlink(missing_ok=True)
        self._work.rmdir()

    def _resumed(self) -> tuple[int, Faults]:
        """How many rows are decoded already, and which of them have faults."""
        try:
            state = read_json(self._state)
            if state["key"] == self._key and self._raw.stat().st_size >= state["done"] * self._bytes:
                return state["done"], {int(row): (reason, detail) for row, (reason, detail) in state["faults"].items()}
        except (UserError, OSError, KeyError, TypeError):
            pass
        return 0, {}

    def _decoded(self, rows: list[int], threads: int) -> Iterator[tuple[list[int], NDArray[Any], Faults]]:
        # In the order of the rows, so that a count says what is done; joblib keeps a few blocks waiting.
        parallel = Parallel(n_jobs=threads, prefer=self._files.workers, return_as="generator", pre_dispatch="2*n_jobs")
        blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
        files = self._files
        yield from parallel(delayed(_block)(files.decode, files.paths, files.shape, files.dtype, b) for b in blocks)

    def _refuse(self, faults: Faults, allowed: float) -> None:
        n, kind = len(self._files.paths), self._files.kind
        shown = [
            f"{self._files.paths[row]} ({reason}{f': {why}' if why else ''})" for row, (reason, why) in faults.items()
        ]
        raise UserError(
            f"{len(faults)} of {n:,} {kind} cannot be used so far, more than the share {allowed:g} that "
            f"`max_quarantined` allows: {first(shown)}; fetch them again (what is decoded is kept), or raise the share"
        )


def _block(
    decode: Any, paths: Sequence[Path], shape: tuple[int, ...], dtype: Any, rows: list[int]
) -> tuple[list[int], NDArray[Any], Faults]:
    array = np.zeros((len(rows), *shape), dtype=dtype)
    faults: Faults = {}
    for place, row in enumerate(rows):
        try:
            record = decode(paths[row])
            if record.min() == record.max():
                raise BlankError("")
            array[place] = record
        except FileNotFoundError:
            faults[row] = ("missing", "")
        except BlankError as fault:
            faults[row] = ("constant", str(fault))
        except (UserError, OSError) as fault:
            faults[row] = ("unreadable", str(fault))
    return rows, array, faults


class _Progress:
    """A line now and then: how many of the files are read, how fast, and how long it will take."""

    def __init__(self, kind: str, planned: int, done: int) -> None:
        self._kind, self._planned, self._before = kind, planned, done
        self._start = self._last = time.monotonic()

    def show(self, done: int, faults: int) -> None:
        now = time.monotonic()
        if now - self._last < SHOWN:
            return
        self._last = now
        rate = (done - self._before) / (now - self._start)
        left = (self._planned - done) / rate if rate else float("inf")
        line = f"{done:,} of {self._planned:,} {self._kind}, {rate:,.0f} a second, about {left / 60:.0f} min left"
        with contextlib.suppress(BrokenPipeError):
            print(f"{line}; {faults:,} cannot be used" if faults else line, file=sys.stderr, flush=True)


def fault_table(faults: Mapping[int, tuple[str, str]], paths: Sequence[Path]) -> dict[str, list[str]]:
    """Reason and detail (with the file's name) of every fault, in the order of the rows."""
    order = sorted(faults)
    detail = [f"{paths[row]}{f': {faults[row][1]}' if faults[row][1] else ''}" for row in order]
    return {"reason": [faults[row][0] for row in order], "detail": detail}
