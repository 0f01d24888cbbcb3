"""Vision transformers with patches of 16 × 16 pixels (Dosovitskiy et al., ICLR 2021), made by timm."""

import hashlib
import re
import textwrap
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from tailrisk.config.architectures import ViT
from tailrisk.errors import UserError
from tailrisk.models.vision import timm

FILE = "model.safetensors"


def vit(spec: ViT, shape: tuple[int, ...], n_outputs: int) -> nn.Module:
    """Images [B, channels, side, side] → logits [B, n_outputs].

    With `pretrained` everything but the head starts from ImageNet-21k weights, adapted to the images' size and
    channels by timm. On the meta device there are no values, and no weights are read.
    """
    model = _network(spec, shape, n_outputs)
    if spec.pretrained and not model.pos_embed.is_meta:
        head = {name: values for name, values in model.state_dict().items() if name.startswith("head.")}
        model.load_state_dict(_pretrained(spec, shape) | head)
    return model


def _network(spec: ViT, shape: tuple[int, ...], n_outputs: int) -> Any:
    """timm's transformer with random weights; without a head where n_outputs is 0."""
    depth = {} if spec.depth is None else {"depth": spec.depth}
    return timm().create_model(
        f"vit_{spec.size}_patch16_224", img_size=shape[1], in_chans=shape[0], num_classes=n_outputs, **depth
    )


@lru_cache(maxsize=1)
def _pretrained(spec: ViT, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Pretrained weights without the head, fitted to images of `shape`; read once for all models of a process."""
    path = _from_hub(spec) if spec.weights is None else _given(Path(spec.weights), spec)
    model = _network(spec, shape, n_outputs=0)
    try:
        if path.suffix == ".npz":
            model.load_pretrained(str(path))
        else:
            _fit(model, timm().models.load_state_dict(str(path)), spec)
    except Exception as error:
        problem = f"{type(error).__name__}: {textwrap.shorten(str(error), 300)}"
        raise UserError(f"the file {path} cannot be loaded into {_name(spec)} ({problem}): {_advice(spec)}") from None
    return model.state_dict()


def _fit(model: Any, weights: dict[str, Tensor], spec: ViT) -> None:
    """Load `weights` into a `model` without head: positions resampled, the first convolution fitted to its channels."""
    fitted = timm().models.vision_transformer.checkpoint_filter_fn(weights, model)
    first = "patch_embed.proj.weight"
    fitted[first] = timm().models.adapt_input_conv(model.patch_embed.proj.in_channels, fitted[first])
    model.load_state_dict({name: values for name, values in fitted.items() if not _left_out(name, spec)})


def _left_out(name: str, spec: ViT) -> bool:
    """Whether a pretrained weight is not wanted: the head for other classes, and blocks beyond a lower `depth`."""
    block = re.match(r"blocks\.(\d+)\.", name)
    return name.startswith("head.") or bool(block and spec.depth is not None and int(block[1]) >= spec.depth)


def _given(path: Path, spec: ViT) -> Path:
    """The file named in the configuration, checked."""
    if not path.is_file():
        raise UserError(f"there is no file {path} (`weights` of the model): {_advice(spec)}")
    if spec.sha256:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != spec.sha256:
            raise UserError(
                f"the file {path} (`weights` of the model) has the SHA-256 {found}, not {spec.sha256} (`sha256`): "
                "it is damaged or not the one meant"
            )
    return path


def _from_hub(spec: ViT) -> Path:
    """timm's file in the hub's cache, else from the hub, whose libraries raise errors of many kinds without network."""
    hub = import_module("huggingface_hub")
    cached = hub.try_to_load_from_cache(_hub_id(spec), FILE)
    if isinstance(cached, str):
        return Path(cached)
    try:
        return Path(hub.hf_hub_download(_hub_id(spec), FILE))
    except Exception as error:
        raise UserError(
            f"the ImageNet-21k weights of {_name(spec)} are not in the hub's cache and cannot be downloaded "
            f"({type(error).__name__}): {_advice(spec)}"
        ) from None


def _hub_id(spec: ViT) -> str:
    """Where timm keeps the ImageNet-21k weights of Steiner et al. (TMLR 2022)."""
    return f"timm/vit_{spec.size}_patch16_224.augreg_in21k"


def _name(spec: ViT) -> str:
    blocks = "" if spec.depth is None else f" with {spec.depth} blocks"
    return f"ViT-{spec.size[0].upper()}/16{blocks}"


def _advice(spec: ViT) -> str:
    return (
        f"fetch {FILE} of https://huggingface.co/{_hub_id(spec)} where there is a network, and "
        "name it under `weights` of the model; or set `pretrained: false`"
    )
