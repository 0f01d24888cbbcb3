"""Augmentations: against numpy and scipy one record at a time, their distributions, and their independence."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from tailrisk.config.recipe import Recipe
from tailrisk.errors import UserError
from tailrisk.training.augment import apply, check, draw

TALL, FLAT, GRAY, ECG = (3, 40, 24), (1, 17, 61), (1, 64, 64), (12, 250)
SHAPES = {"weak": (TALL, FLAT, GRAY), "medium": (TALL, FLAT, GRAY), "mammography": (TALL, FLAT, GRAY), "ecg": (ECG,)}
CASES = [(kind, shape) for kind, shapes in SHAPES.items() for shape in shapes]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def records(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Images from bytes, scaled to −1 … 1 as models see them, or signals in mV."""
    generator = np.random.default_rng(seed)
    if len(shape) == 3:
        return torch.from_numpy(generator.integers(0, 256, (n, *shape), dtype=np.uint8)).float() / 127.5 - 1
    return torch.from_numpy(generator.normal(size=(n, *shape)).astype(np.float32))


def picked(parameters: dict[str, Tensor], rows: Tensor | slice) -> dict[str, Tensor]:
    return {name: values[rows] for name, values in parameters.items()}


def shifted(image: np.ndarray, flip: bool, down: int, right: int) -> np.ndarray:
    """Flip, pad by mirroring, crop: one image [C, H, W] in numpy."""
    image = image[:, :, ::-1] if flip else image
    height, width = image.shape[1:]
    padded = np.pad(image, ((0, 0), (abs(down),) * 2, (abs(right),) * 2), mode="reflect")
    top, left = abs(down) - down, abs(right) - right
    return padded[:, top : top + height, left : left + width]


def rotated(image: np.ndarray, cosine: float, sine: float) -> np.ndarray:
    """One image [C, H, W] rotated by scipy in float64; its `mirror` is numpy's `reflect`."""
    angle = math.degrees(math.atan2(sine, cosine))
    return np.stack(
        [
            ndimage.rotate(channel.astype(np.float64), angle, reshape=False, order=1, mode="mirror", prefilter=False)
            for channel in image
        ]
    )


@pytest.mark.parametrize("shape", [TALL, FLAT, GRAY])
def test_weak_is_flip_mirrored_padding_and_crop(shape) -> None:
    x, parameters = records(60, shape), draw("weak", 60, shape, seeded(1))
    result = apply("weak", x, parameters).numpy()
    for i, image in enumerate(x.numpy()):
        flip, down, right = (parameters[name][i].item() for name in ("flip", "down", "right"))
        np.testing.assert_array_equal(result[i], shifted(image, flip, down, right))


@pytest.mark.parametrize("shape", [TALL, FLAT, GRAY, (1, 80, 3)])
def test_medium_is_weak_and_then_a_rotation_in_pixels(shape) -> None:
    x, parameters = records(40, shape), draw("medium", 40, shape, seeded(2))
    result = apply("medium", x, parameters).numpy()
    moved = 0
    for i, image in enumerate(x.numpy()):
        flip, down, right, cosine, sine = (
            parameters[name][i].item() for name in ("flip", "down", "right", "cosine", "sine")
        )
        expected = rotated(shifted(image, flip, down, right), cosine, sine)
        # Coordinates up to 80 pixels in float32 err by up to 1e-5 pixel, and neighbours differ by up to 2.
        np.testing.assert_allclose(result[i], expected, rtol=0, atol=5e-5)
        moved += np.abs(expected - image).max() > 0.1
    assert moved > 35


@pytest.mark.parametrize("shape", [TALL, FLAT, GRAY])
def test_mammography_is_rotation_contrast_brightness_and_cut_off(shape) -> None:
    x, parameters = records(40, shape), draw("mammography", 40, shape, seeded(3))
    result = apply("mammography", x, parameters).numpy()
    cut = 0
    for i, image in enumerate(x.numpy().astype(np.float64)):
        cosine, sine, contrast, brightness = (
            parameters[name][i].item() for name in ("cosine", "sine", "contrast", "brightness")
        )
        expected = (rotated(image, cosine, sine) - image.mean()) * contrast + image.mean() + brightness
        cut += np.abs(expected).max() > 1.01
        np.testing.assert_allclose(result[i], np.clip(expected, -1, 1), rtol=0, atol=7.5e-5)
    assert cut > 10


def test_ecg_rolls_scales_and_drops() -> None:
    x, parameters = records(60, ECG), draw("ecg", 60, ECG, seeded(4))
    result = apply("ecg", x, parameters).numpy()
    for i, signal in enumerate(x.numpy()):
        expected = np.roll(signal, parameters["delay"][i].item(), axis=1) * parameters["scale"][i].numpy()
        expected[~parameters["keep"][i].numpy()] = 0
        np.testing.assert_array_equal(result[i], expected)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_nothing_changes_where_the_parameters_say_nothing(kind, shape) -> None:
    x, parameters = records(5, shape), draw(kind, 5, shape, seeded(5))
    ones, kept = ("cosine", "contrast", "scale"), ("keep",)
    still = {
        name: torch.ones_like(values) if name in (*ones, *kept) else torch.zeros_like(values)
        for name, values in parameters.items()
    }
    assert torch.equal(apply(kind, x, still), x)
    assert not torch.equal(apply(kind, x, parameters), x)


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_a_record_does_not_depend_on_its_batch(kind, shape) -> None:
    x, parameters = records(37, shape), draw(kind, 37, shape, seeded(6))
    before, whole = x.clone(), apply(kind, x, parameters)
    assert torch.equal(x, before)
    for rows in (*(slice(i, i + 1) for i in range(37)), slice(0, 2), slice(5, 21), torch.arange(36, -1, -2)):
        assert torch.equal(apply(kind, x[rows], picked(parameters, rows)), whole[rows])


def test_the_mean_of_pixels_does_not_depend_on_their_order() -> None:
    x = records(8, (3, 128, 128))
    orders = [x.flatten(1)[:, torch.randperm(3 * 128 * 128, generator=seeded(i))].double().sum(1) for i in range(5)]
    assert all(torch.equal(orders[0], other) for other in orders)
    assert torch.equal(orders[0], x.mean((1, 2, 3), dtype=torch.float64) * (3 * 128 * 128))


@pytest.mark.parametrize(("kind", "shape"), CASES)
def test_seeds_decide_and_parts_make_up_the_whole(kind, shape) -> None:
    whole, again, other = (draw(kind, 50, shape, seeded(seed)) for seed in (7, 7, 8))
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert all(not torch.equal(whole[name], other[name]) for name in whole)
    generator = seeded(7)
    parts = [draw(kind, n, shape, generator) for n in (1, 0, 20, 29)]
    assert all(torch.equal(whole[name], torch.cat([part[name] for part in parts])) for name in whole)


def uniform(values: Tensor, low: float, high: float) -> None:
    """Kolmogorov–Smirnov: `values` are uniform from `low` to `high`, and never beyond up to float32 rounding."""
    assert low - 1e-6 < values.min() and values.max() < high + 1e-6
    assert stats.kstest(values.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-3


def equally_often(values: Tensor, expected: range) -> None:
    """Chi-square: `values` are the whole numbers of `expected`, each about equally often."""
    assert set(values.tolist()) == set(expected)
    assert stats.chisquare(np.unique(values.numpy(), return_counts=True)[1]).pvalue > 1e-3


def test_parameters_of_images_are_distributed_as_stated() -> None:
    n = 20_000
    medium, mammography = (draw(kind, n, TALL, seeded(9)) for kind in ("medium", "mammography"))
    assert stats.binomtest(int(medium["flip"].sum()), n).pvalue > 1e-3
    equally_often(medium["down"], range(-5, 6))
    equally_often(medium["right"], range(-3, 4))
    for parameters in (medium, mammography):
        uniform(torch.rad2deg(torch.atan2(parameters["sine"], parameters["cosine"])), -10, 10)
    uniform(mammography["contrast"], 0.5, 1.5)
    uniform(mammography["brightness"], -0.2, 0.2)
    weak = draw("weak", n, TALL, seeded(9))
    correlation = np.corrcoef([weak[name].double().numpy() for name in ("flip", "down", "right")])
    assert np.abs(correlation - np.eye(3)).max() < 4 / math.sqrt(n)


def test_parameters_of_ecgs_are_distributed_as_stated() -> None:
    n = 20_000
    parameters = draw("ecg", n, ECG, seeded(10))
    equally_often(parameters["delay"], range(-25, 26))
    uniform(parameters["scale"], 0.8, 1.2)
    dropped = (~parameters["keep"]).numpy()
    for lead in range(12):
        assert stats.binomtest(int(dropped[:, lead].sum()), n, 0.1).pvalue > 1e-3
    assert np.abs(np.corrcoef(dropped.T) - np.eye(12)).max() < 5 / math.sqrt(n)


def test_a_lead_always_remains() -> None:
    kept = draw("ecg", 20_000, (2, 100), seeded(11))["keep"].numpy()
    assert kept.any(axis=1).all()
    # Both would be dropped in one record of a hundred; either lead is then kept.
    for lead in range(2):
        assert stats.binomtest(int((~kept[:, lead]).sum()), 20_000, 0.1 - 0.005).pvalue > 1e-3
    assert draw("ecg", 1000, (1, 100), seeded(12))["keep"].all()


def test_images_too_small_to_shift_only_flip() -> None:
    x, parameters = records(40, (1, 7, 1)), draw("medium", 40, (1, 7, 1), seeded(13))
    assert not parameters["down"].any() and not parameters["right"].any()
    assert torch.isfinite(apply("medium", x, parameters)).all()


def test_none_leaves_records_alone() -> None:
    x = records(3, ECG)
    assert draw("none", 3, ECG, seeded(0)) == {}
    assert apply("none", x, {}) is x


def test_every_augmentation_is_for_one_kind_of_records() -> None:
    kinds = Recipe.model_fields["augmentation"].annotation.__args__
    suited = {
        (kind, shape)
        for kind, shape in product(kinds, ((30,), (12, 1000), (1, 64, 64)))
        if kind == "none" or len(shape) == (2 if kind == "ecg" else 3)
    }
    for kind, shape in product(kinds, ((30,), (12, 1000), (1, 64, 64))):
        if (kind, shape) in suited:
            check(kind, shape)
        else:
            with pytest.raises(UserError, match=f"recipe.augmentation: '{kind}' is for"):
                check(kind, shape)
    with pytest.raises(UserError) as caught:
        check("ecg", (1, 64, 48))
    assert str(caught.value) == (
        "recipe.augmentation: 'ecg' is for signals, but the records are images of shape 1 × 64 × 48: "
        "choose none or weak or medium or mammography"
    )
