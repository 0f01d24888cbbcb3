"""The device that target models are trained on."""

import os
import platform

import numpy as np
import torch

from tailrisk import __version__


def usable(device: str | None) -> torch.device:
    """The device by name, by default the GPU where there is one, set to compute the same bits every time."""
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if where.type == "cpu":
        torch.set_num_threads(1)  # parallelism comes from several jobs; threads would change the last bits
    elif where.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        torch.use_deterministic_algorithms(True, warn_only=True)
    return where


def describe(device: torch.device) -> dict[str, str]:
    """Hardware and versions, for the record: last bits depend on them."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{platform.processor() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {
        "device": f"{device.type}: {name}",
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "tailrisk": __version__,
    }
