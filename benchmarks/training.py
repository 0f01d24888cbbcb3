"""Time of training target models: a loop as in public attack code, one model at a time in memory, and this package.

Usage: python benchmarks/training.py [--case wrn] [--models 2] [--epochs 4] [--repeats 3] [--device cpu] [--keep]

All arms train the same network on halves of the same records, with equal optimiser, batch size, epochs and
augmentation, and ask every model about every record. The arms are whole processes, imports and loading included:
  loop      one process per model, a Dataset that yields one record (images: a PNG file), DataLoader, plain nn.Module
  resident  one process, one model after another, batches cut from tensors in memory, augmented as a batch
  engine    one process, `tailrisk.training.job.run_chunk`
They take turns, --repeats times; of the loop only 2 models are measured, as its processes know nothing of each other.
Seconds are of CPU time where a CPU trains (one core; neighbours count little) and of the clock where a GPU does. Then
training and asking alone are timed in one process, and set against the peak arithmetic measured there.

Records are simulated; --data takes a prepared dataset (results/datasets/<name>) in their place, for one --case.
--keep adds what is printed to benchmarks/results/<date>-<device>.md. The default sizes take 13 minutes of one core.
"""

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from machine import cores_and_load
from training_cases import Case, cases, lay_out, read_case, simulate

if TYPE_CHECKING:
    from training_pace import Pace

RESULTS = Path(__file__).parent / "results"
LOOP_MODELS = 2


@dataclass(frozen=True)
class Cost:
    """Seconds per model of an arm's process: of CPU, and of the clock."""

    cpu: float
    wall: float


def run_child(*arguments: object) -> Cost:
    """This script as a process of its own, one thread wide."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if arguments[0] == "engine":  # as the workflow runs its jobs (see Snakefile)
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(2**30), "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1)}
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, wall)


def child(arm: str, work: Path, prepared: Path, device: str, first: int, last: int) -> None:
    """One arm of the comparison on models `first` to `last`; or, as "pace", training alone, `last` times."""
    import torch

    torch.set_num_threads(1)
    case = read_case(work / "case.json")
    if arm == "pace":
        from training_pace import measure_pace

        pace = measure_pace(case, work, prepared, device, last)
        (work / "pace.json").write_text(json.dumps(asdict(pace)), encoding="utf-8")
        return
    from training_arms import ARMS

    ARMS[arm](case, work, prepared, device, range(first, last + 1))


def per_model(arm: str, work: Path, prepared: Path, device: str, models: range) -> Cost:
    """Mean cost of a model by an arm that takes these models in one process."""
    cost = run_child(arm, work, prepared, device, models[0], models[-1])
    return Cost(cost.cpu / len(models), cost.wall / len(models))


def measure(case: Case, work: Path, prepared: Path, device: str, repeats: int) -> tuple[dict[str, list[Cost]], "Pace"]:
    """Costs of the arms, one a repeat (one a model for the loop), and the pace of training alone."""
    from training_pace import Pace

    case.write(work / "case.json")
    costs: dict[str, list[Cost]] = {"loop": [], "resident": [], "engine": []}
    for model in range(LOOP_MODELS):
        costs["loop"].append(per_model("loop", work, prepared, device, range(model, model + 1)))
    for _ in range(repeats):
        for arm in ("resident", "engine"):
            costs[arm].append(per_model(arm, work, prepared, device, range(case.models)))
    run_child("pace", work, prepared, device, 0, repeats)
    return costs, Pace(**json.loads((work / "pace.json").read_text(encoding="utf-8")))


def table(case: Case, records: int, costs: dict[str, list[Cost]], pace: "Pace", device: str) -> Iterator[str]:
    """What is printed of a case: lines."""
    shape = " × ".join(map(str, case.shape))
    name = " ".join(f"{value}" if key == "architecture" else f"{key} {value}" for key, value in case.model.items())
    yield f"{case.name}: {name}; {records} audit records of {shape}, batch {case.batch}, {case.epochs} epochs,"
    yield f"  augmentation {case.augmentation}, {case.optimizer}, {case.models} models a process"
    unit = "GPU" if device == "cuda" else "CPU"
    yield f"  {'':9} {'s per model':>22} {'clock':>8} {'models per hour':>16} {'ratio to engine':>22}"
    timed = {arm: [cost.wall if device == "cuda" else cost.cpu for cost in own] for arm, own in costs.items()}
    for arm, own in timed.items():
        clock = min(cost.wall for cost in costs[arm])
        ratio = spread([one / other for one, other in zip(own, timed["engine"], strict=False)])
        yield f"  {arm:9} {spread(own):>22} {clock:8.2f} {3600 / min(own):16.0f} {ratio:>22}"
    of_loop = min(timed["loop"]) / min(timed["engine"])
    of_resident = min(timed["resident"]) / min(timed["engine"])
    yield f"  loop / engine {of_loop:.2f}" + verdict(of_loop, case.over_loop)
    yield f"  resident / engine {of_resident:.2f}" + verdict(of_resident, 1.0)
    yield f"  without start-up and loading, s of {unit} per model:"
    for doing, one, other in (
        ("training", pace.resident, pace.engine),
        ("asking", pace.resident_asks, pace.engine_asks),
    ):
        ratios = [first / second for first, second in zip(one, other, strict=True)]
        yield (
            f"    {doing:8} resident {spread(one)}, engine {spread(other)}, "
            f"ratio {min(one) / min(other):.2f}, in turns {spread(ratios)}"
        )
    yield (
        f"  engine in training: {pace.work / min(pace.engine) / 1e9:,.0f} of {pace.peak / 1e9:,.0f} GFLOP/s, "
        f"{pace.share:.0%} of the peak" + (verdict(pace.share, case.share) if case.share else "")
    )


def spread(values: list[float]) -> str:
    """Least and largest of some seconds or ratios."""
    return f"{min(values):.2f} … {max(values):.2f}"


def verdict(value: float, required: float | None) -> str:
    """Whether a requirement is met, where there is one."""
    if required is None:
        return ""
    return f" (required {required:g}: {'met' if value >= required else 'MISSED'})"


def heading(device: str) -> Iterator[str]:
    """Versions and hardware."""
    import torch

    from tailrisk import __version__

    versions = f"tailrisk {__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    yield f"{versions}, {platform.platform()}"
    yield cores_and_load()
    if device == "cuda":
        yield f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
    else:
        yield f"vector instructions: {torch.backends.cpu.get_cpu_capability()}; one core a process"


def keep(lines: list[str], device: str) -> Path:
    """Add the lines to the results of today on this device."""
    import torch

    name = "cpu" if device == "cpu" else re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower())
    path = RESULTS / f"{date.today()}-{name}.md"
    with path.open("a", encoding="utf-8") as file:
        file.write("\n".join(["```", *lines, "```", ""]))
    return path


def compare(case: Case, folder: Path | None, device: str, repeats: int) -> Iterator[str]:
    """Measure a case on a prepared dataset, or on a simulated one, and describe what came out."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        prepared = folder or work / "simulated"
        if folder is None:
            simulate(case, prepared)
        shape, records = lay_out(prepared, work)
        case = replace(case, shape=shape)
        yield from table(case, records, *measure(case, work, prepared, device, repeats), device)


def main() -> None:
    """Run the comparison, or one arm of it as a child process."""
    if sys.argv[1:2] == ["--child"]:
        arm, work, prepared, device, first, last = sys.argv[2:]
        child(arm, Path(work), Path(prepared), device, int(first), int(last))
        return
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=list(cases("cpu")), help="by default all, on a CPU without vit")
    parser.add_argument("--data", type=Path, help="prepared dataset in place of simulated records")
    parser.add_argument("--models", type=int, help="models of a resident and of an engine process; an even number")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--keep", action="store_true", help="add what is printed to benchmarks/results")
    options = parser.parse_args()
    if options.data and not options.case:
        parser.error("--data needs the --case that suits it")
    if options.models and options.models % 2:
        parser.error("--models must be even: only a whole pair trains on every record once")
    given = {name: getattr(options, name) for name in ("models", "epochs") if getattr(options, name)}
    sizes = cases(options.device)
    chosen = [options.case] if options.case else [name for name in sizes if name != "vit" or options.device == "cuda"]
    lines: list[str] = []

    def show(found: Iterator[str]) -> None:
        for line in found:
            print(line, flush=True)
            lines.append(line)

    show(heading(options.device))
    for name in chosen:
        show(compare(replace(sizes[name], **given), options.data, options.device, options.repeats))
    if options.keep:
        print(f"kept in {keep(lines, options.device)}")


if __name__ == "__main__":
    main()
