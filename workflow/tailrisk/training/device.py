"""The device that target models are trained on."""

import os
import platform
from importlib.metadata import version

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
        # Confidences are asked in float32; its products in TF32 are some ten times faster, and their rounding (2⁻¹¹) is
        # far below what another training changes.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
        torch.use_deterministic_algorithms(True)
        # Of the kernels of attention, these two have a backward pass whose bits vary.
        torch.backends.cuda.enable_cudnn_sdp(False)
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs time
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
        "timm": version("timm"),
        "tailrisk": __version__,
    }
