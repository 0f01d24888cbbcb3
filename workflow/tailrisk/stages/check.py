"""What a study would run, and all that it lacks on this machine, before anything is prepared or trained."""

import hashlib
import importlib
import multiprocessing
import os
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import comb
from pathlib import Path
from typing import Literal

import numpy as np

from tailrisk.config.architectures import ViT
from tailrisk.config.base import canonical
from tailrisk.config.load import load_study
from tailrisk.config.plan import Plan
from tailrisk.config.queries import Redacted
from tailrisk.config.sources import Columns, FileSource, ImageSource, Source
from tailrisk.config.study import Study
from tailrisk.datasets.contract import Dataset, Files, Prepared
from tailrisk.datasets.needs import Need, absent, missing_files, unmet, unreadable_files
from tailrisk.datasets.prepare import describe, has_changed, is_outdated, read
from tailrisk.datasets.validate import validate_records
from tailrisk.errors import UserError

LARGE, MOST_PROCESSES = 50_000_000, 4
"""Bytes of tables from which on several processes pay, each of which may take 2 GiB."""
ROOTS = ("path", "images", "folder", "demographics", "mimic_iv")
"""Options of sources that name a file or folder."""


@dataclass(frozen=True)
class Line:
    """A line to print: a fault because of which the study would stop, help with it, or something else to know."""

    text: str
    kind: Literal["fault", "help", "told"] = "fault"


def check(config: Path, results: Path = Path("results")) -> Iterator[Line]:
    """What the configuration would run, then of every model, table and dataset in it all that lacks or does not fit.

    Of the sources, tables are read and a few files decoded; nothing is written. UserError where the configuration
    itself is not valid.
    """
    plan = Plan(load_study(config))
    for experiment in plan.experiments.values():
        n = len(plan.chunks(experiment.name))
        jobs = f"{n} training job{'' if n == 1 else 's'}"
        yield Line(f"{experiment.name}: {experiment.n_models} target models in {jobs}", "told")
    yield from _given_tables(plan.study)
    yield from _weights(plan.study)
    yield from _datasets(plan, results / "datasets")


def _given_tables(study: Study) -> Iterator[Line]:
    for name, table in study.given.items():
        yield Line(f"{name}: a confidence table from elsewhere, pairing {table.pairing}", "told")
        for path in (table.confidences, table.records, table.groups):
            if path is not None and not Path(path).exists():
                yield Line(f"experiments.{name}: {path} does not exist (paths start from {Path.cwd()})")


def _weights(study: Study) -> Iterator[Line]:
    for name, model in study.models.items():
        if not isinstance(model, ViT) or model.weights is None:
            continue
        path = Path(model.weights)
        if not path.is_file():
            yield Line(f"models.{name}: the file of pretrained weights {path} does not exist: put it there")
            continue
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != model.sha256:
                yield Line(
                    f"models.{name}: the file of pretrained weights {path} does not have the SHA-256 that `sha256` "
                    "states: it is damaged or not the one meant"
                )


def _datasets(plan: Plan, prepared: Path) -> Iterator[Line]:
    """Lines on all datasets, in their order; side by side where there is much to read."""
    alike: dict[str, list[str]] = {}  # but for the size of images, which no table depends on: read once
    for name, spec in plan.study.datasets.items():
        alike.setdefault(canonical(spec.model_dump(mode="json", exclude={"size"})), []).append(name)
    check_one = partial(_source, plan, prepared)
    sizes = {names[0]: _bytes(plan.dataset(names[0])) for names in alike.values()}
    processes = min(MOST_PROCESSES, os.cpu_count() or 1, len(alike))
    if processes == 1 or sum(sizes.values()) < LARGE:
        for names in alike.values():
            yield from check_one(names)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        longest_first = sorted(alike.values(), key=lambda names: -sizes[names[0]])
        found = {names[0]: pool.submit(check_one, names) for names in longest_first}
        for names in alike.values():
            yield from found[names[0]].result()


def _bytes(spec: Source) -> int:
    """Size of the tables of a source."""
    with suppress(Exception):  # said later
        return sum({need.path: need.path.stat().st_size for need in _needs(spec) if need.path.is_file()}.values())
    return 0


def _source(plan: Plan, prepared: Path, names: list[str]) -> list[Line]:
    """Lines on the datasets `names`, which are read from the same tables."""
    spec, together = plan.dataset(names[0]), ", ".join(names)
    try:
        needs = _needs(spec)
        lacking = [Line(f"{together}: {sentence}") for sentence in unmet(needs)]
        if lacking:
            ask = f"{together}: to get the data: {spec.access}"
            return lacking + ([Line(ask, "help")] if absent(needs) and not isinstance(spec, Columns) else [])
        dataset = read(spec)
        validate_records(dataset, describe(dataset, spec))
        lines = [Line(f"{together}: {line.text}", line.kind) for line in _files(dataset, spec)]
        for name in names:
            wanted = [*_queries(name, dataset, plan), *_drift(name, plan.dataset(name), dataset, prepared / name)]
            lines += [Line(f"{name}: {sentence}") for sentence in wanted]
        if not any(line.kind == "fault" for line in lines):
            lines.append(Line(f"{together}: {_described(dataset)}", "told"))
        return lines
    except UserError as error:
        return [Line(f"{together}: {error}")]
    except Exception as error:
        # Other datasets are to be told of as well; what the error says may hold a patient's row.
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{type(error).__name__} in line {place.lineno} of {Path(place.filename).name}"
        return [Line(f"{together}: a fault of this program, {where}: please report it")]


def _drift(name: str, spec: Source, dataset: Dataset, folder: Path) -> Iterator[str]:
    if (folder / "card.json").exists() and not is_outdated(spec, folder) and has_changed(dataset, folder):
        yield (
            f"the source of '{name}' has changed since {folder} was prepared: remove {folder / 'card.json'}, and the "
            "next run prepares it again"
        )


def _needs(spec: Source) -> list[Need]:
    """What the reader of the source needs; a missing folder that the configuration names stands for all in it."""
    found: list[Need] = importlib.import_module(f"tailrisk.datasets.{spec.module}").needs(spec)
    named = [Path(root) for key in ROOTS if (root := getattr(spec, key, None))]
    gone = [root for root in named if not root.exists()]
    return [next((Need(root) for root in gone if root in need.path.parents), need) for need in found]


def _described(dataset: Dataset) -> str:
    """Records, patients and excluded rows, beside the number of rows that the literature gives."""
    n, patients, excluded = len(dataset.record), len(set(dataset.patient)), len(dataset.excluded)
    text = f"{n:,} records of {patients:,} patients"
    if excluded:
        text += f"; {excluded:,} rows of the source are no records of the cohort"
    rows = dataset.expected.get("rows")
    if rows is not None and rows != n + excluded:
        text += f"; the complete source has {rows:,} rows, this one {n + excluded:,}"
    return text


def _files(dataset: Dataset, spec: Source) -> Iterator[Line]:
    """Whether files that records lie in are there and can be decoded, from a sample of them."""
    if not isinstance(dataset.inputs, Files) or not isinstance(spec, FileSource):
        return
    files, kind, allowed = dataset.inputs, dataset.inputs.kind, spec.max_quarantined
    n = len(files.paths)
    looked, missing, example = missing_files(files)
    if missing:
        yield Line(
            f"{missing} of the {looked} {kind} that were looked for (of {n:,}) are missing, such as {example}; "
            f"`max_quarantined` allows the share {allowed:g}",
            "fault" if _beyond(missing, looked, n, allowed) else "told",
        )
    tried, unfit, why = unreadable_files(files)
    if unfit:
        yield Line(
            f"{unfit} of the {tried} {kind} that were decoded cannot be used, such as {why}",
            "fault" if _beyond(unfit, tried, n, allowed) else "told",
        )
    if not missing and not unfit:
        yield Line(
            f"of {n:,} {kind} {looked:,} were looked for and {tried} decoded: all are there and readable", "told"
        )


def _beyond(wrong: int, looked: int, files: int, allowed: float) -> bool:
    """Whether more than the share `allowed` of all files must be wrong where `wrong` of the `looked` ones are.

    Of a sample, where as many or more would be wrong with a probability below 1 % if just that share of all were.
    """
    if looked == files:
        return wrong > allowed * files
    fewer = sum(comb(looked, n) * allowed**n * (1 - allowed) ** (looked - n) for n in range(wrong))
    return 1 - fewer < 0.01


def _queries(name: str, dataset: Dataset, plan: Plan) -> Iterator[str]:
    """What the queries asked about the dataset `name` state or hide that its records do not have."""
    asked = {query for one in plan.experiments.values() if one.dataset == name for query in one.queries}
    shape = dataset.inputs.shape if isinstance(dataset.inputs, Files) else dataset.inputs.shape[1:]
    spec = plan.dataset(name)
    if isinstance(spec, ImageSource):
        shape = (*shape[:1], *spec.shape)
    for query, options in plan.study.queries.items():
        if query in asked and isinstance(options, Redacted):
            yield from _redaction(f"queries.{query}", options, dataset, shape)


def _redaction(where: str, query: Redacted, dataset: Dataset, shape: tuple[int, ...]) -> list[str]:
    """What is wrong with a redacted query of records of `shape`: every unknown name, or what else there is."""
    plan_redaction = importlib.import_module("tailrisk.training.redact").plan_redaction  # loads torch
    names, key = query.known or query.hidden or [], "known" if query.known else "hidden"

    def fault(asked: Redacted, shape: tuple[int, ...], features: list[str]) -> list[str]:
        try:
            asked = asked.model_copy(update={"fill": "zero"})
            plan_redaction(asked, _one(dataset, shape, features), np.zeros(1, dtype=np.int64), 0, where)
        except UserError as error:
            return [str(error)]
        return []

    # One by one, beside the first feature once more, so that no name stands for all that there is.
    features, wider = [*dataset.features, *dataset.features[:1]], (shape[0] + 1, *shape[1:])
    unknown = [
        sentence for name in names for sentence in fault(query.model_copy(update={key: [name]}), wider, features)
    ]
    return unknown or fault(query, shape, dataset.features)


def _one(dataset: Dataset, shape: tuple[int, ...], features: list[str]) -> Prepared:
    """A prepared dataset with one record of zeros."""
    name = np.array(["one"], dtype=object)
    return Prepared(
        inputs=np.zeros((1, *shape), dtype=dataset.inputs.dtype),
        labels=dataset.labels[:1],
        record=name,
        patient=name,
        split=name,
        control=np.zeros(1, dtype=bool),
        task=dataset.task,
        classes=dataset.classes,
        n_outputs=len(dataset.classes),
        data_hash="",
        features=features,
    )
