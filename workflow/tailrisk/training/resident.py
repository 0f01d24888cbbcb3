"""The dataset where it is trained on: whole on the device where it fits, else streamed from disk, a batch ahead."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from tailrisk.datasets.contract import Prepared, Task
from tailrisk.models.stacked import padded

SHARE = 0.5
"""Share of a GPU's free memory that the inputs may take; what is larger is streamed."""


@dataclass(frozen=True)
class Resident:
    """Inputs and labels of a prepared dataset for models on `device`.

    `inputs` [N, *shape] keeps the kind of numbers of the dataset (uint8, float32), as a tensor on the device or as an
    array on disk. For `flat` models (tables) it is [N, padded(F)] float32, zero beyond the F features. `shape` is that
    of a record as prepared, and `labels` is [N] or [N, L].
    """

    inputs: Tensor | NDArray[np.generic]
    labels: Tensor
    task: Task
    shape: tuple[int, ...]
    n_outputs: int
    flat: bool
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def raw(self, rows: Tensor) -> Tensor:
        """Stored inputs [n, …] of the row numbers [n], on the device."""
        return self._fetch(rows).to(self.device, non_blocking=True)

    def near(self, rows: Tensor) -> Tensor:
        """Row numbers where the inputs are: on the device, or on the host if those are on disk."""
        return rows.to(self.device) if isinstance(self.inputs, Tensor) else rows

    def scaled(self, raw: Tensor) -> Tensor:
        """Model inputs from stored ones: uint8 from −1 (0) to 1 (255) as in the paper, all else as it is."""
        return raw.float().div_(127.5).sub_(1.0) if raw.dtype == torch.uint8 else raw.float()

    def batches(self, rows: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Model inputs [K, B, …] and labels [K, B, …] for each tensor of row numbers [K, B].

        Inputs on disk are read by a thread while the batch before is computed on.
        """
        if isinstance(self.inputs, Tensor):
            for numbers in rows:
                yield self._batch(numbers, self._fetch(numbers.flatten()))
            return
        with ThreadPoolExecutor(1) as reader:
            ahead: tuple[Tensor, Future[Tensor]] | None = None
            for numbers in rows:
                following = (numbers, reader.submit(self._fetch, numbers.flatten()))
                if ahead:
                    yield self._batch(ahead[0], ahead[1].result())
                ahead = following
            if ahead:
                yield self._batch(ahead[0], ahead[1].result())

    def encoded(self, values: NDArray[np.generic]) -> Tensor:
        """Stored form [n, …], on the device, of values [n, *shape] as prepared."""
        return _encode(values, self.flat).to(self.device)

    def _batch(self, rows: Tensor, fetched: Tensor) -> tuple[Tensor, Tensor]:
        inputs = self.scaled(fetched.to(self.device, non_blocking=True))
        labels = self.labels.index_select(0, rows.to(self.device).flatten())
        return inputs.view(*rows.shape, *inputs.shape[1:]), labels.view(*rows.shape, *labels.shape[1:])

    def _fetch(self, rows: Tensor) -> Tensor:
        if isinstance(self.inputs, Tensor):
            return self.inputs.index_select(0, rows.to(self.device))
        read = torch.from_numpy(self.inputs[rows.cpu().numpy()])
        return read.pin_memory() if self.device.type == "cuda" else read


def make_resident(
    prepared: Prepared, device: torch.device, flat: bool, fits: Callable[[int], bool] | None = None
) -> Resident:
    """Make a prepared dataset available on `device`.

    Tables are loaded. Images and signals are loaded onto a GPU where they fit (`fits` says so of a number of bytes),
    and otherwise stay on disk, which on a CPU costs next to nothing beside a convolution.
    """
    fits = fits or (lambda n_bytes: device.type == "cuda" and n_bytes < SHARE * torch.cuda.mem_get_info(device)[0])
    inputs: Tensor | NDArray[np.generic] = prepared.inputs
    if flat or fits(prepared.inputs.nbytes):
        inputs = _encode(prepared.inputs, flat).to(device)
    return Resident(
        inputs=inputs,
        labels=torch.from_numpy(np.array(prepared.labels)).to(device),
        task=prepared.task,
        shape=tuple(prepared.inputs.shape[1:]),
        n_outputs=prepared.n_outputs,
        flat=flat,
        device=device,
    )


def _encode(values: NDArray[np.generic], flat: bool) -> Tensor:
    if not flat:
        return torch.from_numpy(np.array(values))
    rows = torch.from_numpy(np.array(values)).flatten(1)
    rows = rows.float().div_(127.5).sub_(1.0) if rows.dtype == torch.uint8 else rows.float()
    return functional.pad(rows, (0, padded(rows.shape[1]) - rows.shape[1])).contiguous()
