"""What has changed since results were made: versions of libraries, and files that datasets were prepared from."""

import importlib.metadata
import json
import platform
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tailrisk import __version__
from tailrisk.config.plan import Plan
from tailrisk.stages.jobs import Job
from tailrisk.stages.stored import READERS, Note

TRAINING = ("python", "torch", "numpy", "timm", "tailrisk")
"""What a note in the store says the version of."""


def library_drift(notes: Mapping[str, Mapping[int, Note]], jobs: Iterable[Job], store: Path) -> Iterator[str]:
    """One line for each version, of models or of tables, that is not the one installed, and what to do; else none.

    `notes` are the finished models by experiment. A library upgrade reruns nothing.
    """
    models = [note.machine for of_one in notes.values() for note in of_one.values()]
    trained = [{name: machine[name] for name in TRAINING if name in machine} for machine in models]
    with ThreadPoolExecutor(READERS) as readers:
        analysed = list(readers.map(_versions, [job for job in jobs if job.rule != "train"]))
    lines = [*_told(trained, "target model", "trained"), *_told(analysed, "job", "run")]
    yield from lines
    if lines:
        yield (
            "nothing is run again for that. To make all tables and figures anew, add --forceall to the command below; "
            f"to train all models anew, delete {store} first"
        )


def changed_sources(plan: Plan, results: Path) -> Iterator[str]:
    """One line for each dataset of which a file that the configuration names was written after it was prepared."""
    for name in plan.datasets:
        card = results / "datasets" / name / "card.json"
        for option, value in plan.dataset(name):
            if option in {"path", "demographics"} and isinstance(value, str) and _newer(Path(value), card):
                yield f"{value} was written after {name} was prepared from it: `tailrisk check` says whether it changed"


def installed(name: str) -> str | None:
    """The version of a library, of Python or of this package that is installed here; None where it is not."""
    if name == "python":
        return platform.python_version()
    try:
        return __version__ if name == "tailrisk" else importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _versions(job: Job) -> dict[str, str]:
    """The versions that a job ran with, where its result is there."""
    try:
        found = json.loads(job.provenance.read_bytes())["versions"]
        return dict(found) if job.output.exists() else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _told(used: list[dict[str, str]], what: str, done: str) -> list[str]:
    counts = Counter((name, version) for versions in used for name, version in versions.items())
    here = {name: installed(name) for name, _ in counts}
    return [
        f"{n:,} {what}{'s' if n > 1 else ''} {done} with {name} {version}; {here[name] or 'none'} is installed"
        for (name, version), n in sorted(counts.items())
        if version != here[name]
    ]


def _newer(path: Path, card: Path) -> bool:
    try:
        return path.is_file() and path.stat().st_mtime > card.stat().st_mtime
    except OSError:
        return False
