"""An orderly end: a job that is told to stop (SLURM's preemption or time limit) saves what it has."""

import signal
from types import FrameType, TracebackType

TERMINATED = 128 + signal.SIGTERM


class Termination:
    """Within the block, SIGTERM ends the process with exit code 143 and half-written files are taken away.

    While `saving` is set, the signal is only noted in `requested`, so that a training can finish its step, save and
    end by itself.
    """

    def __init__(self) -> None:
        self.requested = self.saving = False
        self._previous: object = None

    def __enter__(self) -> "Termination":
        try:
            self._previous = signal.signal(signal.SIGTERM, self._handle)
        except ValueError:  # only the main thread may set a handler
            self._previous = None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGTERM, self._previous)  # type: ignore[arg-type]

    def end(self) -> None:
        """End the process."""
        raise SystemExit(TERMINATED)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        if not self.saving:
            self.end()
