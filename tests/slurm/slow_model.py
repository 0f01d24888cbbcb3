"""A small network of one's own that a test can slow down or make hungry from outside: results stay the same bits.

Files in the working folder steer it: `slow.json` {"after": models, "seconds": of a step} makes every step of training
take long once the store holds so many finished models; `hungry.json` {"after": models, "megabytes": n} makes it take
so much memory then. Without the files it is fast, so that a disturbed study and an undisturbed one share a recipe.
"""

import json
import time
from math import prod
from pathlib import Path

import torch
from torch import Tensor, nn


class Steered(nn.Module):
    """A multilayer perceptron that looks at the files before every step."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, outputs))
        self.eaten: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, outputs] of records [B, *shape]."""
        if self.training:
            slow, hungry = due("slow.json"), due("hungry.json")
            if slow:
                time.sleep(slow["seconds"])
            if hungry and not self.eaten:
                self.eaten.append(torch.ones(hungry["megabytes"], 2**18))
        return self.layers(x)


def steered(input_shape: tuple[int, ...], n_outputs: int) -> Steered:
    """The network for records of `input_shape`."""
    return Steered(prod(input_shape), n_outputs)


def due(name: str) -> dict[str, int] | None:
    """What a steering file says, where there is one and enough models are finished."""
    try:
        wanted = json.loads(Path(name).read_text())
    except FileNotFoundError:
        return None
    finished = len(list(Path("results/store").glob("*/*/performance.json")))
    return wanted if finished >= wanted["after"] else None
