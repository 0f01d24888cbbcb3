"""CPU time of training target models: a LiRA-style loop, one model at a time on resident data, and this package.

Usage: python benchmarks/training.py [PREPARED_FOLDER] [--models 8] [--epochs 10]

All arms train the same residual network with AdamW on random halves, with equal batch size and epochs, and ask every
model about every audit record. CPU time is that of whole processes, imports and loading included:
  loop      one process per model, a Dataset that yields one record, DataLoader(num_workers=0), plain nn.Module
  resident  one process, one model after another, batches cut from tensors in memory
  stacked   one process, `tailrisk.training.job.run_chunk`
Without PREPARED_FOLDER (results/datasets/<name>) a table of 20,000 patients × 200 features is simulated.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = {"64 x 2, batch 256": (64, 2, 256, 3.0), "32 x 2, batch 64": (32, 2, 64, 5.0)}
"""Width, depth, batch size, and the least ratio loop / stacked that the project asks for."""

RATE = 1e-3


def simulate(folder: Path) -> Path:
    """A prepared dataset of 20,000 patients × 200 features."""
    import numpy as np
    import pandas as pd

    from tailrisk.datasets.contract import data_hash
    from tailrisk.tables import write_json, write_table

    rng = np.random.default_rng(0)
    n = 20_000
    inputs = rng.standard_normal((n, 200), dtype=np.float32)
    labels = (inputs[:, :10].sum(axis=1) + 3 * rng.standard_normal(n) > 0).astype(np.int64)
    names = [f"patient{number}" for number in range(n)]
    split = rng.choice(["audit", "validation", "test"], size=n, p=[0.75, 0.1, 0.15])
    records = pd.DataFrame({"record": names, "patient": names, "split": split})
    folder.mkdir()
    write_table(folder / "records.parquet", "records", records)
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "labels.npy", labels)
    digest = data_hash(records, inputs, labels)
    write_json(folder / "card.json", {"task": "binary", "n_outputs": 1, "data_hash": digest})
    return folder


def plain_network(n_features: int, width: int, depth: int):
    """The residual network as anyone would write it for one model."""
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width)
            )

        def forward(self, x):
            return x + self.layers(x)

    blocks = [Block() for _ in range(depth)]
    return nn.Sequential(nn.Linear(n_features, width), *blocks, nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1))


def run_loop(folder: Path, out: Path, model: int, width: int, depth: int, batch: int, epochs: int) -> None:
    """One target model as in public LiRA code: a loader that fetches record by record."""
    import numpy as np
    import torch
    from torch.utils.data import DataLoader, Dataset

    torch.set_num_threads(1)
    inputs, labels, audit = arrays(folder)
    half = np.random.default_rng(model).random(len(audit)) < 0.5

    class Records(Dataset):
        def __init__(self, rows) -> None:
            self.rows = rows

        def __len__(self) -> int:
            return len(self.rows)

        def __getitem__(self, index: int):
            row = self.rows[index]
            return torch.from_numpy(inputs[row]), torch.tensor(labels[row], dtype=torch.float32)

    network = plain_network(inputs.shape[1], width, depth)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    loss_of = torch.nn.BCEWithLogitsLoss()
    for _ in range(epochs):
        for x, y in DataLoader(Records(audit[half]), batch_size=batch, shuffle=True, num_workers=0):
            optimizer.zero_grad()
            loss_of(network(x)[:, 0], y).backward()
            optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        answers = [network(x)[:, 0] for x, _ in DataLoader(Records(audit), batch_size=batch, num_workers=0)]
    np.save(out / f"loop-{model}.npy", torch.cat(answers).numpy())


def run_resident(folder: Path, out: Path, models: int, width: int, depth: int, batch: int, epochs: int) -> None:
    """One model after another on tensors in memory."""
    import numpy as np
    import torch

    torch.set_num_threads(1)
    inputs, labels, audit = arrays(folder)
    table, truth = torch.from_numpy(inputs), torch.from_numpy(labels).float()
    for model in range(models):
        half = torch.from_numpy(audit[np.random.default_rng(model).random(len(audit)) < 0.5])
        network = plain_network(inputs.shape[1], width, depth)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            for rows in half[torch.randperm(len(half))].split(batch):
                optimizer.zero_grad()
                loss = torch.nn.functional.binary_cross_entropy_with_logits(network(table[rows])[:, 0], truth[rows])
                loss.backward()
                optimizer.step()
            schedule.step()
        with torch.no_grad():
            answers = [network(table[rows])[:, 0] for rows in torch.from_numpy(audit).split(1024)]
        np.save(out / f"resident-{model}.npy", torch.cat(answers).numpy())


def run_stacked(folder: Path, out: Path, models: int, width: int, depth: int, batch: int, epochs: int) -> None:
    """The package's own job."""
    from tailrisk.config.base import canonical
    from tailrisk.config.recipe import Recipe, TabularResNet, Training
    from tailrisk.training.job import run_chunk

    training = Training(
        seed=1,
        model=TabularResNet(architecture="tabular_resnet", width=width, depth=depth),
        recipe=Recipe(epochs=epochs, batch_size=batch, learning_rate=RATE),
    )
    queries = canonical({"clean": {"kind": "clean"}})
    run_chunk(folder, canonical(training), queries, range(models), out / "store", out / "chunk.parquet", device="cpu")


def arrays(folder: Path):
    """Inputs [N, F] and labels [N] of a prepared dataset in memory, and its audit rows."""
    import numpy as np

    from tailrisk.datasets.contract import open_prepared

    prepared = open_prepared(folder)
    return np.array(prepared.inputs, dtype=np.float32), prepared.labels, prepared.rows("audit")


def cpu_seconds(*arguments: object) -> float:
    """CPU seconds of this script run as a process of its own with `arguments`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", *map(str, arguments)]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def compare(folder: Path, models: int, epochs: int) -> dict[str, object]:
    """CPU seconds per model of the three arms, at both sizes."""
    rows = {}
    for name, (width, depth, batch, required) in SIZES.items():
        with tempfile.TemporaryDirectory() as temporary:
            size = (width, depth, batch, epochs)
            stacked = cpu_seconds("stacked", folder, temporary, models, *size) / models
            resident = cpu_seconds("resident", folder, temporary, models, *size) / models
            loop = sum(cpu_seconds("loop", folder, temporary, model, *size) for model in range(models)) / models
        rows[name] = {
            "loop": round(loop, 2),
            "resident": round(resident, 2),
            "stacked": round(stacked, 2),
            "loop/stacked": round(loop / stacked, 2),
            "required": required,
            "resident/stacked": round(resident / stacked, 2),
        }
        print(name, json.dumps(rows[name]), flush=True)
    return rows


def main() -> None:
    """Run the comparison, or one arm of it as a child process."""
    if sys.argv[1:2] == ["--child"]:
        arm, folder, out, *numbers = sys.argv[2:]
        runs = {"loop": run_loop, "resident": run_resident, "stacked": run_stacked}
        runs[arm](Path(folder), Path(out), *map(int, numbers))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--models", type=int, default=8, help="models an arm")
    parser.add_argument("--epochs", type=int, default=10)
    options = parser.parse_args()
    import torch

    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or simulate(Path(temporary) / "simulated")
        rows = compare(folder, options.models, options.epochs)
    processor = platform.processor() or platform.machine()
    about = {
        "unit": "CPU seconds per model",
        "models": options.models,
        "epochs": options.epochs,
        "data": "simulated 20,000 x 200" if options.folder is None else options.folder.name,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{processor}, {os.cpu_count()} cores",
    }
    print(json.dumps({**about, "sizes": rows}, indent=1))


if __name__ == "__main__":
    main()
