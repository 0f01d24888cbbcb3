"""Every option of a recipe against the same training written with torch's own modules, losses and optimisers."""

import numpy as np
import pytest
import torch
from small_data import data, pool_of
from torch import nn

from tailrisk.config.architectures import ResNet1D
from tailrisk.config.presets import PRESETS
from tailrisk.config.recipe import Recipe, Training
from tailrisk.models.resnet1d import ResNet1D as Network
from tailrisk.training.engine import make, predict, train
from tailrisk.training.losses import record_losses
from tailrisk.training.order import Orders
from tailrisk.training.schedule import learning_rate
from tailrisk.training.seeds import seed_of

SPEC = ResNet1D(architecture="resnet1d", width=16)
BATCHED = ResNet1D(architecture="resnet1d", width=16, norm="batch")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def plain_training(recipe: Recipe, spec: ResNet1D, source, model: int, n_steps: int) -> nn.Module:
    """One model after another's fashion: torch.optim, clip_grad_norm_, parameter groups, an averaged copy."""
    torch.manual_seed(seed_of(1, model, "init"))
    network, average = Network(spec, source.shape, 1), Network(spec, source.shape, 1)
    average.load_state_dict(network.state_dict())
    spared = [p for p in network.parameters() if p.ndim <= 1]
    weights = [p for p in network.parameters() if p.ndim > 1]
    groups = [{"params": weights}, {"params": spared, "weight_decay": 0.0}]
    parameters = groups if recipe.decay == "weights" else list(network.parameters())
    if recipe.optimizer == "sgd":
        stepper = torch.optim.SGD(parameters, lr=1.0, momentum=recipe.momentum, weight_decay=recipe.weight_decay)
    else:
        stepper = torch.optim.AdamW(parameters, lr=1.0, weight_decay=recipe.weight_decay)
    total = recipe.epochs * n_steps
    batches = Orders([pool_of(model)], [seed_of(1, model, "order")], recipe.batch_size).take(total)[:, 0]
    network.train()
    for step, rows in enumerate(batches):
        for group in stepper.param_groups:
            group["lr"] = learning_rate(recipe, step, total)
        stepper.zero_grad()
        for part in rows.chunk(recipe.accumulation):
            target = source.labels[part].float() * (1 - recipe.label_smoothing) + recipe.label_smoothing / 2
            loss = nn.functional.binary_cross_entropy_with_logits(network(source.inputs[part])[:, 0], target)
            (loss / recipe.accumulation).backward()
        if recipe.clip:
            nn.utils.clip_grad_norm_(network.parameters(), recipe.clip)
        stepper.step()
        with torch.no_grad():
            for mean, now in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                mean.copy_(
                    mean * recipe.ema + now * (1 - recipe.ema) if recipe.ema and mean.is_floating_point() else now
                )
    return average.eval()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    "changes",
    [
        {"clip": 0.05},
        {"decay": "weights", "weight_decay": 0.5},
        {"weight_decay": 0.5},
        {"label_smoothing": 0.2},
        {"accumulation": 4},
        {"ema": 0.7},
        {"schedule": "full_cosine", "warmup": 0.3},
        {"clip": 0.1, "decay": "weights", "weight_decay": 0.2, "accumulation": 2, "ema": 0.5, "label_smoothing": 0.1},
    ],
    ids="+".join,
)
def test_equals_torch(optimizer: str, changes: dict) -> None:
    recipe = Recipe(**{"epochs": 2, "batch_size": 8, "learning_rate": 0.02, "optimizer": optimizer} | changes)
    source = data("signal", SPEC)
    done = train(Training(seed=1, model=SPEC, recipe=recipe), source, [5, 2], [pool_of(5), pool_of(2)], np.array([]), 3)
    ours = torch.cat([block for _, block in predict(done.model, source, np.arange(60))], dim=1)[1]
    expected = plain_training(recipe, SPEC, source, 2, 3)(source.inputs).detach()
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)
    if set(changes) != {"ema"}:  # the option matters
        base = Recipe(epochs=2, batch_size=8, learning_rate=0.02, optimizer=optimizer)
        other = train(Training(seed=1, model=SPEC, recipe=base), source, [2], [pool_of(2)], np.array([]), 3)
        assert not torch.equal(other.flat.weights[0], done.flat.weights[1])


def test_averages_of_batch_statistics_equal_torch() -> None:
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=0.01, ema=0.6)
    source = data("signal", BATCHED)
    done = train(Training(seed=1, model=BATCHED, recipe=recipe), source, [2], [pool_of(2)], np.array([]), 3)
    ours = torch.cat([block for _, block in predict(done.model, source, np.arange(60))], dim=1)[0]
    expected = plain_training(recipe, BATCHED, source, 2, 3)(source.inputs).detach()
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-4)


def test_smoothed_losses_against_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 50, 4, generator=generator)
    classes = torch.randint(0, 4, (1, 50), generator=generator)
    expected = nn.functional.cross_entropy(logits[1], classes[0], reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(record_losses(logits, classes, "multiclass", 0.1)[1], expected)
    labels = torch.randint(0, 2, (2, 50, 4), generator=generator).float()
    labels[:, ::3, 1] = torch.nan
    smooth = labels.nan_to_num() * 0.9 + 0.05
    terms = nn.functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none") * ~labels.isnan()
    torch.testing.assert_close(record_losses(logits, labels, "multilabel", 0.1), terms.sum(dim=-1) / 4)


def test_full_cosine_ends_at_zero() -> None:
    recipe = Recipe(epochs=1, batch_size=1, learning_rate=2.0, schedule="full_cosine", warmup=0.0)
    rates = [learning_rate(recipe, step, 1000) for step in range(1000)]
    assert rates[0] == 2.0
    assert rates[500] == pytest.approx(1.0)
    assert rates[-1] < 1e-4


def test_position_embeddings_do_not_decay() -> None:
    from tailrisk.config.architectures import ViT

    spec = ViT(architecture="vit", depth=1, pretrained=False)
    source = data("colour", spec)
    model, flat = make(
        Training(seed=1, model=spec, recipe=Recipe(epochs=1, batch_size=4, learning_rate=1)), source, [0]
    )
    single = model.models[0]
    first, expected = 0, {}
    for name, parameter in single.named_parameters():
        expected[name] = flat.decays[first : first + parameter.numel()]
        first += parameter.numel()
    assert not expected["pos_embed"].any()
    assert not expected["cls_token"].any()
    assert not expected["blocks.0.norm1.weight"].any()
    assert not expected["head.bias"].any()
    assert expected["head.weight"].all()
    assert expected["patch_embed.proj.weight"].all()
    assert not flat.decays[first:].any()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_whole_recipes(name: str) -> None:
    recipe = Recipe(preset=name)
    assert recipe.epochs >= 30
    assert recipe.batch_size // recipe.accumulation in {256, 512}
    assert Recipe(preset=name, epochs=3).epochs == 3
    assert "preset" not in recipe.model_dump()  # equal settings, equal text
    assert Recipe(**recipe.model_dump()) == recipe.model_copy(update={"preset": None})


def test_presets_are_those_of_the_paper() -> None:
    """Its table: learning rate, weight decay, epochs, average, warm-up (defaults where it has none)."""
    table = {
        "chexpert": (1.0, 0.9, 1e-4, 1024, 60, "medium", 0.9995, 0.05),
        "mimic-cxr": (0.25, 0.99, 1e-3, 1024, 60, "medium", 0.95, 0.2),
        "fitzpatrick17k": (5e-3, 0.9, 1e-4, 256, 100, "medium", 0.99, 0.05),
        "fairvision": (1e-4, 0.9, 1e-6, 256, 100, "weak", 0.99, 0.1),
        "embed": (0.1, 0.9, 1e-8, 1024, 30, "mammography", 0.995, 0.1),
        "ptb-xl": (0.25, 0.9, 5e-3, 1024, 100, "none", 0.995, 0.05),
        "mimic-iv-ed": (0.1, 0.9, 1e-7, 1024, 100, "none", 0.995, 0.05),
    }
    for name, expected in table.items():
        r = Recipe(preset=name)
        found = (r.learning_rate, r.momentum, r.weight_decay, r.batch_size, r.epochs, r.augmentation, r.ema, r.warmup)
        assert found == expected
        assert r.optimizer == "sgd"
    assert all(Recipe(preset=name).optimizer == "adamw" for name in PRESETS if name.endswith("-vit"))
