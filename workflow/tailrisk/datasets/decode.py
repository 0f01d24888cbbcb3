"""Decoding one file a record, in parallel, into one array on disk: resumable, at a bounded memory."""

import contextlib
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tailrisk.datasets.contract import Files, first
from tailrisk.errors import UserError
from tailrisk.tables import read_json, write_json

BLOCK, BLOCK_BYTES = 64, 1 << 24
"""Files that a worker decodes before it hands them on: so many, or fewer where together they have more bytes."""
WAITING = 2
"""Blocks per worker that are decoded or wait to be written: what bounds the memory, however slow the disk is."""
STAMP = 16
"""Bytes of what is noted of a file that was decoded: its size and the time of its last change."""
SAVED, SHOWN = 2.0, 10.0
"""Seconds between two notes of what is done on disk, and between two lines of progress."""
Faults = dict[int, tuple[str, str]]
"""Row → reason (missing, unreadable, constant) and detail."""


class BlankError(UserError):
    """A record without content, such as a black image."""


class Decoding:
    """The array that `files` decode to, in the folder `work`, which outlives a job that is killed.

    `work` may hold what an earlier job decoded; it is used where `key`, which says all that decides the result but the
    content of the files, is the same. Rows with faults, and those whose file has
    another size or time of change since, are decoded again.
    """

    def __init__(self, files: Files, work: Path, key: str) -> None:
        self._files, self._work, self._key = files, work, key
        self._raw, self._stamps, self._state = work / "inputs.raw", work / "stamps.raw", work / "state.json"
        self._bytes = int(np.prod(files.shape)) * np.dtype(files.dtype).itemsize
        self._step = max(1, BLOCK_BYTES // self._bytes)

    def run(self, allowed: float, workers: int) -> Faults:
        """Decode what is not decoded yet, on `workers` threads or processes; the rows that cannot be used.

        UserError as soon as more than the share `allowed` of them cannot. What is in memory at a time are `WAITING`
        blocks a worker and one more, of at most `BLOCK_BYTES` bytes (or one record).
        """
        paths = self._files.paths
        done, before = self._resumed()
        self._work.mkdir(parents=True, exist_ok=True)
        if not done:
            self._state.unlink(missing_ok=True)  # a note of other options must not outlive their array
        # Rows with faults are tried again; until then what was noted of them stands.
        again, faults = sorted(before), Faults()
        rows = [*again, *range(done, len(paths))]
        progress = _Progress(self._files.kind, len(paths), len(rows))
        progress.resumed(done - len(again), len(again))
        saved = time.monotonic()
        mode = "r+b" if done else "w+b"
        with self._raw.open(mode) as raw, self._stamps.open(mode) as stamps:

            def save() -> None:
                for file in (raw, stamps):
                    file.flush()
                    os.fsync(file.fileno())
                noted = {row: fault for row, fault in {**before, **faults}.items() if row < done}
                write_json(self._state, {"key": self._key, "done": done, "faults": noted})

            try:
                with contextlib.closing(self._decoded(rows, workers)) as blocks:
                    for block in blocks:
                        # First, as an interruption at any place must leave a row with a fault one that has it.
                        faults |= block.faults
                        for row, record, stamp in zip(block.rows, block.array, block.stamps, strict=True):
                            _write(raw, row * self._bytes, record)
                            _write(stamps, row * STAMP, stamp)
                        before = {row: fault for row, fault in before.items() if row not in block.rows}
                        done = max(done, block.rows[-1] + 1)
                        progress.show(len(block.rows), len(faults))
                        if len(faults) > allowed * len(paths) + 1e-9:
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
        for start in range(0, len(keep), self._step):
            raw = np.memmap(self._raw, dtype=self._files.dtype, mode="r", shape=shape)  # anew, so that pages are freed
            yield raw[keep[start : start + self._step]]

    def clear(self) -> None:
        """Remove the folder, once its rows lie where they belong."""
        shutil.rmtree(self._work)

    def _resumed(self) -> tuple[int, Faults]:
        """How many rows are decoded already, and which of them have faults or another file now."""
        try:
            state = read_json(self._state)
            done = state["done"]
            stamps = np.fromfile(self._stamps, dtype=np.int64).reshape(-1, 2)
            if state["key"] == self._key and self._raw.stat().st_size >= done * self._bytes and len(stamps) >= done:
                faults = {int(row): (reason, detail) for row, (reason, detail) in state["faults"].items()}
                now = (_stamp(path) for path in self._files.paths[:done])
                changed = [row for row, stamp in enumerate(now) if not np.array_equal(stamp, stamps[row])]
                return done, dict.fromkeys(changed, ("changed", "")) | faults
        except (UserError, OSError, ValueError, KeyError, TypeError):
            pass
        return 0, {}

    def _decoded(self, rows: list[int], workers: int) -> Generator["_Block"]:
        """Blocks in the order of the rows, so that a count says what is done."""
        files, size = self._files, min(BLOCK, self._step)
        if workers > 1:  # few files, which may be large, are shared out evenly
            size = max(1, min(size, len(rows) // (4 * workers)))
        blocks = (rows[start : start + size] for start in range(0, len(rows), size))
        tasks = ((block, [files.paths[row] for row in block]) for block in blocks)
        decode = _Decode(files.decode, files.shape, files.dtype)
        if workers == 1 or len(rows) < BLOCK:
            yield from (decode(*task) for task in tasks)
            return
        pool = _pool(files.workers, workers)
        waiting: deque[Future[_Block]] = deque()
        try:
            for task in tasks:
                if len(waiting) == WAITING * workers:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(decode, *task))
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool:
            raise UserError(
                f"a process that decodes {files.kind} was killed, perhaps for its memory: run again with fewer "
                "threads or more memory (what is decoded is kept)"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)

    def _refuse(self, faults: Faults, allowed: float) -> None:
        n, kind = len(self._files.paths), self._files.kind
        shown = [
            f"{self._files.paths[row]} ({reason}{f': {why}' if why else ''})" for row, (reason, why) in faults.items()
        ]
        raise UserError(
            f"{len(faults)} of {n:,} {kind} cannot be used so far, more than the share {allowed:g} that "
            f"`max_quarantined` allows: {first(shown)}; fetch them again (what is decoded is kept), or raise the share"
        )


@dataclass(frozen=True)
class _Block:
    """Decoded rows [n, *shape]; zeros where there is a fault; and the stamps [n, 2] of their files."""

    rows: list[int]
    array: NDArray[Any]
    stamps: NDArray[np.int64]
    faults: Faults


@dataclass(frozen=True)
class _Decode:
    """What a worker does with a block of rows and their files."""

    decode: Callable[[Path], NDArray[Any]]
    shape: tuple[int, ...]
    dtype: Any

    def __call__(self, rows: list[int], paths: list[Path]) -> _Block:
        array = np.zeros((len(rows), *self.shape), dtype=self.dtype)
        stamps = np.stack([_stamp(path) for path in paths])  # before reading: a change while it is read is one
        faults: Faults = {}
        for place, (row, path) in enumerate(zip(rows, paths, strict=True)):
            try:
                record = self.decode(path)
            except FileNotFoundError:
                faults[row] = ("missing", "")
            except BlankError as fault:
                faults[row] = ("constant", str(fault))
            except UserError as fault:
                faults[row] = ("unreadable", str(fault))
            except OSError as fault:
                faults[row] = ("unreadable", fault.strerror or str(fault))
            except MemoryError:
                raise
            except Exception as fault:  # libraries raise whatever they stumble on in a damaged file
                faults[row] = ("unreadable", type(fault).__name__)
            else:
                if record.shape != self.shape:
                    raise ValueError(f"{path} was decoded to {record.shape}, not {self.shape}")
                if record.min() == record.max():
                    faults[row] = ("constant", "")
                else:
                    array[place] = record
        return _Block(rows, array, stamps, faults)


def _stamp(path: Path) -> NDArray[np.int64]:
    """Size in bytes and time of change in nanoseconds of a file; -1 where there is none."""
    try:
        found = path.stat()
    except OSError:
        return np.array([-1, -1])
    return np.array([found.st_size, found.st_mtime_ns])


def _write(file: IO[bytes], place: int, array: NDArray[Any]) -> None:
    file.seek(place)
    file.write(array.data)


def _pool(kind: str, workers: int) -> Executor:
    if kind == "threads":
        return ThreadPoolExecutor(workers)
    # Started anew: a fork would copy locks that pyarrow's threads hold.
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Lets a worker end where the job that started it was killed; it would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


class _Progress:
    """A line now and then: how many of the files are read, how fast, and how long it will take."""

    def __init__(self, kind: str, total: int, planned: int) -> None:
        self._kind, self._total, self._planned, self._done = kind, total, planned, 0
        self._start = self._last = time.monotonic()

    def resumed(self, usable: int, again: int) -> None:
        if usable or again:
            retried = f"; {again:,} that could not be used, or have changed, are decoded again" if again else ""
            self._say(f"{usable:,} of {self._total:,} {self._kind} already decoded{retried}")

    def show(self, decoded: int, faults: int) -> None:
        self._done += decoded
        now = time.monotonic()
        if now - self._last < SHOWN:
            return
        self._last = now
        rate = self._done / (now - self._start)
        left = self._planned - self._done
        line = f"{self._total - left:,} of {self._total:,} {self._kind}, {rate:,.0f} a second"
        seconds = left / rate
        line += f", about {seconds / 60:.0f} min left" if seconds >= 60 else f", about {seconds:.0f} s left"
        self._say(f"{line}; {faults:,} cannot be used" if faults else line)

    @staticmethod
    def _say(line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            print(line, file=sys.stderr, flush=True)


def fault_table(faults: Mapping[int, tuple[str, str]], paths: Sequence[Path]) -> dict[str, list[str]]:
    """Reason and detail (with the file's name) of every fault, in the order of the rows."""
    order = sorted(faults)
    detail = [f"{paths[row]}{f': {faults[row][1]}' if faults[row][1] else ''}" for row in order]
    return {"reason": [faults[row][0] for row in order], "detail": detail}
