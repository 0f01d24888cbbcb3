"""What the machine that runs Snakemake offers; asked at every start, so nothing heavy is imported."""

import os
import re
from pathlib import Path


def gpus(devices: Path = Path("/dev")) -> int:
    """Number of NVIDIA GPUs that jobs of this machine may use: those of CUDA_VISIBLE_DEVICES, else all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in {"", "-1"}])
    return sum(re.fullmatch(r"nvidia\d+", path.name) is not None for path in devices.glob("nvidia*"))
