"""What holds for every architecture: the same bits in every stack, and after every interruption."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from small_data import architectures, data, pool_of

from tailrisk.config.recipe import EarlyStopping, Recipe, Training
from tailrisk.training.engine import Observer, Saved, predict, train
from tailrisk.training.memory import Need, fitting, predict_need
from tailrisk.training.stack import keeps_bits, stack_size

NAMES = ["logistic", "tabular", "wrn", "wrn-batch", "vit", "resnet1d", "resnet1d-batch", "custom"]
VALIDATION = np.arange(40, 60)
N_STEPS = 3


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return architectures(tmp_path_factory.mktemp("own"))


def training_of(spec, kind: str, **changes) -> Training:
    augmentation = {"table": "none", "signal": "ecg"}.get(kind, "medium")
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 0.01, "augmentation": augmentation, "ema": 0.8}
    return Training(seed=1, model=spec, recipe=Recipe(**settings | changes))


def run(training: Training, source, models: Sequence[int], **options) -> dict[int, tuple[torch.Tensor, torch.Tensor]]:
    """Weights and logits by model number."""
    pools = [pool_of(model) for model in models]
    done = train(training, source, models, pools, VALIDATION, N_STEPS, **options)
    logits = torch.cat([block for _, block in predict(done.model, source, np.arange(60))], dim=1)
    return {model: (done.flat.weights[slot].clone(), logits[slot]) for slot, model in enumerate(models)}


def same(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_the_same_bits_in_every_stack(specs, name: str) -> None:
    spec, kind = specs[name]
    training, source = training_of(spec, kind), data(kind, spec)
    large = name == "vit"
    alone = {model: run(training, source, [model])[model] for model in ((4, 7) if large else (4, 7, 9))}
    for stack in [[7, 4]] if large else [[7, 4], [9, 4, 7], [3, 7, 9, 4]]:
        found = run(training, source, stack)
        for model in set(stack) & set(alone):
            assert same(found[model], alone[model]), (stack, model)
    assert not torch.equal(alone[4][0], alone[7][0])
    assert torch.isfinite(alone[4][1]).all()
    assert large or keeps_bits(training, source, [4, 7], [pool_of(4), pool_of(7)], 3)


class Interrupting(Observer):
    """Saves once, after so many steps, and then ends the training."""

    def __init__(self, after: int) -> None:
        self.after, self.saved = after, []  # type: ignore[var-annotated]

    def due(self, last: bool = False) -> bool:
        self.after -= 1
        return self.after == 0

    def save(self, saved: list[Saved]) -> None:
        self.saved = saved
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("name", "after"), [(name, after) for name in NAMES for after in (2, 5) if name != "vit"] + [("vit", 4)]
)
def test_an_interrupted_training_goes_on_to_the_same_bits(specs, name: str, after: int) -> None:
    spec, kind = specs[name]
    stopping = EarlyStopping(every=1, patience=3) if name in {"tabular", "wrn-batch"} else None
    training, source = (
        training_of(spec, kind, epochs=2 if name == "vit" else 3, early_stopping=stopping),
        data(kind, spec),
    )
    expected = run(training, source, [4, 7])
    interrupting = Interrupting(after)
    with pytest.raises(KeyboardInterrupt):
        run(training, source, [4, 7], observer=interrupting)
    assert 0 < interrupting.saved[0].step < 9
    for order in ([0, 1], [1, 0]):  # also in other slots
        models = [[4, 7][slot] for slot in order]
        found = run(training, source, models, saved=[interrupting.saved[slot] for slot in order])
        assert all(same(found[model], expected[model]) for model in models)


@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_learns(specs, name: str) -> None:
    spec, kind = specs[name]
    rate = 1e-3 if name == "vit" else 0.01
    training = training_of(
        spec, kind, epochs=6 if name == "vit" else 12, learning_rate=rate, ema=None, augmentation="none", warmup=0.2
    )
    source = data(kind, spec)
    logits = run(training, source, [2])[2][1][pool_of(2), 0]
    truth = source.labels[pool_of(2)] == 1
    assert float(logits[truth].mean() - logits[~truth].mean()) > 0.5


def test_bfloat16_trains_nearly_as_float32(specs) -> None:
    spec, kind = specs["tabular"]
    found = {
        precision: run(training_of(spec, kind, precision=precision), data(kind, spec), [2])[2][1]
        for precision in ("float32", "bfloat16", "auto")
    }
    assert torch.equal(found["auto"], found["float32"])  # on a CPU
    assert not torch.equal(found["bfloat16"], found["float32"])
    assert float((found["bfloat16"] - found["float32"]).abs().max()) < 0.1


def test_measured_stack_sizes(specs) -> None:
    sizes = {name: stack_size(training_of(*specs[name]), torch.device("cpu")) for name in NAMES}
    assert {name for name, size in sizes.items() if size == 1} == set(NAMES) - {"logistic", "tabular"}


def test_a_stack_that_changes_bits_is_found(specs, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, kind = specs["tabular"]
    training, source = training_of(spec, kind), data(kind, spec)
    from tailrisk.models import tabular_resnet

    forward = tabular_resnet.TabularResNet.forward

    def leaky(self, x):
        logits = forward(self, x)
        return logits + 1e-6 * logits.mean()  # a model sees its companions

    monkeypatch.setattr(tabular_resnet.TabularResNet, "forward", leaky)
    assert not keeps_bits(training, source, [4, 7], [pool_of(4), pool_of(7)], 3)


@pytest.mark.parametrize("name", ["tabular", "wrn", "resnet1d", "vit"])
def test_predicted_memory_is_what_autograd_keeps(specs, name: str) -> None:
    """Against the storages that a real step saves for its backward pass, and the state counted by hand."""
    spec, kind = specs[name]
    training, source = training_of(spec, kind, augmentation="none"), data(kind, spec)
    from tailrisk.training.engine import make

    model, flat = make(training, source, [0])
    saved: dict[int, int] = {}
    held = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() != flat.weights.untyped_storage().data_ptr():
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            held.append(tensor)
        return tensor

    x = source.scaled(source.raw(torch.arange(8)))[None]
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        model(x).sum()
    state = 4 * 5 * flat.weights.shape[1]  # weights, gradients, two moments, average
    need = predict_need(training, source)
    assert need is not None
    kept = sum(saved.values())
    assert kept + 0.95 * state < need.of(1) < 1.05 * state + 3 * kept
    assert need.of(3) - need.of(1) == pytest.approx(2 * (state + (kept if name == "tabular" else 0)), rel=0.5)


def test_a_stack_is_halved_until_it_fits() -> None:
    assert fitting(64, Need(10, 0), 640) == 64
    assert fitting(64, Need(10, 1), 640) == 32
    assert fitting(64, Need(10, 631), 640) == 1
    assert fitting(64, None, 0) == 64
