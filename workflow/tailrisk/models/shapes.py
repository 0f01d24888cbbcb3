"""Which records an architecture can take."""

from tailrisk.config.architectures import AnyModel
from tailrisk.errors import UserError

PATCH = 16
"""Height and width of a vision transformer's patches, in pixels."""


def check_shape(spec: AnyModel, shape: tuple[int, ...]) -> None:
    """UserError where an architecture cannot read records of `shape`.

    `shape` is [features], [leads, samples] or [channels, height, width].
    """
    match spec.architecture:
        case "tabular_resnet" if len(shape) != 1:
            needs = "takes tables only"
        case "resnet1d" if len(shape) != 2:
            needs = "takes signals [leads, samples]"
        case "wide_resnet" if len(shape) != 3:
            needs = "takes images [channels, height, width]"
        case "vit" if len(shape) != 3 or shape[1] != shape[2] or shape[1] % PATCH:
            needs = f"takes images [channels, height, width] whose height and width are the same multiple of {PATCH}"
        case _:
            return
    kind = {1: "a table's row", 2: "a signal", 3: "an image"}.get(len(shape), "an array")
    raise UserError(
        f"the architecture {spec.architecture} {needs}, but a record of this dataset is {kind} of the shape "
        f"{list(shape)}: choose another architecture or another dataset"
    )
