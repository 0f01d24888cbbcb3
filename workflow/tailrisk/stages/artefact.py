"""The artefact: one archive from which everything after the confidence tables can be built again without data."""

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from tailrisk.config.architectures import Custom
from tailrisk.config.plan import Plan
from tailrisk.config.study import Study
from tailrisk.errors import UserError
from tailrisk.stages.packed import packed, with_ids
from tailrisk.stages.pseudonyms import Pseudonyms
from tailrisk.tables import replacing

ROOT, SUMS, STUDY, MODELS = "artefact", "SHA256SUMS", "study.yaml", "models"
CODE = (
    "Snakefile",
    "workflow",
    "envs",
    "docs",
    "slurm",
    "local",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "CITATION.cff",
)
"""What is packed of the code: what the workflow needs to run and be installed, and what says how."""
TIME = 315532800
"""Of every file in the archive: 1980-01-01, the earliest that all tools know."""


def artefact(study: Study, results: Path, code: Path, output: Path, identifiers: bool = False) -> None:
    """Write the archive of a finished study to `output`: equal bytes for equal contents.

    results: its folder of results; code: the checkout of the workflow, of which tracked and new files are taken but not
    what git ignores. Ids of records and patients are replaced by numbers unless `identifiers` are asked for. UserError
    names a result that is missing.
    """
    plan = Plan(study)
    results_of = _results(plan, results, identifiers)
    contents = {**_code(code), **_study(study), **results_of, **_provenance(plan, results)}
    with replacing(output) as temporary, temporary.open("wb") as stream:
        _write(stream, contents)


@dataclass(frozen=True)
class Link:
    """A symbolic link of the checkout."""

    target: str


Contents = dict[str, Path | bytes | Link]
"""What the archive holds, by the path in it: a file, bytes, or a link."""


def _code(root: Path) -> Contents:
    """Files of the code. UserError where `root` is no checkout of the workflow."""
    if not (root / "Snakefile").is_file():
        raise UserError(f"{root.resolve()} is no checkout of the workflow: name one with --code")
    found: Contents = {}
    for name in _listed(root):
        path = root / name
        found[str(name)] = Link(str(path.readlink())) if path.is_symlink() else path
    return found


def _listed(root: Path) -> list[Path]:
    git = shutil.which("git")
    if git and (root / ".git").exists():
        words = [git, "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *CODE]
        answer = subprocess.run(words, capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            paths = (Path(name) for name in answer.stdout.split("\0") if name)
            return [path for path in paths if (root / path).is_file() or (root / path).is_symlink()]
    found = []
    for name in CODE:
        path = root / name
        inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]
        found += [file.relative_to(root) for file in inside if file.is_file() or file.is_symlink()]
    return [path for path in found if "__pycache__" not in path.parts]


def _study(study: Study) -> Contents:
    """The configuration with all defaults, and the code of models of one's own, which it then names where it lies."""
    plain: dict[str, Any] = json.loads(study.model_dump_json(exclude={"running"}))
    found: Contents = {}
    for name, model in study.models.items():
        if isinstance(model, Custom):
            plain["models"][name]["path"] = f"{MODELS}/{name}"
            folder, package = Path(model.path), model.function.partition(":")[0].partition(".")[0]
            for file in [*folder.glob("*.py"), *(folder / package).rglob("*.py")]:
                found[f"{MODELS}/{name}/{file.relative_to(folder)}"] = file
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    return found | {STUDY: text.encode()}


def _results(plan: Plan, results: Path, identifiers: bool) -> Contents:
    """The results of the study, those with ids as they are only where identifiers are asked for."""
    found: Contents = {name: _in(results, name) for name in packed(plan)}
    missing = [str(path) for path in found.values() if isinstance(path, Path) and not path.is_file()]
    if missing:
        lacking = f"and {len(missing) - 1} more are missing" if len(missing) > 1 else "is missing"
        raise UserError(f"{missing[0]} {lacking}: run the workflow to the report before packing")
    known: dict[str, Pseudonyms] = {}
    for name, folder in {} if identifiers else with_ids(plan).items():
        if folder not in known:
            known[folder] = Pseudonyms(_in(results, f"{folder}/records.parquet"))
        found[name] = known[folder].replaced(_in(results, name))
    return found


def _provenance(plan: Plan, results: Path) -> Contents:
    """Provenance of all that is packed, and of the chunks that the confidence tables were gathered from."""
    kept = {*packed(plan), *(table for name in plan.experiments for table in plan.chunk_tables(name))}
    found: Contents = {}
    for path in (results / "provenance").rglob("*.json"):
        try:
            outputs = json.loads(path.read_text(encoding="utf-8"))["outputs"]
        except (ValueError, KeyError):
            raise UserError(f"{path} is damaged: delete it and run the workflow again") from None
        if kept & set(outputs):
            found[f"results/{path.relative_to(results)}"] = path
    return found


def _in(results: Path, name: str) -> Path:
    """Where a result of the study lies that rules call `name`."""
    return results.joinpath(*Path(name).parts[1:])


def _write(stream: BinaryIO, contents: Contents) -> None:
    """A compressed archive of `contents` in order of their paths, their checksums last; without times or owners."""
    sums = []
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=stream, compresslevel=6, mtime=0) as packed_stream,
        tarfile.open(mode="w", fileobj=packed_stream) as archive,
    ):
        for name in sorted(contents):
            content = contents[name]
            if isinstance(content, Link):
                link = _entry(name)
                link.type, link.linkname = tarfile.SYMTYPE, content.target
                archive.addfile(link)
                continue
            sums.append(f"{_added(archive, name, content)}  {name}\n")
        _added(archive, SUMS, "".join(sums).encode())


def _added(archive: tarfile.TarFile, name: str, content: Path | bytes) -> str:
    """Add a file, and return its SHA-256."""
    entry = _entry(name)
    with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as source:
        digest = hashlib.file_digest(source, "sha256").hexdigest()
        entry.size = source.seek(0, os.SEEK_END)
        source.seek(0)
        archive.addfile(entry, source)
    return digest


def _entry(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(f"{ROOT}/{name}")
    entry.mtime, entry.mode = TIME, 0o644
    return entry


def checked(folder: Path) -> Iterator[str]:
    """The files that an unpacked artefact lists, in order. UserError where one is missing or has changed."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except OSError:
        raise UserError(f"{folder.resolve()} has no {SUMS}: name the folder of an unpacked artefact") from None
    for line in lines:
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing: unpack the artefact again")
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                raise UserError(f"{path} is not what was packed: unpack the artefact again")
        yield name
