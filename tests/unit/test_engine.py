"""The engine: independent of companions to the last bit, equal to a plain loop, and able to learn."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from torch import nn

from tailrisk.config.architectures import Logistic, TabularResNet
from tailrisk.config.recipe import EarlyStopping, Recipe, Training
from tailrisk.models.stacked import padded
from tailrisk.training.engine import Observer, predict, steps_per_epoch, train
from tailrisk.training.losses import record_losses
from tailrisk.training.order import Orders
from tailrisk.training.performance import auroc
from tailrisk.training.resident import Resident
from tailrisk.training.schedule import learning_rate
from tailrisk.training.seeds import seed_of

LOGISTIC = Logistic(architecture="logistic")
NETWORK = TabularResNet(architecture="tabular_resnet", width=17, depth=2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def table(task: str = "binary", n: int = 150, n_features: int = 31, n_outputs: int = 1) -> Resident:
    generator = torch.Generator().manual_seed(3)
    inputs = torch.zeros(n, padded(n_features))
    inputs[:, :n_features] = torch.randn(n, n_features, generator=generator)
    noisy = inputs[:, :n_outputs] + torch.randn(n, n_outputs, generator=generator)
    if task == "binary":
        labels = (noisy[:, 0] > 0).long()
    elif task == "multiclass":
        labels = noisy.argmax(dim=1)
    else:
        unobserved = torch.rand(n, n_outputs, generator=generator) < 0.2
        labels = (noisy > 0).float().masked_fill(unobserved, torch.nan)
    return Resident(inputs, labels, task, (n_features,), n_outputs, flat=True)  # type: ignore[arg-type]


def pool_of(model: int, n: int = 100) -> np.ndarray:
    return np.flatnonzero(np.random.default_rng(model).random(n) < 0.5)


def weights_of(training: Training, data: Resident, models: Sequence[int], **changes) -> tuple[dict, dict]:
    """Logits on all rows by model number, and failures by model number."""
    pools = [pool_of(model) for model in models]
    trained = train(training, data, models, pools, np.arange(100, 150), n_steps=5, **changes)
    blocks = [logits for _, logits in predict(trained.model, data, np.arange(len(data.inputs)))]
    logits = torch.cat(blocks, dim=1)
    failed = {models[slot]: reason for slot, reason in trained.failed.items()}
    return {model: (logits[slot], trained.steps[slot]) for slot, model in enumerate(models)}, failed


RECIPES = {
    "adamw": {"optimizer": "adamw", "weight_decay": 0.01},
    "sgd": {"optimizer": "sgd", "weight_decay": 0.01},
    "ema": {"optimizer": "adamw", "ema": 0.9},
    "stopping": {"optimizer": "sgd", "early_stopping": EarlyStopping(every=1, patience=2)},
    "both": {"optimizer": "adamw", "ema": 0.9, "early_stopping": EarlyStopping(every=2, patience=1)},
}


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("spec", [LOGISTIC, NETWORK], ids=["logistic", "network"])
@pytest.mark.parametrize("batch_size", [5, 13, 16])
def test_a_model_is_the_same_bits_in_every_stack(name: str, spec, batch_size: int) -> None:
    recipe = Recipe(epochs=6, batch_size=batch_size, learning_rate=0.05, **RECIPES[name])
    training, data = Training(seed=1, model=spec, recipe=recipe), table()
    alone = {model: weights_of(training, data, [model])[0][model] for model in range(7)}
    for stack in ([0, 1], [5, 2, 0], [6, 3, 1, 4, 0, 5, 2]):
        for model, (logits, steps) in weights_of(training, data, stack)[0].items():
            assert torch.equal(logits, alone[model][0]), (stack, model)
            assert steps == alone[model][1]
    assert not torch.equal(alone[0][0], alone[1][0])


@pytest.mark.parametrize(("task", "n_outputs"), [("multiclass", 3), ("multilabel", 5)])
def test_same_bits_for_every_task(task: str, n_outputs: int) -> None:
    recipe = Recipe(epochs=4, batch_size=13, learning_rate=0.05, early_stopping=EarlyStopping(patience=2))
    training, data = Training(seed=1, model=NETWORK, recipe=recipe), table(task, n_outputs=n_outputs)
    stacked = weights_of(training, data, [4, 9, 2])[0]
    for model in (4, 9, 2):
        assert torch.equal(stacked[model][0], weights_of(training, data, [model])[0][model][0])


@pytest.mark.parametrize(("shape", "batch_size"), list(product([(8, 31), (200, 3), (33, 64)], [7, 50])), ids=str)
def test_same_bits_at_further_sizes(shape: tuple[int, int], batch_size: int) -> None:
    n_features, width = shape
    spec = TabularResNet(architecture="tabular_resnet", width=width, depth=1)
    training = Training(seed=1, model=spec, recipe=Recipe(epochs=2, batch_size=batch_size, learning_rate=0.05))
    data = table(n_features=n_features)
    stacked = weights_of(training, data, range(9))[0]
    for model in (0, 1, 8):
        assert torch.equal(stacked[model][0], weights_of(training, data, [model])[0][model][0])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_equals_a_plain_loop(optimizer: str, ema: float | None) -> None:
    """Logistic regression trained by torch's own layer, loss, optimiser and average, on the same batches."""
    recipe = Recipe(
        epochs=3, batch_size=16, learning_rate=0.05, optimizer=optimizer, weight_decay=0.01, warmup=0.2, ema=ema
    )
    data = table()
    ours = weights_of(Training(seed=1, model=LOGISTIC, recipe=recipe), data, [2, 3])[0][3][0]
    layer = nn.Linear(31, 1)
    generator = torch.Generator().manual_seed(seed_of(1, 3, "init"))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-(31**-0.5), 31**-0.5, generator=generator)
    if optimizer == "sgd":
        stepper = torch.optim.SGD(layer.parameters(), lr=1.0, momentum=0.9, weight_decay=0.01)
    else:
        stepper = torch.optim.AdamW(layer.parameters(), lr=1.0, weight_decay=0.01)
    batches = Orders([pool_of(3)], [seed_of(1, 3, "order")], 16).take(15)[:, 0]
    mean = [parameter.detach().clone() for parameter in layer.parameters()]
    for step, rows in enumerate(batches):
        for group in stepper.param_groups:
            group["lr"] = learning_rate(recipe, step, 15)
        stepper.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(
            layer(data.inputs[rows, :31])[:, 0], data.labels[rows].float()
        )
        loss.backward()
        stepper.step()
        mean = [m + (1 - (ema or 0)) * (p.detach() - m) for m, p in zip(mean, layer.parameters(), strict=True)]
    expected = data.inputs[:, :31] @ mean[0].T + mean[1]
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "epochs", "rate"),
    [(LOGISTIC, 20, 0.01), (TabularResNet(architecture="tabular_resnet", width=16, depth=1), 10, 0.003)],
    ids=["logistic", "network"],
)
def test_learns_the_breast_cancer_data(spec, epochs: int, rate: float) -> None:
    raw = load_breast_cancer()
    standard = (raw.data - raw.data.mean(axis=0)) / raw.data.std(axis=0)
    x = torch.zeros(569, padded(30))
    x[:, :30] = torch.from_numpy(standard)
    data = Resident(x, torch.from_numpy(raw.target), "binary", (30,), 1, flat=True)
    rows = np.random.default_rng(0).permutation(569)
    audit, test = rows[:400], rows[400:]
    pools = [audit[np.random.default_rng(model).random(400) < 0.5] for model in range(8)]
    training = Training(seed=1, model=spec, recipe=Recipe(epochs=epochs, batch_size=32, learning_rate=rate))
    trained = train(training, data, range(8), pools, test, steps_per_epoch(400, 32))
    logits = torch.cat([block for _, block in predict(trained.model, data, test)], dim=1).numpy()
    ours = np.mean([auroc(logits[slot], raw.target[test], "binary") for slot in range(8)])
    baselines = [LogisticRegression(max_iter=1000).fit(standard[pool], raw.target[pool]) for pool in pools]
    baseline = np.mean([roc_auc_score(raw.target[test], b.decision_function(standard[test])) for b in baselines])
    assert ours > 0.98
    assert ours > baseline - 0.015


def test_order_covers_every_member_once_an_epoch() -> None:
    pools = [np.arange(10, 33), np.array([5, 7, 9])]
    orders = Orders(pools, [1, 2], batch_size=4)
    stream = torch.cat([orders.take(7), orders.take(16)]).permute(1, 0, 2).reshape(2, -1).numpy()
    for pool, drawn in zip(pools, stream, strict=True):
        cycles = drawn[: len(drawn) // len(pool) * len(pool)].reshape(-1, len(pool))
        assert (np.sort(cycles, axis=1) == pool).all()
        assert len({tuple(cycle) for cycle in cycles}) > 1
    whole = Orders(pools, [1, 2], batch_size=4).take(23)
    assert np.array_equal(whole.permute(1, 0, 2).reshape(2, -1).numpy(), stream)


@pytest.mark.parametrize("spec", [LOGISTIC, NETWORK], ids=["logistic", "network"])
def test_a_failed_model_leaves_its_companions_untouched(spec) -> None:
    recipe = Recipe(epochs=3, batch_size=13, learning_rate=0.05, early_stopping=EarlyStopping(patience=3))
    training, data = Training(seed=1, model=spec, recipe=recipe), table()
    only_in_4 = np.setdiff1d(pool_of(4), np.union1d(pool_of(2), pool_of(6)))
    data.inputs[only_in_4[0], 0] = torch.nan
    stacked, failed = weights_of(training, data, [2, 4, 6])
    assert list(failed) == [4]
    assert failed[4].startswith("loss not finite in step ")
    clean = np.setdiff1d(np.arange(150), only_in_4)
    for model in (2, 6):
        alone, none = weights_of(training, data, [model])
        assert not none
        assert torch.equal(stacked[model][0][clean], alone[model][0][clean])
    assert weights_of(training, data, [4])[1] == failed


def test_all_models_fail_at_an_absurd_rate() -> None:
    recipe = Recipe(epochs=6, batch_size=16, learning_rate=1e30, optimizer="sgd")
    failed = weights_of(Training(seed=1, model=NETWORK, recipe=recipe), table(), [0, 1])[1]
    assert set(failed) == {0, 1}


def test_early_stopping_keeps_the_weights_of_the_lowest_validation_loss() -> None:
    data = table(n_features=31)
    seen: list[int] = []
    recipe = {"batch_size": 8, "learning_rate": 0.1, "schedule": "constant", "warmup": 0.0}
    stopping = EarlyStopping(every=1, patience=3)
    training = Training(seed=1, model=NETWORK, recipe=Recipe(epochs=40, early_stopping=stopping, **recipe))

    class Epochs(Observer):
        def epoch(self, epochs: float, loss: float) -> None:
            seen.append(int(epochs))

    logits, steps = weights_of(training, data, [0], observer=Epochs())[0][0]
    validation = slice(100, 150)
    losses = []
    for epoch in range(1, len(seen) + 1):
        plain = Training(seed=1, model=NETWORK, recipe=Recipe(epochs=epoch, **recipe))
        own = weights_of(plain, data, [0])[0][0][0]
        losses.append(float(record_losses(own[None, validation], data.labels[None, validation], "binary").mean()))
        if epoch * 5 == steps:
            assert torch.equal(own, logits)
    best = int(np.argmin(losses)) + 1
    assert steps == 5 * best
    assert len(seen) == best + 3 < 40


def test_every_model_takes_equally_many_steps() -> None:
    assert [steps_per_epoch(n, 32) for n in (64, 65, 448, 449)] == [1, 2, 7, 8]


def test_schedules() -> None:
    constant = Recipe(epochs=1, batch_size=1, learning_rate=2.0, schedule="constant", warmup=0.1)
    rates = [learning_rate(constant, step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10:] == [2.0] * 90
    cosine = Recipe(epochs=1, batch_size=1, learning_rate=2.0, warmup=0.0)
    rates = [learning_rate(cosine, step, 1000) for step in range(1000)]
    assert rates[0] == 2.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(2 * np.cos(7 * np.pi / 16), abs=0.01)


def test_losses_against_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 50, 4, generator=generator)
    classes = torch.randint(0, 4, (1, 50), generator=generator)
    expected = nn.functional.cross_entropy(logits[1], classes[0], reduction="none")
    torch.testing.assert_close(record_losses(logits, classes, "multiclass")[1], expected)
    labels = torch.randint(0, 2, (2, 50, 4), generator=generator).float()
    labels[:, ::3, 1] = torch.nan
    labels[1, 0] = torch.nan
    losses = record_losses(logits, labels, "multilabel")
    terms = nn.functional.binary_cross_entropy_with_logits(logits, labels.nan_to_num(), reduction="none")
    torch.testing.assert_close(losses, (terms * ~labels.isnan()).sum(dim=-1) / 4)
    assert losses[1, 0] == 0


def test_auroc_against_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 4)).round(1).astype(np.float32)
    y = rng.integers(0, 4, 300)
    two = (y > 1).astype(int)
    assert auroc(z[:, :1], two, "binary") == pytest.approx(roc_auc_score(two, z[:, 0]), abs=1e-12)
    share = torch.softmax(torch.from_numpy(z.astype(np.float64)), dim=1).numpy()
    expected = roc_auc_score(y, share, multi_class="ovr", average="macro")
    assert auroc(z, y, "multiclass") == pytest.approx(expected, abs=1e-9)
    many = rng.integers(0, 2, (300, 4)).astype(np.float32)
    many[rng.random((300, 4)) < 0.1] = np.nan
    many[:, 3] = 1
    seen = [~np.isnan(many[:, label]) for label in range(3)]
    single = [roc_auc_score(many[ok, label], z[ok, label]) for label, ok in enumerate(seen)]
    assert auroc(z, many, "multilabel") == pytest.approx(np.mean(single), abs=1e-12)
    assert np.isnan(auroc(z[:, :1], np.ones(300, dtype=int), "binary"))
