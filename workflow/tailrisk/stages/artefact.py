"""The artefact: one archive from which everything after the confidence tables can be built again without data."""

import gzip
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from tailrisk.config.architectures import Custom
from tailrisk.config.plan import Plan
from tailrisk.config.study import Study
from tailrisk.errors import UserError
from tailrisk.stages.checkout import Link, code, untracked
from tailrisk.stages.packed import packed, reported, with_ids
from tailrisk.stages.pseudonyms import Pseudonyms
from tailrisk.stages.verify import difference, written
from tailrisk.tables import replacing

ROOT, SUMS, STUDY, MODELS = "artefact", "SHA256SUMS", "study.yaml", "models"
FIRST = """This is a finished study, packed with the code that made it. To build its results again and compare them:

    python3 -m venv .venv && .venv/bin/pip install -c envs/constraints.txt .
    .venv/bin/tailrisk rebuild

docs/artefact.md says what is here; README.md is that of the code, whose tests and example studies are not.
"""
"""READ-ME-FIRST.txt of an archive."""
TIME = 315532800
"""Of every file in the archive: 1980-01-01, the earliest that all tools know."""


def artefact(study: Study, results: Path, checkout: Path, output: Path, identifiers: bool = False) -> list[str]:
    """Write the archive of a finished study to `output`, equal bytes for equal contents; return what to know of it.

    results: its folder of results; checkout: that of the workflow, of which the files that git tracks are taken. Ids of
    records and patients are replaced by numbers unless `identifiers` are asked for. UserError names a result that is
    missing, damaged or of another configuration.
    """
    plan = Plan(study)
    remarks = _checked(plan, results)
    results_of = _results(plan, results, identifiers)
    contents: Contents = {
        "READ-ME-FIRST.txt": FIRST.encode(),
        **code(checkout),
        **_study(study),
        **results_of,
        **_provenance(plan, results),
    }
    with replacing(output) as temporary, temporary.open("wb") as stream:
        _write(stream, contents)
    if left := untracked(checkout):
        remarks.append(f"{left} new file{'s' * (left > 1)} of the checkout left out, which git does not track")
    return remarks


Contents = dict[str, Path | bytes | Link]
"""What the archive holds, by the path in it: a file, bytes, or a link."""


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


def _checked(plan: Plan, results: Path) -> list[str]:
    """Compare what is to be packed with its provenance, and return a remark where some of it has none.

    UserError where a result is missing or damaged, or the report is of another configuration.
    """
    names = packed(plan)
    _refuse([f"{path} is missing" for path in (_in(results, name) for name in names) if not path.is_file()])
    last = reported(results)
    if last is not None and _decisive(last) != _decisive(plan.study):
        raise UserError(f"{results}/report.html is of another configuration: run the workflow before packing")
    listed, _ = written(results)
    there = [(_in(results, name), listed[name]) for name in names if name in listed]
    faults = ((path, difference(path, one.size, one.digest)) for path, one in there)
    _refuse([f"{path} {fault}" for path, fault in faults if fault])
    lacking = len(names) - len(there)
    return [f"{lacking} of {len(names)} results could not be checked, as no provenance lists them"] if lacking else []


def _decisive(study: Study) -> dict[str, Any]:
    return study.model_dump(exclude={"running"})


def _refuse(faults: list[str]) -> None:
    if faults:
        more = f" (and {len(faults) - 1} more such files)" if len(faults) > 1 else ""
        raise UserError(f"{faults[0]}{more}: run the workflow to the report before packing, or see tailrisk verify")


def _results(plan: Plan, results: Path, identifiers: bool) -> Contents:
    """The results of the study, those with ids as they are only where identifiers are asked for."""
    found: Contents = {name: _in(results, name) for name in packed(plan)}
    known: dict[str, Pseudonyms] = {}
    for name, folder in {} if identifiers else with_ids(plan).items():
        if folder not in known:
            known[folder] = Pseudonyms(_in(results, f"{folder}/records.parquet"))
        found[name] = known[folder].replaced(_in(results, name))
    return found


def _provenance(plan: Plan, results: Path) -> Contents:
    """Provenance of all that is packed, and of the chunks that the confidence tables were gathered from, but for that
    of earlier versions, which did not say of what it is."""
    kept = {*packed(plan), *(table for name in plan.experiments for table in plan.chunk_tables(name))}
    listed, faults = written(results)
    if damaged := [fault for fault in faults if fault.sure]:
        raise UserError(f"{damaged[0].path} {damaged[0].reason}: tailrisk verify says what to do")
    paths = {one.record for target, one in listed.items() if target in kept}
    return {f"results/{path.relative_to(results)}": path for path in paths}


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
