"""What made the files of a job, kept beside the results so that tables and figures themselves stay comparable."""

import hashlib
import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tailrisk import __version__
from tailrisk.tables import write_json

LARGE = 256 * 2**20
"""Bytes above which an input is identified by its size and the data hash of its dataset's card, to save reading it."""
LIBRARIES = {
    "numpy": "numpy",
    "scipy": "scipy",
    "pandas": "pandas",
    "pyarrow": "pyarrow",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "torchvision": "torchvision",
    "timm": "timm",
    "matplotlib": "matplotlib",
    "jinja2": "jinja2",
    "PIL": "pillow",
    "wfdb": "wfdb",
    "pydicom": "pydicom",
    "python_calamine": "python-calamine",
}
"""Modules whose version may show in a result, with the packages that they come in."""
PREPARED = {"records.parquet", "inputs.npy", "labels.npy", "card.json"}
"""What stages read that are given the folder of a prepared dataset, in which those of others lie, too."""


def record(log: Path, written: Sequence[Path], outcome: Any, start: datetime, stage: str, words: Sequence[str]) -> None:
    """Write the provenance of a finished job at `results/provenance/<stage>/….json`, by the place of its `log`.

    `written` are its outputs, `words` the command line, in which the options follow the name of the stage. A fault
    here never fails the job: one line says it, and no older provenance is left behind.
    """
    path = provenance_path(log)
    try:
        write_json(path, described(log, written, outcome, start, stage, words))
    except Exception as error:  # whatever it is, the job itself succeeded
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"warning: the provenance {path} could not be kept: {reason}", file=sys.stderr)
        if path.is_file():
            path.unlink()


def described(
    log: Path, written: Sequence[Path], outcome: Any, start: datetime, stage: str, words: Sequence[str]
) -> dict[str, Any]:
    """What `record` writes, as JSON values."""
    parameters = parsed(words[words.index(stage) + 1 :])
    inputs = sorted(set(_inputs(parameters, log)) - set(written))
    found: dict[str, Any] = {
        "stage": stage,
        "parameters": parameters,
        "inputs": {str(path): _identified(path) for path in inputs},
        "outputs": {str(path): _checked(path) for path in written},
        "outcome": outcome,
    }
    if stage == "train":
        from tailrisk.stages.trained import trained  # noqa: PLC0415  # only a job that trains has loaded its libraries

        found["target_models"] = trained(parameters)
    end = datetime.now(UTC)
    return found | {
        "versions": versions(),
        "machine": machine(),
        "start": start.isoformat(timespec="seconds"),
        "end": end.isoformat(timespec="seconds"),
        "seconds": round((end - start).total_seconds(), 3),
    }


def provenance_path(log: Path) -> Path:
    """Where the provenance of the job with this log is kept."""
    parts = list(log.with_suffix(".json").parts)
    parts[parts.index("logs")] = "provenance"
    return Path(*parts)


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """The options of a stage by name, all of which take a value: JSON parsed, several values of one option as a list.

    What is no option is listed as `arguments`.
    """
    found: dict[str, list[Any]] = {}
    waiting = iter(words)
    for word in waiting:
        name, value = (word[2:], next(waiting, "")) if word.startswith("--") else ("arguments", word)
        found.setdefault(name, []).append(_value(value))
    return {name: values if name == "arguments" or len(values) > 1 else values[0] for name, values in found.items()}


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Versions of the package, of Python, and of the libraries that this process has loaded."""
    loaded = {
        package: importlib.metadata.version(package) for name, package in LIBRARIES.items() if name in sys.modules
    }
    return {"tailrisk": __version__, "python": platform.python_version(), **loaded}


def machine() -> dict[str, Any]:
    """The system, the processor and how many of its cores this process may use, and the GPUs; no name of a host."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.platform(), "processor": _processor(), "cores": cores, "gpus": _gpus()}


def _value(text: str) -> Any:
    """A word of the command line, parsed where it is a JSON object or list."""
    if not text.startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _inputs(parameters: dict[str, Any], log: Path) -> Iterable[Path]:
    """Files that are named by the options, as PATH or NAME=PATH, or lie directly in folders so named.

    Folders that the stage writes to are left out, and so is the one of all results, of which each file has provenance.
    """
    results = Path(*log.parts[: log.parts.index("logs")])
    for name, value in parameters.items():
        if name in {"output", "store"}:
            continue
        for word in value if isinstance(value, list) else [value]:
            if not isinstance(word, str) or len(word) > 4096:
                continue
            for path in (Path(word), Path(word.partition("=")[2])):
                if word and path.is_file():
                    yield path
                elif path.is_dir() and path not in {results, Path()}:
                    files = (file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
                    yield from (file for file in files if name != "dataset" or file.name in PREPARED)


def _identified(path: Path) -> dict[str, Any]:
    """What tells an input from another one: its checksum, or for a large one what the card of its dataset says."""
    if path.stat().st_size <= LARGE:
        return _checked(path)
    card = path.with_name("card.json")
    data_hash = json.loads(card.read_text(encoding="utf-8"))["data_hash"] if card.is_file() else None
    return {"bytes": path.stat().st_size, "data_hash": data_hash}


def _checked(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": checksum(path)}


def _processor() -> str:
    """Name of the processor; of the kind of machine where the system does not tell it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpus() -> list[str]:
    """Names of the machine's GPUs: as the NVIDIA driver lists them, so that torch need not be loaded."""
    found = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = file.read_text(encoding="utf-8").splitlines()
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return found
