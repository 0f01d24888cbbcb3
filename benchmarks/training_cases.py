"""What `training.py` trains: the cases on each kind of device, and their data."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tailrisk.config.recipe import Training

SEED = 1


@dataclass(frozen=True)
class Case:
    """One network on one kind of record, and what the project asks of it on this kind of device.

    `shape` is that of a record: [features], [leads, samples] or [channels, height, width]. `records` are audited, and
    a third as many more are for validation and test. `models` is the number of target models in a process.
    `over_loop` is the least ratio loop / engine, `share` the least share of the peak arithmetic; None asks nothing.
    """

    name: str
    model: dict[str, Any]
    shape: tuple[int, ...]
    records: int
    batch: int
    epochs: int
    models: int
    optimizer: str = "adamw"
    rate: float = 1e-3
    augmentation: str = "none"
    over_loop: float | None = None
    share: float | None = None

    def training(self) -> "Training":
        """The case as the package's recipe, at a fixed seed."""
        from tailrisk.config.recipe import Training

        recipe = {
            "epochs": self.epochs,
            "batch_size": self.batch,
            "optimizer": self.optimizer,
            "learning_rate": self.rate,
            "schedule": "full_cosine",
            "warmup": 0,
            "augmentation": self.augmentation,
        }
        return Training.model_validate({"seed": SEED, "model": self.model, "recipe": recipe})

    def write(self, path: Path) -> None:
        """Keep the case for the processes of its arms."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")


def read_case(path: Path) -> Case:
    """The case that was written to `path`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return Case(**content | {"shape": tuple(content["shape"])})


def cases(device: str) -> dict[str, Case]:
    """The cases by name, in sizes that suit a `device` ("cpu" or "cuda").

    Every epoch is a whole number of batches of half the records, so that all arms train on equally many.
    """
    table = Case("table-64", _table(64), (200,), 15_360, batch=256, epochs=5, models=8, over_loop=3.0)
    small = replace(table, name="table-32", model=_table(32), batch=64, over_loop=5.0)
    image = Case("wrn", _wrn(10, 1), (1, 64, 64), 320, batch=32, epochs=4, models=2, augmentation="weak")
    image = replace(image, optimizer="sgd", rate=0.1)
    signal = Case("ecg", _ecg(32), (12, 1000), 320, batch=32, epochs=3, models=2, augmentation="ecg")
    patches = Case("vit", _vit(2), (1, 128, 128), 128, batch=16, epochs=2, models=2, augmentation="weak")
    found = [table, small, image, signal, patches]
    if device == "cuda":
        found = [
            replace(table, epochs=10, models=64, over_loop=20.0),
            replace(small, epochs=10, models=64, over_loop=20.0),
            replace(image, model=_wrn(28, 2), records=16_384, batch=256, epochs=10, models=4, over_loop=8.0),
            replace(signal, model=_ecg(128), records=16_384, batch=256, epochs=10, models=8, over_loop=20.0),
            replace(patches, model=_vit(None), records=8_192, batch=256, epochs=10, models=2, share=0.4),
        ]
    return {case.name: case for case in found}


def _table(width: int) -> dict[str, Any]:
    return {"architecture": "tabular_resnet", "width": width, "depth": 2}


def _wrn(depth: int, width: int) -> dict[str, Any]:
    return {"architecture": "wide_resnet", "depth": depth, "width": width}


def _ecg(width: int) -> dict[str, Any]:
    return {"architecture": "resnet1d", "width": width}


def _vit(depth: int | None) -> dict[str, Any]:
    return {"architecture": "vit", "depth": depth, "pretrained": False}


def simulate(case: Case, folder: Path) -> None:
    """Write a prepared dataset of one record a patient with a binary label that the records show, dimly."""
    import pandas as pd

    from tailrisk.datasets.contract import data_hash
    from tailrisk.tables import write_json, write_table

    rng = np.random.default_rng(0)
    sizes = {"audit": case.records, "validation": case.records // 8, "test": case.records // 5}
    n = sum(sizes.values())
    labels = rng.integers(0, 2, n)
    inputs = rng.standard_normal((n, *case.shape), dtype=np.float32)
    inputs += 0.3 * (labels - 0.5).reshape(-1, *[1] * len(case.shape)).astype(np.float32)
    if len(case.shape) == 3:
        inputs = (40 * inputs + 128).clip(0, 255).astype(np.uint8)
    names = [f"patient{number}" for number in range(n)]
    split = rng.permutation(np.repeat(list(sizes), list(sizes.values())))
    records = pd.DataFrame({"record": names, "patient": names, "split": split})
    folder.mkdir()
    write_table(folder / "records.parquet", "records", records)
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", labels)
    card = {
        "task": "binary",
        "classes": ["negative", "positive"],
        "n_outputs": 1,
        "data_hash": data_hash(records, inputs, labels),
    }
    write_json(folder / "card.json", card)


def lay_out(prepared: Path, work: Path) -> tuple[tuple[int, ...], int]:
    """Write to `work` what the loop and the resident arm start from. Returns a record's shape and the audited number.

    `audit.npy` [n] are row numbers, `labels.npy` [N, L] float32 (L = 1 for a binary label). Images become one PNG
    file each, as public data sets come.
    """
    from tailrisk.datasets.contract import open_prepared
    from tailrisk.errors import UserError

    data = open_prepared(prepared)
    labels = np.asarray(data.labels, dtype=np.float32).reshape(len(data.labels), -1)
    if data.task == "multiclass" or np.isnan(labels).any():
        raise UserError(f"{prepared}: the benchmark takes binary labels, one or several, without gaps: choose others")
    np.save(work / "labels.npy", labels)
    np.save(work / "audit.npy", data.rows("audit"))
    if data.inputs.ndim == 4:
        _write_images(data.inputs, work / "images")
    return tuple(data.inputs.shape[1:]), len(data.rows("audit"))


def _write_images(images: NDArray[np.uint8], folder: Path) -> None:
    from PIL import Image

    folder.mkdir()
    for row, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(pixels).save(folder / f"{row}.png")
