"""How far a study is: models, tables, failures, what is under way, how long it will take, and how to go on."""

import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from shlex import join

from tailrisk.config.load import load_study
from tailrisk.config.machine import program
from tailrisk.config.plan import Plan
from tailrisk.stages.drift import changed_sources, library_drift
from tailrisk.stages.failed import MOST_JOBS, described, failed, last_words, told_by_snakemake
from tailrisk.stages.jobs import Job, planned
from tailrisk.stages.stored import READERS, Note, failed_models, models_folder, stored
from tailrisk.training.failure import reasons

WORDS = 3
"""Last lines of a failed job's log that are shown."""
WINDOW = 3 * 3600.0
"""Seconds back in which finished models tell how fast training goes."""
PROVIDED = re.compile(r"^Provided (cores|remote nodes):", re.MULTILINE)
"""Said once, before its first job, by a Snakemake that runs jobs."""
HEAD = 65536
"""Bytes of a log's beginning in which that is looked for."""
STAGES = {"gather": "gathered", "given": "read", "audit": "audited", "audit_figures": "drawn"}


@dataclass(frozen=True)
class Run:
    """The last run of Snakemake in a folder: its own log, whether it holds the folder's lock, when it began (seconds of
    the epoch; 0 where there was none), and whether its jobs went to a cluster."""

    log: Path | None
    locked: bool
    begun: float
    on_cluster: bool


def status(config: Path, results: Path) -> Iterator[str]:
    """Lines to print. Reads notes of the store, logs and provenance; opens no table and writes nothing."""
    plan = Plan(load_study(config))
    run = last_run(results.resolve().parent / ".snakemake")
    jobs = planned(plan, results)
    with ThreadPoolExecutor(READERS) as readers:
        there = dict(zip(jobs, readers.map(lambda job: job.output.exists(), jobs), strict=True))
    notes = stored(plan, plan.experiments.values(), results)
    done = sum(there.values())

    yield from _experiments(plan, results, notes, there)
    yield f"{done} of {len(jobs)} tables and figures are there"
    open_jobs = [job for job in jobs if not there[job]]
    messages = told_by_snakemake(run.log) if run.log else {}
    if run.locked:
        ended = [job for job in open_jobs if str(Path("results") / job.log.relative_to(results)) in messages]
        yield from described(failed(ended, messages, run.begun, results), plan, results, WORDS)
        yield from _under_way([job for job in open_jobs if job not in ended], run)
        yield from _time_left(plan, notes, run)
    else:
        yield from described(failed(open_jobs, messages, run.begun, results, earlier=True), plan, results, WORDS)
    for line in [*library_drift(notes, jobs, results / "store"), *changed_sources(plan, results)]:
        yield f"note: {line}"
    yield from _how_to_go_on(run, done == len(jobs), config, results)


def last_run(folder: Path) -> Run:
    """What Snakemake's `folder` (.snakemake) tells of its last run.

    A Snakemake that was refused, as another held the folder, or that only unlocked it wrote a log, but was no run.
    """
    logs = sorted((folder / "log").glob("*.snakemake.log"), reverse=True)
    locked = any((folder / "locks").glob("*.lock"))
    for log in logs:
        provided = _provided(log)
        if provided:
            return Run(log, locked, _begun(log), provided == "remote nodes")
    return Run(logs[0], locked, _begun(logs[0]), False) if logs else Run(None, locked, 0.0, False)


def _provided(log: Path) -> str | None:
    """What the Snakemake of a log runs jobs on: "cores" or "remote nodes"; None where it ran none."""
    with log.open(encoding="utf-8", errors="replace") as file:
        provided = PROVIDED.search(file.read(HEAD))
    return provided[1] if provided else None


def _begun(log: Path) -> float:
    """When the Snakemake of a log began, in seconds of the epoch, from the log's name."""
    stamp = log.name.removesuffix(".snakemake.log").partition(".")[0]
    return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H%M%S"))


def _experiments(
    plan: Plan, results: Path, notes: Mapping[str, Mapping[int, Note]], there: Mapping[Job, bool]
) -> Iterator[str]:
    """A line for each experiment, and one for what failed in it."""
    made: dict[str, list[tuple[str, bool]]] = {}
    for job, is_there in there.items():
        if job.rule in STAGES:
            made.setdefault(job.about.split()[0], []).append((STAGES[job.rule], is_there))
    width = max(map(len, [*plan.experiments, *plan.study.given]))
    for name, experiment in plan.experiments.items():
        own, tables = notes[name], _made(made[name])
        text = f"{name:{width}}  {len(own)} of {experiment.n_models} target models"
        folder = models_folder(experiment, results)
        if folder is None:
            text += "; its dataset is not prepared yet"
        elif tables and len(own) < experiment.n_models:
            tables += ", of an earlier state: the store lacks models of this one"
        yield f"{text}; {tables}" if tables else text
        lost = failed_models(own)
        if lost:
            pairs = len({number // 2 for number in lost})
            allowed = plan.study.max_failed_pairs
            yield f"  {len(lost)} failed: {reasons(lost)}"
            yield f"  so {pairs} of {experiment.n_models // 2} pairs are lost; max_failed_pairs allows {allowed}"
    for name in plan.study.given:
        yield f"{name:{width}}  a table from elsewhere; {_made(made[name]) or 'not read yet'}"


def _made(stages: list[tuple[str, bool]]) -> str:
    """Which stages of an experiment are done, over all its queries, in words."""
    words = []
    for stage in dict.fromkeys(stage for stage, _ in stages):
        is_there = [there for name, there in stages if name == stage]
        if any(is_there):
            words.append(stage if all(is_there) else f"{stage} {sum(is_there)} of {len(is_there)}")
    return ", ".join(words)


def _under_way(jobs: list[Job], run: Run) -> Iterator[str]:
    """Jobs without result whose log was written since the run began."""
    begun = []
    for job in jobs:
        try:
            written = job.log.stat().st_mtime
        except OSError:
            continue
        if written >= run.begun:
            begun.append((job, time.time() - written))
    if begun:
        yield f"\n{len(begun)} job{'s' if len(begun) > 1 else ''} under way:"
    for job, silent in begun[:MOST_JOBS]:
        words = last_words(job.log)
        yield f"  {job}: last heard of {_duration(silent)} ago" + (f": {words[-1][:160]}" if words else "")
    if len(begun) > MOST_JOBS:
        yield f"  and {len(begun) - MOST_JOBS} more"


def _time_left(plan: Plan, notes: Mapping[str, Mapping[int, Note]], run: Run) -> Iterator[str]:
    """How long training will still take, from the models that this run finished lately."""
    missing = {name: one.n_models - len(notes[name]) for name, one in plan.experiments.items()}
    if not any(missing.values()):
        return
    now = time.time()
    window = min(WINDOW, max(1.0, now - run.begun))
    lately = [note for own in notes.values() for note in own.values() if note.time > now - window]
    if not lately:
        yield "\nno target model was finished lately: no estimate of the time left"
        return
    every = [note.seconds for own in notes.values() for note in own.values()]
    mean = sum(every) / len(every)
    work = sum(
        number * (sum(note.seconds for note in notes[name].values()) / len(notes[name]) if notes[name] else mean)
        for name, number in missing.items()
    )
    at_once = sum(note.seconds for note in lately) / window
    yield (
        f"\nabout {_duration(work / max(at_once, 1e-9))} of training left for {sum(missing.values()):,} target models, "
        f"if it goes on as in the last {_duration(window)} ({len(lately):,} finished); models of experiments that have "
        "none yet are taken to train as long as the others"
    )


def _how_to_go_on(run: Run, is_done: bool, config: Path, results: Path) -> Iterator[str]:
    home, here = results.resolve().parent, Path.cwd()
    own = [] if config == Path("config/config.yaml") else ["--configfile", str(config)]
    if home != here or not Path("Snakefile").exists():  # then to be called in the checkout of the workflow
        own = ["--directory", str(home), "--configfile", str(config.resolve())]
    command = [program("snakemake"), "--profile", "slurm" if run.on_cluster else "local", *own]
    if run.locked:
        quiet = time.time() - run.log.stat().st_mtime if run.log else 0.0
        yield f"\na run holds this folder; its Snakemake last said something {_duration(quiet)} ago. To watch it:"
        yield f"  tail -f {run.log or '.snakemake/log/*'}"
        yield "if that Snakemake is dead (its machine went down, it was killed), end its jobs as docs/cluster.md says,"
        yield "then go on with:"
        yield f"  {join([*command, '--unlock'])}"
        yield f"  {join(command)}"
    elif is_done:
        yield f"\nnothing is missing: {results / 'report.html'}; what an edit would make again is said by:"
        yield f"  {join([*command, '--dry-run'])}"
    else:
        yield "\nto go on (what is finished is kept):" if run.log else "\nto start:"
        yield f"  {join(command)}"
        if not run.log:
            yield "  (or --profile slurm, on a cluster)"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
