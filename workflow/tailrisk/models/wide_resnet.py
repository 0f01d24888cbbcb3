"""Wide residual network for images (Zagoruyko & Komodakis, BMVC 2016)."""

from torch import Tensor, nn

from tailrisk.config.architectures import Norm
from tailrisk.config.architectures import WideResNet as Spec
from tailrisk.models.normalisation import normalisation

SLOPE = 0.1


def convolution(n_in: int, n_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps height and width where the stride is 1."""
    return nn.Conv2d(n_in, n_out, kernel, stride, padding=kernel // 2, bias=False)


def activation(norm: Norm, channels: int) -> nn.Module:
    """Normalisation and LeakyReLU."""
    return nn.Sequential(normalisation(norm, channels, dimensions=2), nn.LeakyReLU(SLOPE))


class Block(nn.Module):
    """Pre-activation block of two 3 × 3 convolutions.

    Where the number of channels changes, the shortcut is a 1 × 1 convolution of the activated input.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.activation = activation(norm, n_in)
        self.residual = nn.Sequential(
            convolution(n_in, n_out, 3, stride), activation(norm, n_out), convolution(n_out, n_out, 3)
        )
        self.shortcut = convolution(n_in, n_out, 1, stride) if n_in != n_out else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(x)
        return self.residual(active) + (x if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """Images [B, channels, height, width] → logits [B, n_outputs].

    A convolution to 16 channels, three groups of (depth − 4)/6 blocks with 16, 32 and 64 times `width` channels, the
    second and third at half the height and width of the one before, normalisation, LeakyReLU(0.1), mean over pixels,
    linear. Convolutions start as in He et al. (ICCV 2015), by the outputs they reach.
    """

    def __init__(self, spec: Spec, shape: tuple[int, ...], n_outputs: int) -> None:
        super().__init__()
        channels = 16
        self.stem = convolution(shape[0], channels, 3)
        blocks = []
        for group in range(3):
            for block in range((spec.depth - 4) // 6):
                n_out = 16 * 2**group * spec.width
                blocks.append(Block(channels, n_out, stride=2 if group and not block else 1, norm=spec.norm))
                channels = n_out
        self.blocks = nn.Sequential(*blocks)
        self.activation = activation(spec.norm, channels)
        self.head = nn.Linear(channels, n_outputs)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE, mode="fan_out", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.blocks(self.stem(x)))
        return self.head(x.mean(dim=(2, 3)))
