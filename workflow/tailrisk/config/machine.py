"""What the machine that runs Snakemake offers; asked at every start, so nothing heavy is imported."""

import os
import re
from pathlib import Path


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """Names of the NVIDIA GPUs that jobs may use: those of CUDA_VISIBLE_DEVICES, else the numbers of all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in devices.glob("nvidia*"))
    return sorted((match[1] for match in found if match), key=int)
