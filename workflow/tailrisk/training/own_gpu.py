"""A GPU of one's own: on a machine with several, training jobs that run side by side share none."""

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tailrisk.config.machine import gpus
from tailrisk.training.progress import say

POLL_SECONDS = 1.0


@contextlib.contextmanager
def own_gpu(locks: Path | None = None) -> Iterator[None]:
    """Within the block, CUDA_VISIBLE_DEVICES names one of several GPUs, which no other such block on this machine has.

    Waits for one where all are taken. Where there is none or one, as in the jobs of a cluster, nothing is done. A lock
    is a file's, and ends with the process however that ends. Must be entered before CUDA is first asked for.
    """
    names = gpus()
    if len(names) < 2:
        yield
        return
    with contextlib.ExitStack() as held:
        os.environ["CUDA_VISIBLE_DEVICES"] = _take(names, locks or Path(tempfile.gettempdir()), held)
        try:
            yield
        finally:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(names)


def _take(names: list[str], locks: Path, held: contextlib.ExitStack) -> str:
    told = False
    while True:
        for name in names:
            stream = _opened(locks / f"tailrisk-gpu-{name.replace('/', '-')}.lock")
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(stream)
            else:
                held.callback(os.close, stream)
                return name
        if not told:
            say(f"waiting: other jobs have all {len(names)} GPUs of this machine")
            told = True
        time.sleep(POLL_SECONDS)


def _opened(lock: Path) -> int:
    """A file to lock, which may be another user's: it is opened for reading, made only where it is not there, and
    readable for all."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(lock, os.O_RDONLY)
        with contextlib.suppress(FileExistsError):
            stream = os.open(lock, os.O_RDONLY | os.O_CREAT | os.O_EXCL)
            os.fchmod(stream, 0o644)
            return stream
