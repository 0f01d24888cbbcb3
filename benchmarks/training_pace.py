"""Training and asking alone, without start-up, loading and storing, against the peak arithmetic of the device."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from training_arms import InMemory, half_of, network_of
from training_cases import Case

PAIR = range(2)


@dataclass(frozen=True)
class Pace:
    """Seconds per model (of CPU, or of a GPU), one a repeat, and arithmetic in FLOP/s and FLOP per trained model."""

    resident: list[float]
    engine: list[float]
    resident_asks: list[float]
    engine_asks: list[float]
    peak: float
    work: float

    @property
    def share(self) -> float:
        """Share of the peak that the engine reaches in training."""
        return self.work / min(self.engine) / self.peak


def clock(device: str) -> float:
    """CPU seconds of this process; on a GPU seconds of the clock, once it has done all that it was told."""
    if device == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def seconds(action: Callable[[], object], device: str) -> float:
    """Seconds that an action takes."""
    start = clock(device)
    action()
    return clock(device) - start


def peak(device: str) -> float:
    """FLOP/s of the fastest of some large matrix products: bfloat16 on a GPU, float32 on one core of a CPU."""
    size, kind = (8192, torch.bfloat16) if device == "cuda" else (2048, torch.float32)
    left, right = torch.randn(2, size, size, device=device, dtype=kind)
    return 2 * size**3 / min(seconds(lambda: left @ right, device) for _ in range(10))


def operations(case: Case, shape: tuple[int, ...], n_outputs: int) -> float:
    """FLOPs of training on one record, forwards and backwards, counted on tensors without storage."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = network_of(case, shape, n_outputs, 0)
        records = torch.empty(case.batch, *shape)
    with FlopCounterMode(display=False) as counter:
        network(records).sum().backward()
    return counter.get_total_flops() / case.batch


def measure_pace(case: Case, work: Path, prepared: Path, device: str, repeats: int) -> Pace:
    """Train and ask models in turns by the resident arm and by the engine, in one process, `repeats` times each.

    A pair of models each; where the engine stacks models, it trains a full stack, up to the models of the case. Both
    run once before, and under the engine's settings of the device.
    """
    from tailrisk.config.queries import Clean
    from tailrisk.datasets.contract import open_prepared
    from tailrisk.models import is_stacked
    from tailrisk.training.device import usable
    from tailrisk.training.engine import Trained, steps_per_epoch, train
    from tailrisk.training.halves import record_members, training_rows
    from tailrisk.training.queries import Question
    from tailrisk.training.resident import make_resident
    from tailrisk.training.stack import stack_size

    training, where, opened = case.training(), usable(device), open_prepared(prepared)
    memory = InMemory(work, prepared, device)
    stacked = is_stacked(training.model)
    data = make_resident(opened, where, stacked)
    numbers = range(min(case.models, stack_size(training, where))) if stacked else PAIR
    rows = opened.rows("audit")
    pools = training_rows(opened, numbers, rows, record_members(opened, training.seed, numbers, rows))
    stacks = [list(numbers)] if stacked else [[number] for number in numbers]
    steps = steps_per_epoch(len(rows), case.batch)
    everyone = np.arange(len(opened.labels))
    question = Question("clean", Clean(kind="clean"), training, opened, data, everyone)

    def by_engine(recipe: Case) -> list[Trained]:
        none = np.empty(0, dtype=np.int64)
        return [train(recipe.training(), data, own, [pools[n] for n in own], none, steps) for own in stacks]

    def by_hand(recipe: Case) -> list:
        return [memory.trained(recipe, half_of(work, model), model) for model in PAIR]

    once = replace(case, epochs=1)
    trainers, engines = by_hand(once), by_engine(once)
    resident, engine, resident_asks, engine_asks = [], [], [], []
    for _ in range(repeats):
        resident.append(seconds(lambda: by_hand(case), device) / len(PAIR))
        engine.append(seconds(lambda: by_engine(case), device) / len(numbers))
        resident_asks.append(seconds(lambda: [memory.answers(trainer) for trainer in trainers], device) / len(PAIR))
        asking = seconds(lambda: [question.ask(own.model, len(own.steps)) for own in engines], device)
        engine_asks.append(asking / len(numbers))
    trained = case.epochs * steps * case.batch
    shape, n_outputs = tuple(opened.inputs.shape[1:]), opened.n_outputs
    flops = trained * operations(case, shape, n_outputs)
    return Pace(resident, engine, resident_asks, engine_asks, peak(device), flops)
