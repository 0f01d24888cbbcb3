"""Residual network for signals (Wang, Yan & Oates, IJCNN 2017, section II.C)."""

import torch
from torch import Tensor, nn

from tailrisk.config.architectures import Norm
from tailrisk.config.architectures import ResNet1D as Spec
from tailrisk.models.normalisation import normalisation

KERNELS = (8, 5, 3)


def convolution(n_in: int, n_out: int, kernel: int, norm: Norm) -> nn.Sequential:
    """A convolution that keeps the number of samples, and normalisation, whose shift stands for its bias."""
    before, after = (kernel - 1) // 2, kernel // 2
    # padding="same" does this as well, but warns of the copy that an even kernel needs.
    padding = [nn.ZeroPad1d((before, after))] if before != after else []
    layer = nn.Conv1d(n_in, n_out, kernel, padding=0 if padding else before, bias=False)
    return nn.Sequential(*padding, layer, normalisation(norm, n_out, dimensions=1))


class Block(nn.Module):
    """Convolutions of 8, 5 and 3 samples. The shortcut is normalised, after a convolution of 1 if channels change."""

    def __init__(self, n_in: int, n_out: int, norm: Norm) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index, kernel in enumerate(KERNELS):
            layers += [nn.ReLU()] if index else []
            layers.append(convolution(n_out if index else n_in, n_out, kernel, norm))
        self.residual = nn.Sequential(*layers)
        self.shortcut = normalisation(norm, n_out, dimensions=1) if n_in == n_out else convolution(n_in, n_out, 1, norm)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.residual(x) + self.shortcut(x))


class ResNet1D(nn.Module):
    """Signals [B, leads, samples] → logits [B, n_outputs].

    Three blocks with once, twice and twice `width` channels, mean over samples, linear. Initialised as torch does.
    """

    def __init__(self, spec: Spec, shape: tuple[int, ...], n_outputs: int) -> None:
        super().__init__()
        width = spec.width
        self.blocks = nn.Sequential(
            Block(shape[0], width, spec.norm),
            Block(width, 2 * width, spec.norm),
            Block(2 * width, 2 * width, spec.norm),
        )
        self.head = nn.Linear(2 * width, n_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x).mean(dim=2))
