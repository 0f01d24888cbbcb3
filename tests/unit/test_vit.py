"""Vision transformers: pretrained weights against timm's own, and how timm and torchvision are imported."""

import ast
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_networks import run_python, spread, vit
from torch import Tensor, nn
from torch.nn import functional

from tailrisk.errors import UserError
from tailrisk.models import build
from tailrisk.models.vision import timm

PACKAGE = Path(__file__).parents[2] / "workflow" / "tailrisk"


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
