"""What the machine that runs Snakemake offers; asked at every start, so nothing heavy is imported."""

import os
import re
import shutil
import sys
from pathlib import Path


def gpus(devices: Path = Path("/dev")) -> list[str]:
    """Names of the NVIDIA GPUs that jobs may use: those of CUDA_VISIBLE_DEVICES, else the numbers of all."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"}]
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in devices.glob("nvidia*"))
    return sorted((match[1] for match in found if match), key=int)


def program(name: str) -> str:
    """How a command of this environment is called here: by its name where a shell finds it, else by its place."""
    place = Path(sys.executable).with_name(name)
    if shutil.which(name) or not place.exists():
        return name
    return str(place.relative_to(Path.cwd())) if place.is_relative_to(Path.cwd()) else str(place)
