"""Random changes of records in training, and of the views an attacker asks for.

What is random is drawn first, on the CPU, as a few numbers per record; `apply` is then a fixed function of a record and
its numbers, computed for a whole batch on the device. It consists of copies and of arithmetic on single values, so that
a record's result has the same bits whatever stands beside it.
"""

import math

import torch
from torch import Tensor

from tailrisk.errors import UserError

SHIFT = 0.125
"""Largest shift of an image, as a share of its height and of its width."""
ANGLE = math.radians(10)
"""Largest rotation of an image."""
CONTRAST = 0.5
"""Largest deviation of the contrast factor from 1 (mammography)."""
BRIGHTNESS = 0.1
"""Largest change of brightness, as a share of the range of values (mammography)."""
DROPOUT = 0.1
"""Chance that a lead is dropped (ecg)."""
DELAY = 0.1
"""Largest shift in time, as a share of the samples (ecg)."""
SCALE = 0.2
"""Largest deviation of the amplitude factor from 1 (ecg)."""

_LOW, _HIGH = -1.0, 1.0  # of the values of images
_FOR_IMAGES = ("weak", "medium", "mammography")


def check(kind: str, shape: tuple[int, ...]) -> None:
    """UserError where the augmentation `kind` does not suit records of `shape` (without the records' axis)."""
    records = {1: "tables", 2: "signals", 3: "images"}[len(shape)]
    suited = {"tables": ("none",), "signals": ("none", "ecg"), "images": ("none", *_FOR_IMAGES)}[records]
    if kind not in suited:
        raise UserError(
            f"recipe.augmentation: '{kind}' is for {'images' if kind in _FOR_IMAGES else 'signals'}, but the records "
            f"are {records} of shape {' × '.join(map(str, shape))}: choose {' or '.join(suited)}"
        )


def draw(kind: str, n: int, shape: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
    """Random parameters of `n` records of `shape`, each a tensor [n, …] on the CPU.

    Every record takes the same number of draws from `generator`, one record after another: drawing in parts gives what
    drawing at once gives. Parameters by kind, uniform where nothing else is said:

    - weak: `flip` (bool, chance 1/2); `down` and `right`, whole pixels up to an eighth of the side in both directions.
    - medium: those of weak; `cosine` and `sine` of the angle, up to 10° in both directions.
    - mammography: `cosine`, `sine`; `contrast`, a factor of 0.5 to 1.5; `brightness`, up to a tenth of the range of
      values in both directions.
    - ecg: `delay`, samples up to a tenth of the record in both directions; `scale`, a factor of 0.8 to 1.2; `keep`
      [n, leads] (bool), False for a dropped lead (chance 1/10). Where all would be dropped, one at random is kept.
    """
    if kind == "none":
        return {}
    numbers = {"weak": 3, "medium": 4, "mammography": 3, "ecg": 2 + shape[0]}[kind]
    uniform = torch.rand(n, numbers, generator=generator, dtype=torch.float64)
    if kind == "ecg":
        delay, scale, lead = uniform[:, 0], uniform[:, 1], uniform[:, 2:]
        keep = (lead >= DROPOUT) | (lead == lead.amax(dim=1, keepdim=True))
        return {
            "delay": _whole(delay, int(DELAY * shape[1])),
            "scale": (1 + _centred(scale, SCALE)).float(),
            "keep": keep,
        }
    if kind == "mammography":
        return _rotation(uniform[:, 0]) | {
            "contrast": (1 + _centred(uniform[:, 1], CONTRAST)).float(),
            "brightness": _centred(uniform[:, 2], BRIGHTNESS * (_HIGH - _LOW)).float(),
        }
    height, width = shape[1:]
    weak = {
        "flip": uniform[:, 0] < 0.5,
        "down": _whole(uniform[:, 1], int(SHIFT * height)),
        "right": _whole(uniform[:, 2], int(SHIFT * width)),
    }
    return weak | _rotation(uniform[:, 3]) if kind == "medium" else weak


def apply(kind: str, x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    """The records `x`, each changed by its own `parameters` (of `draw`, on the device of `x`).

    Images are float32 [N, channels, height, width] from −1 to 1, signals float32 [N, leads, samples] in mV.

    - weak: flipped left to right, then shifted; what comes in at the border is the mirrored image (as in numpy's
      `reflect`, without repeating the outermost pixels).
    - medium: weak, then rotated about the image's centre, bilinear, mirrored at the border in the same way.
    - mammography: rotated; contrast about the mean of the record as given; brightness; cut off at −1 and 1.
    - ecg: shifted in time, circularly; scaled; dropped leads are 0. A circular shift keeps every beat and invents only
      one step where the ends meet, whereas repeating the edge can hold the height of a QRS complex for a second.
    """
    if kind == "none":
        return x
    if kind == "ecg":
        samples = x.shape[2]
        source = (torch.arange(samples, device=x.device) - parameters["delay"][:, None]) % samples
        shifted = x.gather(2, source[:, None].expand_as(x))
        return torch.where(parameters["keep"][:, :, None], shifted * parameters["scale"][:, None, None], 0.0)
    if kind == "mammography":
        # Sums of pixels that were bytes are exact in float64, so that the order of summation cannot matter.
        mean = x.mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64).float()
        contrast, brightness = (parameters[name][:, None, None, None] for name in ("contrast", "brightness"))
        offset = mean * (1 - contrast) + brightness
        return (_rotated(x, parameters) * contrast + offset).clamp_(_LOW, _HIGH)
    shifted = _shifted(x, parameters)
    return _rotated(shifted, parameters) if kind == "medium" else shifted


def _centred(uniform: Tensor, largest: float) -> Tensor:
    return (2 * uniform - 1) * largest


def _whole(uniform: Tensor, largest: int) -> Tensor:
    return (uniform * (2 * largest + 1)).long() - largest


def _rotation(uniform: Tensor) -> dict[str, Tensor]:
    angle = _centred(uniform, ANGLE)
    return {"cosine": angle.cos().float(), "sine": angle.sin().float()}


def _shifted(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    height, width = x.shape[2:]
    row = _mirrored(torch.arange(height, device=x.device) - parameters["down"][:, None], height)
    column = _mirrored(torch.arange(width, device=x.device) - parameters["right"][:, None], width)
    column = torch.where(parameters["flip"][:, None], width - 1 - column, column)
    place = (row[:, :, None] * width + column[:, None, :]).flatten(1)
    return _pixels(x.flatten(2), place).view(x.shape)


def _rotated(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
    height, width = x.shape[2:]
    above, beside = (2 + int(math.sin(ANGLE) * side / 2) for side in (width, height))  # as far as a rotation reaches
    rows = _mirrored(torch.arange(-above, height + above, device=x.device), height)
    columns = _mirrored(torch.arange(-beside, width + beside, device=x.device), width)
    padded, stride = x.index_select(2, rows).index_select(3, columns).flatten(2), len(columns)

    cosine, sine = (parameters[name][:, None, None] for name in ("cosine", "sine"))
    down = torch.arange(height, device=x.device)[:, None] - (height - 1) / 2
    right = torch.arange(width, device=x.device) - (width - 1) / 2
    row = cosine * down + sine * right + (height - 1) / 2 + above
    column = cosine * right - sine * down + (width - 1) / 2 + beside
    top, left = row.floor(), column.floor()
    below, beyond = (row - top).flatten(1)[:, None], (column - left).flatten(1)[:, None]
    place = (top.long() * stride + left.long()).flatten(1)
    upper, lower = (
        _between(_pixels(padded[:, :, first:], place), _pixels(padded[:, :, first + 1 :], place), beyond)
        for first in (0, stride)
    )
    return _between(upper, lower, below).view(x.shape)


def _between(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Linear interpolation; unlike torch.lerp never fused, which could round the last values of a batch differently."""
    return (end - start).mul_(share).add_(start)


def _mirrored(index: Tensor, size: int) -> Tensor:
    """Whole numbers `index` folded back into 0 … size − 1 at the first and the last pixel, however far outside."""
    last = size - 1
    return last - (index % max(2 * last, 1) - last).abs()


def _pixels(flat: Tensor, place: Tensor) -> Tensor:
    """Pixels [N, C, P] of `flat` images [N, C, …] at `place` [N, P]."""
    return flat.gather(2, place[:, None].expand(-1, flat.shape[1], -1))
