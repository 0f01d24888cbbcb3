"""Reading one file a record, in parallel, into one array."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import DTypeLike, NDArray

from tailrisk.datasets.contract import first
from tailrisk.errors import UserError


def read_files(
    read: Callable[[Path], NDArray[Any]],
    files: Sequence[Path],
    shape: tuple[int, ...],
    dtype: DTypeLike,
    kind: str,
    workers: Literal["threads", "processes"],
) -> NDArray[Any]:
    """What `read` makes of every file, each of `shape`, as one array [len(files), *shape] of `dtype`.

    Only as many files as there are cores are held at a time. `read` raises UserError for a file that is unfit; the
    sentence raised here counts all of them and calls them by `kind` ("images").
    """
    array = np.empty((len(files), *shape), dtype=dtype)
    faults = []
    parallel = Parallel(n_jobs=-1, prefer=workers, return_as="generator")
    for row, result in enumerate(parallel(delayed(_attempt)(read, file) for file in files)):
        if isinstance(result, UserError):
            faults.append(f"{files[row]} {result}")
        else:
            array[row] = result
    if faults:
        raise UserError(f"{len(faults)} of {len(files)} {kind} cannot be used: {first(faults)}; fetch them again")
    return array


def _attempt(read: Callable[[Path], NDArray[Any]], file: Path) -> NDArray[Any] | UserError:
    try:
        return read(file)
    except UserError as error:
        return error
