"""Progress of a job, one line now and then."""

import contextlib
import time
from typing import TextIO


class Progress:
    """Prints models done of planned, epoch, mean training loss and the time left, at most every `interval` seconds.

    Lines begin with `label`, as several jobs may share a terminal.
    """

    def __init__(self, label: str, planned: int, epochs: int, stream: TextIO | None, interval: float = 5.0) -> None:
        self._label = label
        self._planned, self._epochs, self._stream, self._interval = planned, epochs, stream, interval
        self._done = self._resumed = 0.0
        self._start = time.monotonic()
        self._last = self._start

    def epoch(self, epochs: float, loss: float, stack: int) -> None:
        """A stack of `stack` models has finished so many epochs."""
        now = time.monotonic()
        if self._stream is None or now - self._last < self._interval:
            return
        self._last = now
        share = (self._done + stack * epochs / self._epochs) / self._planned
        resumed = self._resumed / self._planned
        left = (now - self._start) * (1 - share) / max(share - resumed, 1e-9)
        say(
            f"{self._label}: {self._done:.0f} of {self._planned} models · next {stack}: "
            f"epoch {epochs:g}/{self._epochs}, loss {loss:.4f} · about {_clock(left)} left",
            self._stream,
        )

    def resume(self, epochs: float, stack: int) -> None:
        """A stack of `stack` models goes on from so many epochs that were done before."""
        self._resumed += stack * epochs / self._epochs

    def stack(self, stack: int) -> None:
        """A stack of `stack` models is finished and stored."""
        self._done += stack


def say(line: str, stream: TextIO | None = None) -> None:
    """Print a line at once. A reader that has gone, as a pipe's may when a job is told to end, is no reason to fail."""
    with contextlib.suppress(BrokenPipeError):
        print(line, file=stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
