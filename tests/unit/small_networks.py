"""Short ways to write architectures, and to run Python in a process of its own."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from tailrisk.config.architectures import Custom, ResNet1D, ViT, WideResNet


def wide_resnet(depth: int, width: int, norm: str = "group") -> WideResNet:
    return WideResNet(architecture="wide_resnet", depth=depth, width=width, norm=norm)


def resnet1d(width: int, norm: str = "group") -> ResNet1D:
    return ResNet1D(architecture="resnet1d", width=width, norm=norm)


def vit(**options) -> ViT:
    if "weights" in options and "sha256" not in options:
        file = Path(options["weights"])
        options["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "0" * 64
    return ViT(architecture="vit", **({"pretrained": False} | options))


def run_python(script: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def spread(model: nn.Module) -> None:
    """Move all weights away from their initial values, so that scales of 1 and shifts of 0 are seen as well."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def custom(path: Path, function: str = "network:make", **arguments) -> Custom:
    return Custom(architecture="custom", function=function, path=str(path), arguments=arguments)
