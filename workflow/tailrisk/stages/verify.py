"""Whether the results are what the jobs wrote: every file that provenance lists, and what the store can serve."""

import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import join

import pyarrow as pa
import pyarrow.parquet as pq

from tailrisk.provenance import checksum


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written. `target` is what Snakemake calls it; None for what no rule declares."""

    path: Path
    reason: str
    target: str | None = None


def damaged_results(results: Path) -> Iterator[Damage]:
    """The files under `results` that provenance lists and that are missing or differ from it, in the order of paths.

    A file of provenance that cannot be read is one of them: what it lists stays unchecked.
    """
    for record in sorted((results / "provenance").rglob("*.json")):
        try:
            outputs = json.loads(record.read_text(encoding="utf-8"))["outputs"]
            written = {target: (output["bytes"], output["sha256"]) for target, output in outputs.items()}
        except (ValueError, KeyError, TypeError):
            yield Damage(record, "is damaged or of an earlier version, so that its files are not checked")
            continue
        for target, (size, digest) in sorted(written.items()):
            path = results.joinpath(*Path(target).parts[1:])
            if reason := _difference(path, size, digest):
                yield Damage(path, reason, target)


def damaged_store(store: Path) -> Iterator[Damage]:
    """The files of the store that cannot be read to their end: answers, weights, checkpoints and notes."""
    for path in sorted(store.glob("*/*/*")):
        if not path.name.startswith(".") and not _readable(path):
            yield Damage(path, "is not readable")


def remove(damages: list[Damage]) -> None:
    """Delete what is left of the damaged files."""
    for damage in damages:
        damage.path.unlink(missing_ok=True)


def commands(damages: list[Damage], results: Path, removed: bool) -> list[str]:
    """The commands that make damaged results again: what is still there goes, then Snakemake is asked for them."""
    left = [] if removed else [str(damage.path) for damage in damages if damage.path.exists()]
    targets = [damage.target for damage in damages if damage.target]
    elsewhere = [] if results.parent == Path() else ["--directory", str(results.parent)]
    found = [join(["rm", *left])] if left else []
    return found + ([join(["snakemake", *elsewhere, *targets])] if targets else [])


def _difference(path: Path, size: int, digest: str) -> str:
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
