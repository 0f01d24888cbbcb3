"""Networks for images and signals, and models of one's own, against plain versions and timm's own weights."""

import ast
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from tailrisk.config.architectures import Custom, Logistic, ResNet1D, TabularResNet, ViT, WideResNet
from tailrisk.errors import UserError
from tailrisk.models import build, capacity, is_stacked
from tailrisk.models.vision import timm

PACKAGE = Path(__file__).parents[2] / "workflow" / "tailrisk"


def wide_resnet(depth: int, width: int, norm: str = "group") -> WideResNet:
    return WideResNet(architecture="wide_resnet", depth=depth, width=width, norm=norm)


def resnet1d(width: int, norm: str = "group") -> ResNet1D:
    return ResNet1D(architecture="resnet1d", width=width, norm=norm)


def vit(**options) -> ViT:
    if "weights" in options and "sha256" not in options:
        file = Path(options["weights"])
        options["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "0" * 64
    return ViT(architecture="vit", **({"pretrained": False} | options))


SMALL = {
    "wide_resnet": (wide_resnet(10, 2), (3, 12, 8)),
    "resnet1d": (resnet1d(16), (12, 40)),
    "vit": (vit(depth=1), (1, 32, 32)),
}
small = pytest.mark.parametrize(("spec", "shape"), SMALL.values(), ids=SMALL)


def spread(model: nn.Module) -> None:
    """Move all weights away from their initial values, so that scales of 1 and shifts of 0 are seen as well."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


# --- plain versions -------------------------------------------------------------------------------------------------


def normal(x: Tensor, weights: dict[str, Tensor], name: str, norm: str) -> Tensor:
    """Group (16) or batch normalisation from its definition."""
    grouped = x.reshape(len(x), 16, -1) if norm == "group" else x.transpose(0, 1).reshape(x.shape[1], -1)
    mean, variance = grouped.mean(-1, keepdim=True), grouped.var(-1, unbiased=False, keepdim=True)
    grouped = (grouped - mean) / (variance + 1e-5).sqrt()
    whole = grouped.reshape(x.shape) if norm == "group" else grouped.reshape(x.transpose(0, 1).shape).transpose(0, 1)
    per_channel = (1, -1) + (1,) * (x.ndim - 2)
    return whole * weights[f"{name}.weight"].reshape(per_channel) + weights[f"{name}.bias"].reshape(per_channel)


def plain_wide_resnet(x: Tensor, weights: dict[str, Tensor], depth: int, norm: str) -> Tensor:
    """The network in function calls: names of weights come from the module, the computation does not."""

    def active(x: Tensor, name: str) -> Tensor:
        y = normal(x, weights, f"{name}.0", norm)
        return torch.where(y > 0, y, 0.1 * y)

    x = functional.conv2d(x, weights["stem.weight"], padding=1)
    per_group = (depth - 4) // 6
    for block in range(3 * per_group):
        stride = 2 if block in (per_group, 2 * per_group) else 1
        name = f"blocks.{block}"
        first = active(x, f"{name}.activation")
        y = functional.conv2d(first, weights[f"{name}.residual.0.weight"], stride=stride, padding=1)
        y = functional.conv2d(active(y, f"{name}.residual.1"), weights[f"{name}.residual.2.weight"], padding=1)
        shortcut = weights.get(f"{name}.shortcut.weight")
        x = y + (x if shortcut is None else functional.conv2d(first, shortcut, stride=stride))
    x = active(x, "activation").flatten(2).mean(-1)
    return x @ weights["head.weight"].T + weights["head.bias"]


def same(x: Tensor, weight: Tensor) -> Tensor:
    """y[t] = Σ_j w[j] x[t + j − ⌊(k−1)/2⌋], zeros outside: 'same' padding as in the paper's framework."""
    kernel, samples = weight.shape[-1], x.shape[-1]
    y = torch.zeros(len(x), len(weight), samples, dtype=x.dtype)
    for j in range(kernel):
        offset = j - (kernel - 1) // 2
        times = [t for t in range(samples) if 0 <= t + offset < samples]
        y[:, :, times] += torch.einsum("oi,bit->bot", weight[:, :, j], x[:, :, [t + offset for t in times]])
    return y


def plain_resnet1d(x: Tensor, weights: dict[str, Tensor], norm: str) -> Tensor:
    def convolved(x: Tensor, name: str) -> Tensor:
        kernel = next(i for i in (0, 1) if weights.get(f"{name}.{i}.weight", torch.empty(0)).ndim == 3)
        return normal(same(x, weights[f"{name}.{kernel}.weight"]), weights, f"{name}.{kernel + 1}", norm)

    for block in range(3):
        name = f"blocks.{block}"
        y = convolved(x, f"{name}.residual.0").clamp(min=0)
        y = convolved(y, f"{name}.residual.2").clamp(min=0)
        y = convolved(y, f"{name}.residual.4")
        shortcut = convolved(x, f"{name}.shortcut") if block < 2 else normal(x, weights, f"{name}.shortcut", norm)
        x = (y + shortcut).clamp(min=0)
    return x.mean(-1) @ weights["head.weight"].T + weights["head.bias"]


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize(("depth", "shape"), [(10, (3, 13, 10)), (16, (1, 8, 8))])
def test_wide_resnet_equals_its_definition(norm: str, depth: int, shape: tuple[int, ...]) -> None:
    model = build(wide_resnet(depth, 2, norm), shape, 3, seeds=[1]).models[0].double()
    spread(model)
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = plain_wide_resnet(x, dict(model.named_parameters()), depth, norm)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_resnet1d_equals_its_definition(norm: str) -> None:
    model = build(resnet1d(16, norm), (12, 21), 5, seeds=[1]).models[0].double()
    spread(model)
    x = torch.randn(4, 12, 21, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = plain_resnet1d(x, dict(model.named_parameters()), norm)
    torch.testing.assert_close(model(x), expected, rtol=1e-10, atol=1e-10)


def test_convolutions_of_the_wide_resnet_start_as_in_he_et_al() -> None:
    model = build(wide_resnet(10, 4), (3, 32, 32), 1, seeds=[0]).models[0]
    for layer in (layer for layer in model.modules() if isinstance(layer, nn.Conv2d)):
        reached = layer.out_channels * layer.kernel_size[0] ** 2
        expected = (2 / (1.01 * reached)) ** 0.5  # LeakyReLU(0.1) keeps (1 + 0.1²)/2 of the variance
        standard_error = expected / (2 * layer.weight.numel()) ** 0.5
        assert abs(float(layer.weight.detach().std()) - expected) < 5 * standard_error


def test_resnet1d_refuses_a_width_that_groups_do_not_divide() -> None:
    with pytest.raises(ValidationError, match="width must be a multiple of 16 for group normalisation, not 20"):
        resnet1d(20)
    assert build(resnet1d(20, "batch"), (12, 30), 1, seeds=[0])(torch.zeros(1, 2, 12, 30)).shape == (1, 2, 1)


# --- parameters -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("depth", "width", "channels", "n_outputs", "expected"),
    [
        (28, 2, 1, 1, 1_466_161),
        (40, 4, 1, 1, 8_946_609),
        (28, 10, 3, 10, 36_479_194),  # widely published for CIFAR-10
    ],
)
def test_parameters_of_wide_resnets(depth: int, width: int, channels: int, n_outputs: int, expected: int) -> None:
    assert capacity(wide_resnet(depth, width), (channels, 64, 64), n_outputs) == expected


@pytest.mark.parametrize("width", [32, 128])
def test_parameters_of_resnet1d(width: int) -> None:
    norm, leads, w = 2, 12, width
    first = (8 * leads + 5 * w + 3 * w) * w + leads * w + 4 * norm * w
    second = (8 * w + 5 * 2 * w + 3 * 2 * w) * 2 * w + w * 2 * w + 4 * norm * 2 * w
    third = (8 + 5 + 3) * (2 * w) ** 2 + 4 * norm * 2 * w
    assert capacity(resnet1d(width), (leads, 1000), 5) == first + second + third + 5 * (2 * w + 1)


@pytest.mark.parametrize(("size", "width", "depth"), [("base", 768, 12), ("large", 1024, 24)])
@pytest.mark.parametrize(("channels", "side", "n_outputs"), [(1, 64, 1), (3, 128, 3)])
def test_parameters_of_vision_transformers(size, width, depth, channels, side, n_outputs) -> None:
    block = 4 * width**2 + 4 * width + 8 * width**2 + 5 * width + 4 * width  # attention, MLP, two norms
    embedding = channels * 256 * width + width + width + ((side // 16) ** 2 + 1) * width
    expected = embedding + depth * block + 2 * width + n_outputs * (width + 1)
    spec = vit(size=size, pretrained=True, weights="not/read.safetensors")
    assert capacity(spec, (channels, side, side), n_outputs) == expected
    assert round(expected / 1e6, 1) in ({85.3, 85.7} if size == "base" else {302.6, 303.2})


@small
def test_capacity_is_that_of_the_built_model(spec, shape) -> None:
    model = build(spec, shape, 3, seeds=[0])
    assert capacity(spec, shape, 3) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("spec", "shape", "n_outputs"),
    [
        (Logistic(architecture="logistic"), (64,), 1),
        (TabularResNet(architecture="tabular_resnet", width=300, depth=6), (64,), 1),
        *((resnet1d(width), (12, 1000), 5) for width in (128, 32)),
        *((wide_resnet(28, 2), (*shape, shape[1]), shape[0]) for shape in ((1, 64), (3, 128))),
        *((wide_resnet(40, 4), (*shape, shape[1]), shape[0]) for shape in ((1, 64), (3, 128))),
        *(
            (vit(size=size), (*shape, shape[1]), shape[0])
            for size in ("base", "large")
            for shape in ((1, 64), (3, 128))
        ),
    ],
)
def test_the_documented_parameters_are_counted(spec, shape, n_outputs: int, repository: Path) -> None:
    rows = (repository / "docs" / "architectures.md").read_text(encoding="utf-8").splitlines()
    counted = f"| {n_outputs} | {capacity(spec, shape, n_outputs):,} |"
    assert sum(f"`{spec.architecture}`" in row or "the same" in row for row in rows if counted in row) == 1


# --- single models behind the interface of a stack --------------------------------------------------------------------


@small
def test_models_answer_as_each_alone_for_own_and_common_records(spec, shape) -> None:
    assert not is_stacked(spec)
    model = build(spec, shape, 2, seeds=[3, 4]).eval()
    own = torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(0))
    logits, common = model(own), model(own[:1])
    assert logits.shape == common.shape == (2, 5, 2)
    for slot in (0, 1):
        assert torch.equal(logits[slot], model.models[slot](own[slot]))
        assert torch.equal(common[slot], model.models[slot](own[0]))
    assert not torch.equal(common[0], common[1])


@small
def test_initial_weights_depend_on_the_own_seed_alone(spec, shape) -> None:
    torch.manual_seed(7)
    expected_next = torch.rand(3)
    torch.manual_seed(7)
    together = build(spec, shape, 2, seeds=[1, 2, 3])
    assert torch.equal(torch.rand(3), expected_next)  # the caller's random numbers are left alone
    alone = build(spec, shape, 2, seeds=[2])
    for many, one in zip(together.models[1].parameters(), alone.models[0].parameters(), strict=True):
        assert torch.equal(many, one)
    first, second = (next(model.parameters()) for model in together.models[:2])
    assert not torch.equal(first, second)


@small
def test_logits_do_not_depend_on_the_other_records(spec, shape) -> None:
    model = build(spec, shape, 2, seeds=[1])
    x = torch.randn(1, 6, *shape, generator=torch.Generator().manual_seed(0))
    other = torch.randn(1, 6, *shape, generator=torch.Generator().manual_seed(1))
    other[:, 2] = x[:, 2]
    for mode in (True, False):
        model.train(mode)
        assert torch.equal(model(x)[:, 2], model(other)[:, 2])


def test_batch_normalisation_depends_on_the_other_records_in_training_only() -> None:
    model = build(wide_resnet(10, 1, "batch"), (1, 8, 8), 2, seeds=[1])
    x = torch.randn(1, 6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    other = torch.cat([x[:, :1], 2 * x[:, 1:]], dim=1)
    assert not torch.allclose(model(x)[:, 0], model(other)[:, 0], atol=1e-3)
    model.eval()
    assert torch.equal(model(x)[:, 0], model(other)[:, 0])


@small
def test_parameters_may_become_views_of_one_buffer(spec, shape) -> None:
    model, kept = (build(spec, shape, 2, seeds=[1]) for _ in range(2))
    parameters = list(model.parameters())
    buffer = torch.cat([parameter.detach().flatten() for parameter in parameters])
    for parameter, values in zip(parameters, buffer.split([p.numel() for p in parameters]), strict=True):
        parameter.data = values.view(parameter.shape)
    x = torch.randn(1, 3, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x), kept(x))
    gradients = torch.autograd.grad(model(x).square().sum(), parameters)
    assert all(bool(gradient.isfinite().all() and gradient.any()) for gradient in gradients)
    buffer.mul_(0.5)
    with torch.no_grad():
        for parameter in kept.parameters():
            parameter.mul_(0.5)
    assert torch.equal(model(x), kept(x))


@pytest.mark.parametrize(
    ("spec", "shape", "needs"),
    [
        (TabularResNet(architecture="tabular_resnet", width=8, depth=1), (12, 1000), "takes tables only"),
        (wide_resnet(10, 1), (30,), "takes images"),
        (resnet1d(16), (1, 64, 64), "takes signals"),
        (vit(), (12, 1000), "takes images"),
        (vit(), (1, 64, 48), "the same multiple of 16"),
        (vit(), (1, 40, 40), "the same multiple of 16"),
    ],
)
def test_records_that_an_architecture_cannot_take_are_refused(spec, shape, needs: str) -> None:
    for made in (lambda: build(spec, shape, 1, seeds=[0]), lambda: capacity(spec, shape, 1)):
        with pytest.raises(UserError) as refused:
            made()
        message = str(refused.value)
        assert spec.architecture in message
        assert needs in message
        assert str(list(shape)) in message


# --- pretrained vision transformers -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def source() -> nn.Module:
    """Stands for the ImageNet-21k model: RGB, 224 pixels, 21,843 classes; two blocks instead of twelve."""
    torch.manual_seed(0)
    model = timm().create_model("vit_base_patch16_224", num_classes=21843, depth=2)
    spread(model)
    return model


@pytest.fixture(scope="module")
def files(source: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    save_file(source.state_dict(), folder / "model.safetensors")
    torch.save(source.state_dict(), folder / "model.pth")
    np.savez(folder / "model.npz", **jax_layout(source))
    return {file.suffix[1:]: file for file in folder.iterdir()}


def jax_layout(model: nn.Module) -> dict[str, np.ndarray]:
    """The weights under the names and in the order of axes of Google's own files (12 heads of 64)."""
    own = {name: values.numpy() for name, values in model.state_dict().items()}
    names = {
        "cls": own["cls_token"],
        "embedding/kernel": own["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": own["patch_embed.proj.bias"],
        "Transformer/posembed_input/pos_embedding": own["pos_embed"],
        "Transformer/encoder_norm/scale": own["norm.weight"],
        "Transformer/encoder_norm/bias": own["norm.bias"],
        "head/kernel": own["head.weight"].T,
        "head/bias": own["head.bias"],
    }
    for block in range(2):
        theirs, ours = f"Transformer/encoderblock_{block}", f"blocks.{block}"
        for layer, norm in (("LayerNorm_0", "norm1"), ("LayerNorm_2", "norm2")):
            names[f"{theirs}/{layer}/scale"] = own[f"{ours}.{norm}.weight"]
            names[f"{theirs}/{layer}/bias"] = own[f"{ours}.{norm}.bias"]
        attention = f"{theirs}/MultiHeadDotProductAttention_1"
        for index, part in enumerate(("query", "key", "value")):
            rows = slice(768 * index, 768 * (index + 1))
            names[f"{attention}/{part}/kernel"] = own[f"{ours}.attn.qkv.weight"][rows].T.reshape(768, 12, 64)
            names[f"{attention}/{part}/bias"] = own[f"{ours}.attn.qkv.bias"][rows].reshape(12, 64)
        names[f"{attention}/out/kernel"] = own[f"{ours}.attn.proj.weight"].T.reshape(12, 64, 768)
        names[f"{attention}/out/bias"] = own[f"{ours}.attn.proj.bias"]
        for index, layer in enumerate(("fc1", "fc2")):
            names[f"{theirs}/MlpBlock_3/Dense_{index}/kernel"] = own[f"{ours}.mlp.{layer}.weight"].T
            names[f"{theirs}/MlpBlock_3/Dense_{index}/bias"] = own[f"{ours}.mlp.{layer}.bias"]
    return names


def loaded(weights: Path, shape: tuple[int, ...] = (1, 64, 64), depth: int = 2, **options) -> nn.Module:
    spec = vit(pretrained=True, weights=str(weights), depth=depth, **options)
    return build(spec, shape, 3, seeds=[5]).models[0]


def resampled(positions: Tensor, side: int, antialias: bool = True) -> Tensor:
    """The class token's position as it is, the 14 × 14 patches' interpolated to side × side."""
    grid = positions[:, 1:].reshape(1, 14, 14, 768).permute(0, 3, 1, 2)
    mode = "bicubic" if antialias else "bilinear"
    grid = functional.interpolate(grid, size=(side, side), mode=mode, antialias=antialias, align_corners=False)
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "npz"])
def test_pretrained_weights_are_fitted_to_small_gray_images(source: nn.Module, files, kind: str) -> None:
    model, own = loaded(files[kind]).state_dict(), source.state_dict()
    positions = resampled(own["pos_embed"], side=4, antialias=kind != "npz")  # timm treats Google's files so
    torch.testing.assert_close(model.pop("pos_embed"), positions, rtol=0, atol=1e-6)
    gray = own["patch_embed.proj.weight"].sum(1, keepdim=True)
    torch.testing.assert_close(model.pop("patch_embed.proj.weight"), gray, rtol=0, atol=1e-6)
    assert model.pop("head.weight").shape == (3, 768)
    assert model.pop("head.bias").shape == (3,)
    assert set(model) == set(own) - {"pos_embed", "patch_embed.proj.weight", "head.weight", "head.bias"}
    assert all(torch.equal(values, own[name]) for name, values in model.items())


def test_at_the_pretrained_size_the_features_are_those_of_the_pretrained_model(source: nn.Module, files) -> None:
    model = loaded(files["safetensors"], shape=(3, 224, 224)).eval()
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(model.forward_features(x), source.eval().forward_features(x))


def test_the_head_is_drawn_from_the_models_seed(files) -> None:
    spec = vit(pretrained=True, weights=str(files["safetensors"]), depth=2)
    one, two = build(spec, (1, 32, 32), 3, seeds=[1, 2]).models
    (scratch,) = build(vit(depth=2), (1, 32, 32), 3, seeds=[1]).models
    assert torch.equal(one.head.weight, scratch.head.weight)
    assert not torch.equal(one.head.weight, two.head.weight)
    assert torch.equal(one.blocks[1].mlp.fc1.weight, two.blocks[1].mlp.fc1.weight)
    assert one.blocks[1].mlp.fc1.weight.data_ptr() != two.blocks[1].mlp.fc1.weight.data_ptr()


def test_fewer_blocks_are_the_first_ones(source: nn.Module, files) -> None:
    model = loaded(files["pth"], depth=1)
    assert len(model.blocks) == 1
    assert torch.equal(model.blocks[0].attn.qkv.weight, source.blocks[0].attn.qkv.weight)
    assert torch.equal(model.norm.weight, source.norm.weight)


def test_a_file_is_read_once_for_all_models(files, tmp_path: Path) -> None:
    (tmp_path / "once.safetensors").hardlink_to(files["safetensors"])
    digest = hashlib.sha256(files["safetensors"].read_bytes()).hexdigest()
    first = loaded(tmp_path / "once.safetensors", sha256=digest)
    (tmp_path / "once.safetensors").unlink()
    second = loaded(tmp_path / "once.safetensors", sha256=digest)
    assert torch.equal(first.pos_embed, second.pos_embed)


def test_the_checksum_of_a_file_is_checked(files) -> None:
    digest = hashlib.sha256(files["safetensors"].read_bytes()).hexdigest()
    loaded(files["safetensors"], sha256=digest)
    with pytest.raises(UserError, match=f"has the SHA-256 {digest}, not {'0' * 64}"):
        loaded(files["safetensors"], sha256="0" * 64)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("absent", "there is no file"),
        ("text", "UnpicklingError|RuntimeError"),
        ("cut", "SafetensorError"),
        ("other", "KeyError: 'patch_embed.proj.weight'"),
        ("list", "cannot be loaded into ViT-B/16 with 2 blocks"),
        ("deeper", "Missing key.*blocks.2"),
        ("larger", "ViT-L/16 with 2 blocks .*(shape|size)"),
        ("scaled", "Unexpected key.*blocks.0.ls1.gamma"),
        ("short npz", "encoderblock_2"),
    ],
)
def test_a_wrong_file_of_weights_is_one_sentence(source: nn.Module, files, tmp_path: Path, wrong: str, says) -> None:
    file, options = tmp_path / "model.pth", {}
    if wrong == "text":
        file.write_text("<html>not found</html>")
    elif wrong == "cut":
        file = tmp_path / "model.safetensors"
        file.write_bytes(files["safetensors"].read_bytes()[:1000])
    elif wrong == "other":
        torch.save({"weight": torch.zeros(3, 3)}, file)
    elif wrong == "list":
        torch.save([torch.zeros(3)], file)
    elif wrong == "scaled":
        torch.save(source.state_dict() | {"blocks.0.ls1.gamma": torch.ones(768)}, file)
    elif wrong != "absent":
        file = files["npz" if wrong == "short npz" else "pth"]
        options = {"size": "large"} if wrong == "larger" else {"depth": 3}
    with pytest.raises(UserError, match=says) as refused:
        loaded(file, **options)
    message = str(refused.value)
    assert str(file) in message
    assert "\n" not in message
    assert "model.safetensors of https://huggingface.co/timm/vit_" in message


HUB = """
import sys, time
time.sleep = lambda seconds: None  # the hub's library waits between its attempts
import torch
from tailrisk.config.architectures import ViT
from tailrisk.errors import UserError
from tailrisk.models import build
if sys.argv[1]:
    (model,) = build(ViT(architecture="vit", depth=2), (1, 32, 32), 1, [0]).models
    assert torch.equal(model.norm.weight, torch.load(sys.argv[1])["norm.weight"])
try:
    build(ViT(architecture="vit", size="large", depth=1), (1, 32, 32), 1, [0])
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize("offline", [True, False], ids=["offline", "no network"])
def test_without_network_the_hubs_cache_serves_or_one_sentence_says_what_to_fetch(files, tmp_path, offline) -> None:
    cache = tmp_path / "hub" / "models--timm--vit_base_patch16_224.augreg_in21k"
    snapshot = cache / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(snapshot.name)
    (snapshot / "model.safetensors").hardlink_to(files["safetensors"])
    environment = {"HF_HUB_CACHE": str(cache.parent), "HF_HOME": str(tmp_path)}
    environment |= {"HF_HUB_OFFLINE": "1"} if offline else {"HF_ENDPOINT": "http://127.0.0.1:9"}
    answer = run_python(HUB, str(files["pth"]), environment=environment)
    said = [line for line in answer.splitlines() if "ViT-L/16" in line]
    assert len(said) == 1
    assert "cannot be downloaded" in said[0]
    assert "fetch model.safetensors of https://huggingface.co/timm/vit_large_patch16_224.augreg_in21k" in said[0]
    assert "`weights`" in said[0]


# --- timm and torchvision ---------------------------------------------------------------------------------------------


def run_python(script: str, *arguments: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *arguments],
        env=os.environ | (environment or {}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


IMPORTS = """
import resource, sys
from tailrisk.config.architectures import Logistic, ViT
from tailrisk.models import build, capacity
build(Logistic(architecture="logistic"), (4,), 1, [0])
assert not {"timm", "torchvision", "huggingface_hub"} & set(sys.modules)
from tailrisk.models.vision import timm
assert timm() is timm()
import torch, torchvision
from torchvision.transforms.v2 import functional
image = torch.arange(9.0).reshape(1, 3, 3)
assert torch.equal(functional.rotate(image, 90), image.rot90(1, (1, 2)))
for name, module in list(sys.modules.items()):
    package, _, attribute = name.rpartition(".")
    if name.startswith("torchvision."):
        found = getattr(sys.modules[package], attribute)
        assert found is module or not isinstance(found, type(sys)), name  # functions may bear a module's name
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert capacity(ViT(architecture="vit", size="large"), (1, 64, 64), 1) > 3e8
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_timm_comes_with_the_first_transformer_and_torchvision_whole() -> None:
    kibibytes = int(run_python(IMPORTS))
    assert kibibytes < 200_000  # ViT-L/16 would take 1.2 GB


def test_timm_and_torchvision_are_imported_in_one_place() -> None:
    importing = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                names = [str(node.args[0].value)] if called in ("import_module", "__import__") else []
            if any(name.partition(".")[0] in ("timm", "torchvision") for name in names):
                importing.add(str(file.relative_to(PACKAGE)))
    assert importing == {"models/vision.py"}


# --- models of one's own ----------------------------------------------------------------------------------------------

NETWORK = """
import torch
from torch import nn
from parts import SCALE

class Network(nn.Module):
    def __init__(self, shape, n_outputs, hidden=4):
        super().__init__()
        self.inner, self.norm = nn.Linear(shape[0] * shape[1], hidden), nn.BatchNorm1d(hidden)
        self.head = nn.Linear(hidden, n_outputs)

    def forward(self, x):
        return SCALE * self.head(torch.relu(self.norm(self.inner(x.flatten(1)))))

def make(shape, n_outputs, **arguments):
    import late
    return Network(shape, n_outputs, **arguments)

def failing(shape, n_outputs): raise RuntimeError("no such layer")
def number(shape, n_outputs): return 3
def too_many(shape, n_outputs): return Network(shape, n_outputs + 1)
def pair(shape, n_outputs):
    class Pair(Network):
        def forward(self, x): return super().forward(x), x
    return Pair(shape, n_outputs)
def narrow(shape, n_outputs): return Network((1, 1), n_outputs)
constant = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "network.py").write_text(NETWORK)
    (tmp_path / "parts.py").write_text("SCALE = 2.0")
    (tmp_path / "late.py").write_text("")
    (tmp_path / "broken.py").write_text("def make(:")
    (tmp_path / "needy.py").write_text("import a_library_that_is_not_installed")
    (tmp_path / "json.py").write_text("def make(shape, n_outputs): return None")
    return tmp_path


def custom(path: Path, function: str = "network:make", **arguments) -> Custom:
    return Custom(architecture="custom", function=function, path=str(path), arguments=arguments)


def test_a_model_of_ones_own_is_built_with_its_arguments(own: Path) -> None:
    path = sys.path.copy()
    model = build(custom(own, hidden=6), (3, 5), 2, seeds=[1, 2, 3])
    assert sys.path == path
    assert model(torch.zeros(1, 4, 3, 5)).shape == (3, 4, 2)
    assert capacity(custom(own, hidden=6), (3, 5), 2) == 15 * 6 + 6 + 2 * 6 + 6 * 2 + 2
    alone = build(custom(own, hidden=6), (3, 5), 2, seeds=[2]).models[0]
    assert type(alone) is type(model.models[0])
    for many, one in zip(model.models[1].parameters(), alone.parameters(), strict=True):
        assert torch.equal(many, one)
    assert not torch.equal(model.models[0].head.weight, alone.head.weight)
    assert alone.training
    assert torch.equal(alone.norm.running_mean, torch.zeros(6))  # the trial has left no trace


def test_modules_of_the_same_name_from_two_folders_are_not_confused(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for width, folder in enumerate(folders, start=1):
        (folder / "nets").mkdir(parents=True)
        (folder / "nets" / "widths.py").write_text(f"WIDTH = {width}")
        (folder / "nets" / "plain.py").write_text(
            "from torch import nn\nfrom nets.widths import WIDTH\n"
            "def make(shape, n_outputs):\n"
            "    from nets import widths\n"
            "    assert widths.WIDTH == WIDTH\n"
            "    return nn.Sequential(nn.Linear(shape[0], WIDTH), nn.Linear(WIDTH, n_outputs))\n"
        )
    sizes = [capacity(custom(folder, "nets.plain:make"), (4,), 1) for folder in [*folders, *folders]]
    assert sizes == [5 + 2, 10 + 3, 5 + 2, 10 + 3]


def test_a_model_of_ones_own_can_be_compiled(own: Path) -> None:
    model = build(custom(own), (3, 5), 2, seeds=[1]).models[0].eval()
    x = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.compile(model, backend="eager")(x), model(x))


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("absent:make", "there is no module absent in"),
        ("network:absent", "has no function absent"),
        ("network:constant", "has no function constant"),
        ("broken:make", "cannot be imported: SyntaxError"),
        ("needy:make", "cannot be imported: ModuleNotFoundError: No module named 'a_library_that_is_not_installed'"),
        ("json:make", "has the name of one already loaded"),
        ("network:failing", "raises RuntimeError: no such layer"),
        ("network:number", "must return a torch.nn.Module, not an object of int"),
        ("network:too_many", r"logits \[2, 2\], but gives an output of the shape \[2, 3\]"),
        ("network:pair", r"logits \[2, 2\], but gives an output of the type tuple"),
        ("network:narrow", r"fails on two records of the shape \[3, 5\]: RuntimeError"),
    ],
)
def test_a_wrong_model_of_ones_own_is_one_sentence(own: Path, function: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(custom(own, function), (3, 5), 2, seeds=[0])


def test_wrong_arguments_and_a_missing_folder_are_one_sentence(own: Path) -> None:
    with pytest.raises(UserError, match=r"network:make\(\(3, 5\), 2, widht=9\) raises TypeError"):
        build(custom(own, widht=9), (3, 5), 2, seeds=[0])
    with pytest.raises(UserError, match="there is no folder"):
        build(custom(own / "absent"), (3, 5), 2, seeds=[0])


def test_stacked_architectures_are_known() -> None:
    assert is_stacked(Logistic(architecture="logistic"))
    assert not is_stacked(custom(Path()))
