"""Whether the results are what the jobs wrote: every file that provenance lists, and what the store can serve."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tailrisk.config.machine import program
from tailrisk.config.plan import Plan
from tailrisk.provenance import checksum
from tailrisk.stages.packed import everything, reported
from tailrisk.training.places import NOTE

MADE = [
    "audit",
    "compare",
    "confidences",
    "datasets",
    "figures",
    "given",
    "headlines.json",
    "performance",
    "report.html",
    "targets",
]
"""Where in the folder of results the jobs write what provenance lists."""


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written. `target` is what Snakemake calls it; None for what no rule declares.

    Where it is not `sure`, the file could not be checked.
    """

    path: Path
    reason: str
    target: str | None = None
    sure: bool = True


class Written(NamedTuple):
    """A file as the job wrote it: its bytes, its SHA-256, and the file of provenance that says so."""

    size: int
    digest: str
    record: Path


def written(results: Path) -> tuple[dict[str, Written], list[Damage]]:
    """What provenance under `results` lists, by target, and which files of provenance are of no use."""
    found: dict[str, Written] = {}
    faults = []
    for record in sorted((results / "provenance").rglob("*.json")):
        try:
            content = json.loads(record.read_text(encoding="utf-8"))
            if isinstance(content, dict) and "outputs" not in content:
                faults.append(Damage(record, "is of an earlier version, which listed no files", sure=False))
                continue
            outputs = content["outputs"].items()
            found |= {target: Written(output["bytes"], output["sha256"], record) for target, output in outputs}
        except (ValueError, KeyError, TypeError, AttributeError):
            faults.append(Damage(record, "is damaged"))
    return found, faults


def damaged_results(results: Path) -> tuple[list[Damage], int]:
    """What of `results` is not as provenance says or not listed there, and how many files were compared with it."""
    listed, faults = written(results)
    for target, (size, digest, _) in sorted(listed.items()):
        path = results.joinpath(*Path(target).parts[1:])
        if reason := difference(path, size, digest):
            faults.append(Damage(path, reason, target))
    for path in _made(results):
        target = str(Path("results", path.relative_to(results)))
        if target not in listed:
            faults.append(Damage(path, "could not be checked: no provenance lists it", target, sure=False))
    return faults, len(listed)


def damaged_store(store: Path) -> tuple[list[Damage], int]:
    """The files of the store that cannot be read to their end (answers, weights, checkpoints and notes), the notes of
    finished models of which neither answers nor weights are left, and how many files were read."""
    paths = [path for path in sorted(store.glob("*/*/*")) if not path.name.startswith(".")]
    unreadable = {path for path in paths if not _readable(path)}
    faults = []
    for path in paths:
        if path in unreadable:
            faults.append(Damage(path, "is not readable"))
        elif path.name == NOTE and _without_answers(path, unreadable):
            faults.append(Damage(path, "is of a finished model of which no answers are left"))
    return faults, len(paths)


def running(results: Path) -> bool:
    """Whether Snakemake holds the lock of the folder that the results lie in."""
    return any((results.resolve().parent / ".snakemake" / "locks").glob("*.lock"))


def remove(damages: list[Damage]) -> None:
    """Delete what is left of the damaged files, but none that only could not be checked."""
    for damage in damages:
        if damage.sure:
            damage.path.unlink(missing_ok=True)


def commands(damages: list[Damage], results: Path) -> list[str]:
    """The commands that make damaged results again: what is still there goes, then Snakemake is asked for them, but
    for those that the study of the last report no longer has."""
    left = [str(damage.path) for damage in damages if damage.path.exists()]
    past = _past(damages, results)
    targets = [damage.target for damage in damages if damage.target and damage.target not in past]
    elsewhere = [] if results.parent == Path() else ["--directory", str(results.parent)]
    found = [join(["rm", *left])] if left else []
    return found + ([join([program("snakemake"), *elsewhere, *targets])] if targets else [])


def forgotten(damages: list[Damage], results: Path) -> str:
    """The command that deletes the provenance of damaged results that the study of the last report no longer has, and
    that no rule can make again; empty where there are none."""
    listed, past = written(results)[0], _past(damages, results)
    records = {str(listed[target].record) for target in past if target in listed}
    return join(["rm", *sorted(records)]) if records else ""


def _past(damages: list[Damage], results: Path) -> set[str]:
    study = reported(results)
    known = everything(Plan(study)) if study else None
    return {damage.target for damage in damages if known and damage.target and damage.target not in known}


def _made(results: Path) -> Iterator[Path]:
    """The files of jobs, in order, without temporary ones and those of Snakemake."""
    for name in MADE:
        place = results / name
        inside = [place] if place.is_file() else sorted(place.rglob("*"))
        yield from (path for path in inside if path.is_file() and not path.name.startswith("."))


def _without_answers(note: Path, unreadable: set[Path]) -> bool:
    """Whether a model that did not fail has neither readable answers nor weights that could be asked."""
    done = json.loads(note.read_text(encoding="utf-8"))["status"] == "done"
    return done and not {*note.parent.glob("*.parquet"), *note.parent.glob("weights.pt")} - unreadable


def difference(path: Path, size: int, digest: str) -> str:
    """How a file differs from one of `size` bytes and SHA-256 `digest`; empty where it does not."""
    if not path.is_file():
        return "is missing"
    left = path.stat().st_size
    if left < size:
        return f"is truncated: {left} of {size} bytes are left"
    return "" if left == size and checksum(path) == digest else "has changed"


def _readable(path: Path) -> bool:
    """Whether a file of the store is whole, by its page checksums, the checksums of its archive, or its form."""
    try:
        if path.suffix == ".parquet":
            pq.ParquetFile(path, page_checksum_verification=True).read()
        elif path.suffix == ".pt":
            with zipfile.ZipFile(path) as archive:
                return archive.testzip() is None
        elif path.suffix == ".json":
            return "status" in json.loads(path.read_text(encoding="utf-8"))
    except (pa.ArrowException, zipfile.BadZipFile, OSError, ValueError):
        return False
    return True
