"""A reviewer's check of an artefact: everything after the confidence tables built again, and compared."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tailrisk.config.load import load_study
from tailrisk.config.plan import Plan
from tailrisk.errors import UserError
from tailrisk.stages.artefact import MODELS, STUDY, SUMS, checked
from tailrisk.stages.differences import difference
from tailrisk.stages.drift import installed
from tailrisk.stages.packed import ANALYSIS, is_made, packed
from tailrisk.tables import read_json

KINDS = {".parquet": "tables", ".json": "summaries", ".html": "page", ".svg": "figures (SVG)", ".png": "figures (PNG)"}


def rebuild(folder: Path, output: Path, cores: int) -> Iterator[str]:
    """Build the results of the unpacked artefact in `folder` again, in the new folder `output`, and compare them.

    Ends with UserError where a file of the artefact is missing or not the packed one, the workflow stops, or a result
    differs.
    """
    names = list(checked(folder))
    if output.exists():
        raise UserError(f"{output} exists: remove it, or name another folder with --output")
    made = _to_make(folder, set(names))
    yield f"{len(names)} files are as they were packed; {len(made)} of them are now made again in {output}"
    for name in names:
        if name.startswith(("results/", f"{MODELS}/")) and name not in made:
            place = output / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, place)
    make(folder, output, made, cores)
    found = {name: difference(folder / name, output / name) for name in made}
    yield from _told(found)
    differing = {name: value for name, value in found.items() if value is not None}
    if differing:
        yield from _other_versions(folder)
        raise UserError(f"{len(differing)} of {len(made)} results differ from the packed ones")
    yield "every number, figure and sentence is the packed one"


def _to_make(folder: Path, listed: set[str]) -> list[str]:
    """The results to make again, as the packed study tells them. UserError where one of its results is not listed."""
    wanted = packed(Plan(load_study(folder / STUDY)))
    lacking = [name for name in [STUDY, *wanted] if name not in listed]
    if lacking:
        more = f" and {len(lacking) - 1} more" if len(lacking) > 1 else ""
        raise UserError(f"{folder / SUMS} does not list {lacking[0]}{more}: this is not the whole artefact")
    return [name for name in wanted if is_made(name)]


def make(folder: Path, output: Path, targets: list[str], cores: int) -> None:
    """Let Snakemake make the targets by the packed code. Only rules of the analysis are known to it, so that confidence
    tables stand as they are, although what they were gathered from is not there."""
    words = ["--snakefile", str(folder.resolve() / "Snakefile"), "--directory", str(output.resolve())]
    words += ["--configfile", str(folder.resolve() / STUDY), "--cores", str(cores), "--quiet", "host", "rules"]
    words += ["--allowed-rules", *ANALYSIS, "--", *targets]
    environment = {name: value for name, value in os.environ.items() if name != "SNAKEMAKE_PROFILE"}
    paths = [str(folder.resolve() / "workflow"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment["PYTHONPATH"] = os.pathsep.join(paths)
    if subprocess.run([sys.executable, "-m", "snakemake", *words], env=environment, check=False).returncode:
        raise UserError("the workflow stopped before all results were made: see its messages above")


def _told(found: dict[str, float | None]) -> Iterator[str]:
    """A table of how many results of each kind were compared, and the names of those that differ."""
    yield f"\n{'':16}{'compared':>10}{'equal':>10}{'different':>10}  largest relative difference"
    for suffix, kind in KINDS.items():
        values = [value for name, value in found.items() if Path(name).suffix == suffix]
        differing = [value for value in values if value is not None]
        largest = _number(max(differing)) if differing else "none"
        equal = len(values) - len(differing)
        yield f"{kind:16}{len(values):>10}{equal:>10}{len(differing):>10}  {largest}"
    yield ""
    for name, value in found.items():
        if value is not None:
            yield f"{name}: {_number(value)}"


def _number(value: float) -> str:
    return "not in numbers alone" if value == float("inf") else f"{value:.2g}"


def _other_versions(folder: Path) -> Iterator[str]:
    """The libraries of which another version made the packed report than is here."""
    path = folder / "results" / "provenance" / "report.json"
    there = read_json(path)["outcome"]["Package versions"] if path.is_file() else {}
    for name, version in there.items():
        here = installed(name)
        if here and here != version:
            yield f"{name} is {here} here, and was {version} where the packed results were made"
