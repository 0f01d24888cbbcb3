"""Normalisation layers of convolutional networks."""

from torch import nn

from tailrisk.config.architectures import Norm

GROUPS = 16
"""Groups of group normalisation, as in the paper."""


def normalisation(kind: Norm, channels: int, dimensions: int) -> nn.Module:
    """A layer that normalises `channels` of images (2 dimensions) or signals (1), with one scale and shift a channel.

    Group normalisation needs a multiple of 16 channels; it never looks at the other records of a batch.
    """
    if kind == "group":
        return nn.GroupNorm(GROUPS, channels)
    return nn.BatchNorm2d(channels) if dimensions == 2 else nn.BatchNorm1d(channels)
