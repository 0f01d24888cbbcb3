"""Models of one's own: built as written, told apart by folder, and every mistake in one sentence."""

import sys
from pathlib import Path

import pytest
import torch
from small_networks import custom

from tailrisk.errors import UserError
from tailrisk.models import build, capacity

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
