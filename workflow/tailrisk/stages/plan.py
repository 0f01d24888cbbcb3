"""What a study will cost on this machine, from a short calibration, before anything runs."""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from tailrisk.config.load import load_study
from tailrisk.config.machine import program
from tailrisk.config.plan import Plan
from tailrisk.config.queries import Augmented
from tailrisk.config.recipe import Training
from tailrisk.config.study import Experiment
from tailrisk.datasets.contract import Prepared, open_prepared
from tailrisk.models import is_stacked
from tailrisk.training import places
from tailrisk.training.device import describe, usable
from tailrisk.training.engine import Stack, predict, steps_per_epoch
from tailrisk.training.halves import record_members, training_rows
from tailrisk.training.job import check_fit, parse_json
from tailrisk.training.memory import fitting, predict_need
from tailrisk.training.order import Orders
from tailrisk.training.resident import Resident, make_resident
from tailrisk.training.stack import stack_size
from tailrisk.training.store import Store, lacks

PROCESS = 350 * 2**20
"""Bytes of a process with torch before it trains anything, as measured."""
BYTES_PER_ANSWER = 10
"""Of one record under one query of one model: in the store, the chunk and the gathered table, compressed."""
MOST_STEPS = 10_000


SECONDS_A_JOB = 10.0
"""Of a job of a cluster before its work: Snakemake starts twice (4 to 6 s), and the libraries of training are loaded
(5 s); measured on a SLURM of 2 cores. A slow file system takes longer."""
SNAKEMAKE = 500 * 10**6
"""Bytes of the two processes of Snakemake in every job of a cluster: as much more must be asked for."""
STATED = re.compile(r"(\d+)(?: *\* *attempt)?|min\((\d+) *\* *attempt, *(\d+)\)")
"""A resource in a profile whose value at the first attempt can be read."""
PROFILE = Path(__file__).parents[2] / "profiles/slurm/profile.yaml"


@dataclass(frozen=True)
class Cost:
    """Of one experiment: target models, those still to be trained, those to be asked further queries from their kept
    weights, the jobs that do both, hours in all and of the longest job, bytes on disk and in memory (the GPU's, where
    there is one), and models trained at once."""

    models: int
    missing: int
    to_ask: int
    jobs: int
    hours: float
    longest: float
    disk: int
    memory: int | None
    stack: int


def plan(config: Path, results: Path, device: str | None, seconds: float) -> Iterator[str]:
    """Lines to print: what is to be trained, expected hours per experiment, disk and memory, and what it asks of a
    cluster.

    A calibration of about `seconds` seconds in all trains a few steps of every experiment, writing nothing.
    """
    study = Plan(load_study(config))
    where = usable(device)
    yield f"on {describe(where)['device']}, one training job at a time:"
    ready = {name: results / "datasets" / name for name in study.datasets}
    ready = {name: folder for name, folder in ready.items() if (folder / "card.json").exists()}
    known = [experiment for experiment in study.experiments.values() if experiment.dataset in ready]
    share = seconds / max(1, len(known))
    costs: dict[str, Cost] = {}
    for experiment in study.experiments.values():
        if experiment.dataset not in ready:
            yield f"  {experiment.name}: {experiment.n_models} target models; not known before the data is prepared"
            continue
        cost = estimate(experiment, study, open_prepared(ready[experiment.dataset]), results / "store", where, share)
        costs[experiment.name] = cost
        memory = "not known" if cost.memory is None else _bytes(cost.memory)
        asking = f" and {cost.to_ask} to ask further queries" if cost.to_ask else ""
        yield (
            f"  {experiment.name}: {cost.missing} of {cost.models} target models to train{asking}, "
            f"{_hours(cost.hours)}, disk {_bytes(cost.disk)}, memory about {memory} a job ({cost.stack} at once)"
        )
    for name in study.study.given:
        yield f"  {name}: a confidence table from elsewhere; nothing to train"
    if len(costs) == len(study.experiments) or any(cost.jobs for cost in costs.values()):
        yield from in_all(costs, where.type == "cuda")
    unready = [name for name in study.datasets if name not in ready]
    if unready:
        yield f"to know the rest, prepare first: {program('snakemake')} datasets --profile local --configfile {config}"


def in_all(costs: Mapping[str, Cost], on_gpu: bool, profile: Path = PROFILE) -> Iterator[str]:
    """Lines on all experiments together: jobs, hours, and how the largest jobs fit into what the profile asks for."""
    jobs, hours = sum(cost.jobs for cost in costs.values()), sum(cost.hours for cost in costs.values())
    if not jobs:
        yield "nothing is left to train"
        return
    yield f"in all {_count(jobs, 'training job')}, {_hours(hours)}{' of one GPU' if on_gpu else ''}"
    if jobs > 1:
        yield "  jobs side by side divide it at best; another device takes another time"
    starting = jobs * SECONDS_A_JOB / 3600
    yield (
        f"  on a cluster, to start {'it' if jobs == 1 else 'them'} takes {_hours(starting)} more "
        f"({SECONDS_A_JOB:.0f} s a job, {starting / (hours + starting):.1%} of all)"
    )
    asked = resources(profile)
    name, longest = max(((name, cost.longest) for name, cost in costs.items()), key=lambda item: item[1])
    time_asked = asked["runtime"] / 60 if "runtime" in asked else None
    mend = "raise `runtime` of train in it, or lower chunk_size"
    yield f"  longest job: {_hours(longest)} ({name}){_against(longest, 'runtime', time_asked, _hours, mend)}"
    needs = {name: cost.memory for name, cost in costs.items() if cost.memory is not None and cost.jobs}
    if not needs:
        return
    name = max(needs, key=lambda one: needs[one])
    if on_gpu:
        yield f"  most memory of a GPU: {_bytes(needs[name])} ({name}); `mem_mb` of the profile is the computer's"
    else:
        need = needs[name] + SNAKEMAKE
        memory_asked = asked["mem_mb"] * 10**6 if "mem_mb" in asked else None
        fit = _against(need, "mem_mb", memory_asked, _bytes, "raise `mem_mb` of train in it")
        yield f"  most memory: {_bytes(need)}, Snakemake included ({name}){fit}"


def resources(profile: Path) -> dict[str, int]:
    """Minutes (runtime) and megabytes (mem_mb) that a profile asks for a training job at its first attempt, as far as
    they are stated as a number, by itself or times `attempt`, or the lesser of the latter and a limit."""
    try:
        read = yaml.safe_load(profile.read_text(encoding="utf-8"))
        stated = {**(read.get("default-resources") or {}), **(read.get("set-resources") or {}).get("train", {})}
    except (OSError, yaml.YAMLError, AttributeError, TypeError):
        return {}
    found = {key: STATED.fullmatch(str(value)) for key, value in stated.items()}
    return {key: min(map(int, filter(None, match.groups()))) for key, match in found.items() if match}


def _against(need: float, resource: str, limit: float | None, words: Callable[[float], str], mend: str) -> str:
    """How a need compares with what the profile asks for, in the same unit; `limit` is None where that is not known."""
    if limit is None:
        return f"; not compared with the slurm profile, which states no `{resource}` of train as a plain number"
    return f"; the slurm profile asks for {words(limit)}" + (f": TOO LITTLE, {mend}" if need > limit else "")


def estimate(
    experiment: Experiment, study: Plan, prepared: Prepared, store: Path, device: torch.device, seconds: float
) -> Cost:
    """The cost of one experiment, measured for about `seconds` seconds."""
    training: Training = parse_json(Training, experiment.recipe, "recipe")
    queries = [study.study.queries[name] for name in experiment.queries]
    recipe, running, rows = training.recipe, study.study.running, prepared.rows("audit")
    check_fit(training, tuple(prepared.inputs.shape[1:]))
    kept, numbers = Store(store, training, prepared.data_hash), range(experiment.n_models)
    lacking = [number for number in numbers if lacks(kept, number, queries, rows.astype(np.int32))]
    place = places.folder(store, experiment.recipe, prepared.data_hash)
    asking = {n for n in lacking if kept.finished(n) and (place / str(n) / "weights.pt").exists()}
    to_train = Counter(number // study.study.chunk_size for number in lacking if number not in asking)
    to_ask = Counter(number // study.study.chunk_size for number in asking)
    data = make_resident(prepared, device, is_stacked(training.model))
    need = predict_need(training, data)
    size = min(running.stack_size or stack_size(training, device), max(to_train.values(), default=1))
    if device.type == "cuda":
        size = fitting(size, need, torch.cuda.mem_get_info(device)[0])

    per_step, per_record, n_weights = _measure(training, data, prepared, numbers[:size], seconds)
    alone = Stack(training, data, numbers[:1], prepared.rows("validation")) if asking else None
    per_record_alone = _per_record(alone, data, rows, 0.3 * seconds) if alone else 0.0
    trainable = int((~prepared.control[rows]).sum())
    n_steps = recipe.epochs * steps_per_epoch(trainable, recipe.batch_size)
    looks = recipe.epochs // recipe.early_stopping.every if recipe.early_stopping else 0
    views = sum(query.views if isinstance(query, Augmented) else 1 for query in queries)
    validation, test = len(prepared.rows("validation")), len(prepared.rows("test"))
    asked = len(rows) * views + test + validation * (1 + looks)
    stack_hours = (n_steps * per_step + asked * per_record) / 3600
    ask_hours = len(rows) * views * per_record_alone / 3600
    hours = [
        max(1.0, to_train[chunk] / size) * stack_hours * (chunk in to_train) + to_ask[chunk] * ask_hours
        for chunk in to_train | to_ask
    ]
    answers = experiment.n_models * len(queries) * len(rows) * BYTES_PER_ANSWER
    disk = answers + (experiment.n_models * n_weights * 4 if running.keep_weights else 0)
    memory = None if need is None else need.of(size) + data.inputs.nbytes + PROCESS * (device.type == "cpu")
    return Cost(
        models=experiment.n_models,
        missing=to_train.total(),
        to_ask=to_ask.total(),
        jobs=len(hours),
        hours=sum(hours),
        longest=max(hours, default=0.0),
        disk=disk,
        memory=memory,
        stack=size,
    )


def _measure(
    training: Training, data: Resident, prepared: Prepared, models: range, seconds: float
) -> tuple[float, float, int]:
    """Seconds of a step and of asking about a record, for a whole stack, and the weights of one model."""
    rows = prepared.rows("audit")
    pools = training_rows(prepared, models, rows, record_members(prepared, training.seed, models, rows))
    orders = Orders(pools, list(models), training.recipe.batch_size)
    stack = Stack(training, data, models, prepared.rows("validation"))
    steps = ((1, next(stack.steps(orders.take(1), step, MOST_STEPS))) for step in range(MOST_STEPS))
    per_step = _per_unit(steps, 0.7 * seconds, data.device)
    return per_step, _per_record(stack, data, rows, 0.3 * seconds), stack.n_weights


def _per_record(stack: Stack, data: Resident, rows: NDArray[np.int64], seconds: float) -> float:
    """Seconds of asking about a record, for a whole stack."""
    answered = ((place.stop - place.start, logits) for place, logits in predict(stack.model, data, rows))
    return _per_unit(answered, seconds, data.device)


def _per_unit(work: Iterator[tuple[int, torch.Tensor]], seconds: float, device: torch.device) -> float:
    """Seconds a unit of `work`, which yields units done; the first round warms up, where there are more."""
    begun = start = time.monotonic()
    units, first = 0, 0
    for count, _ in work:
        units += count
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.monotonic()
        if not first:
            first, start = count, now
        elif now - begun > seconds:
            break
    now = time.monotonic()
    return (now - start) / (units - first) if units > first else (now - begun) / units


def _bytes(n_bytes: float) -> str:
    return f"{n_bytes / 2**30:.1f} GiB" if n_bytes >= 2**30 else f"{n_bytes / 2**20:.0f} MiB"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.1f} min"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
