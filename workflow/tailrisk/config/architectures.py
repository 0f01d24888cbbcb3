"""Architectures of target models: one section of options each, told apart by `architecture`."""

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from tailrisk.config.base import Strict

Norm = Annotated[
    Literal["group", "batch"],
    Field(description="Group normalisation in 16 groups, as in the paper, or batch normalisation."),
]


class Logistic(Strict):
    """Logistic regression: one linear layer. For tables, and for flattened images and signals."""

    architecture: Literal["logistic"]


class TabularResNet(Strict):
    """Residual network for tables (Gorishniy et al., NeurIPS 2021): `depth` blocks of `width` units."""

    architecture: Literal["tabular_resnet"]
    width: int = Field(ge=1, description="Units of every layer.")
    depth: int = Field(ge=1, description="Number of residual blocks; the paper uses 300 × 6.")


class WideResNet(Strict):
    """Wide residual network for images (Zagoruyko & Komodakis, BMVC 2016): WRN-28-2 is depth 28, width 2."""

    architecture: Literal["wide_resnet"]
    depth: int = Field(ge=10, description="Layers, 6n + 4; the paper uses 28 and 40.")
    width: int = Field(ge=1, description="Widening factor; the paper uses 2 (WRN-28-2) and 4 (WRN-40-4).")
    norm: Norm = "group"

    @model_validator(mode="after")
    def _depth_fits(self) -> "WideResNet":
        if (self.depth - 4) % 6:
            raise ValueError(f"depth of a wide residual network is 6n + 4 (10, 16, 22, 28, 40 ...), not {self.depth}")
        return self


class ViT(Strict):
    """Vision transformer with patches of 16 × 16 pixels (Dosovitskiy et al., ICLR 2021), made by timm."""

    architecture: Literal["vit"]
    size: Literal["base", "large"] = Field("base", description="ViT-B/16 or ViT-L/16.")
    depth: int | None = Field(None, ge=1, description="Blocks; null for all 12 (base) or 24 (large).")
    pretrained: bool = Field(
        True, description="Start from ImageNet-21k weights: those of `weights`, or timm's from its cache or hub."
    )
    weights: str | None = Field(None, description="File of pretrained weights (safetensors, pth or npz).")
    sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="Checksum of the file `weights`; `sha256sum FILE` prints it."
    )

    @model_validator(mode="after")
    def _weights_are_used(self) -> "ViT":
        if self.weights and not self.pretrained:
            raise ValueError("weights are given but pretrained is false: remove one of the two")
        if bool(self.sha256) != bool(self.weights):
            raise ValueError(
                "state weights and sha256 together, so that another file of that name is not mistaken for it"
            )
        return self


class ResNet1D(Strict):
    """Residual network for signals (Wang et al., IJCNN 2017): three blocks of convolutions of 8, 5 and 3 samples."""

    architecture: Literal["resnet1d"]
    width: int = Field(128, ge=1, description="Channels of the first block, doubled in the others; the paper: 128, 32.")
    norm: Norm = "group"

    @model_validator(mode="after")
    def _width_fits_groups(self) -> "ResNet1D":
        if self.norm == "group" and self.width % 16:
            raise ValueError(f"width must be a multiple of 16 for group normalisation, not {self.width}")
        return self


class Custom(Strict):
    """A model of your own: a function that returns a torch.nn.Module."""

    architecture: Literal["custom"]
    function: str = Field(
        description="`module:function`, called as function(input_shape, n_outputs, **arguments). The module maps "
        "[batch, *input_shape] to logits [batch, n_outputs].",
    )
    path: str = Field(".", description="Folder that the module is imported from.")
    arguments: dict[str, Any] = Field({}, description="Further arguments of the function.")

    @field_validator("function")
    @classmethod
    def _named(cls, function: str) -> str:
        if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", function):
            raise ValueError(f"write module:function, such as networks:small, not '{function}'")
        return function


AnyModel = Annotated[
    Logistic | TabularResNet | WideResNet | ViT | ResNet1D | Custom, Field(discriminator="architecture")
]
