"""A network of one parameter, for benchmarks of everything around the training."""

import torch
from torch import Tensor, nn


class OneParameter(nn.Module):
    """The sum of a record's values times one weight, as every logit."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.weight, self.n_outputs = nn.Parameter(torch.ones(())), n_outputs

    def forward(self, records: Tensor) -> Tensor:
        """[batch, ...] to logits [batch, n_outputs]."""
        return (self.weight * records.flatten(1).sum(1, keepdim=True)).expand(-1, self.n_outputs)


def one_parameter(shape: tuple[int, ...], n_outputs: int, number: int) -> nn.Module:
    """As the configuration's architecture `custom` calls it; `number` tells sizes of a study apart."""
    return OneParameter(n_outputs)
