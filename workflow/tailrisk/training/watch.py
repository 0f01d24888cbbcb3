"""Which models of a stack have failed."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Watch:
    """Which models have failed, and why; models that are finished by then no longer count."""

    def __init__(self, n_models: int) -> None:
        self.failed: dict[int, str] = {}
        self._ignored = np.zeros(n_models, dtype=bool)

    def look(self, losses: Tensor, weights: Tensor, first_step: int) -> None:
        """Check the losses [steps, K] of the steps from `first_step` on, and the weights [K, P] after them."""
        finite = torch.isfinite(losses).cpu().numpy()
        sound = torch.isfinite(weights).all(dim=1).cpu().numpy()
        for slot in np.flatnonzero(~(finite.all(axis=0) & sound) & ~self._ignored & ~self.failed_slots()):
            if finite[:, slot].all():
                reason = f"weights not finite after step {first_step + len(finite)}"
            else:
                reason = f"loss not finite in step {first_step + int(np.argmin(finite[:, slot])) + 1}"
            self.failed[int(slot)] = reason

    def failed_slots(self) -> NDArray[np.bool_]:
        """Mask [K] of failed models."""
        mask = np.zeros(len(self._ignored), dtype=bool)
        mask[list(self.failed)] = True
        return mask

    def ignore(self, finished: NDArray[np.bool_]) -> None:
        """Models whose result is already kept can no longer fail."""
        self._ignored = finished
