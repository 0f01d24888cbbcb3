"""The three ways of training target models that `training.py` compares; each runs in processes of its own.

They train the same networks with the same optimiser, rate, batch size and augmentation on halves of the same records,
in bfloat16 where the engine does, and ask every model about every record of the dataset: those of the audit for the
attack, those of validation and test for its performance. What differs is how they are run.
"""

import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from training_cases import SEED, Case

WORKERS = 4
"""Processes that load for a GPU; on a CPU the one that trains loads, as its core is busy either way."""


class Residual(nn.Module):
    """A block of the residual network for tables, as anyone would write it for one model."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def network_of(case: Case, shape: tuple[int, ...], n_outputs: int, model: int) -> nn.Module:
    """One target model: plain layers for tables, which the engine stacks, else the package's own network."""
    if len(shape) == 1:
        width, depth = case.model["width"], case.model["depth"]
        blocks = [Residual(width) for _ in range(depth)]
        head = [nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, n_outputs)]
        return nn.Sequential(nn.Linear(shape[0], width), *blocks, *head)
    from tailrisk.models import build

    built: Any = build(case.training().model, shape, n_outputs, seeds=[model])
    return built.models[0]


def half_of(work: Path, model: int) -> NDArray[np.int64]:
    """Rows that a target model is trained on. Two models of a pair share the audited records out between them."""
    audit = np.load(work / "audit.npy")
    heads = np.random.default_rng([SEED, model // 2]).random(len(audit)) < 0.5
    return audit[heads ^ bool(model % 2)]


class Trainer:
    """One network in training, step by step, as both plain arms do it."""

    def __init__(
        self, case: Case, shape: tuple[int, ...], n_outputs: int, model: int, steps: int, device: str, fused: bool
    ) -> None:
        self.network = network_of(case, shape, n_outputs, model).to(device)
        self._bf16 = device == "cuda" and len(shape) > 1
        if self._bf16 and len(shape) == 3:
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        weights = self.network.parameters()
        if case.optimizer == "sgd":
            self._optimizer: Any = torch.optim.SGD(weights, lr=case.rate, momentum=0.9, fused=fused)
        else:
            self._optimizer = torch.optim.AdamW(weights, lr=case.rate, weight_decay=0.0, fused=fused)
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, steps)

    def step(self, x: Tensor, y: Tensor) -> None:
        """One step on records x [B, …] with labels y [B, L]."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self._bf16):
            logits = self.network(self._ordered(x))
        loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), y)
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()

    @torch.no_grad()
    def ask(self, x: Tensor) -> Tensor:
        """Logits [B, L], on the CPU."""
        self.network.eval()
        return self.network(self._ordered(x)).cpu()

    def _ordered(self, x: Tensor) -> Tensor:
        return x.contiguous(memory_format=torch.channels_last) if self._bf16 and x.ndim == 4 else x


# The loop: what public code for likelihood-ratio attacks does.


class Records(Dataset[tuple[Tensor, Tensor]]):
    """Records one at a time: images decoded from their files, signals read from disk, tables from memory."""

    def __init__(self, work: Path, prepared: Path, rows: NDArray[np.int64], augmentation: str) -> None:
        self._images, self._rows, self._augmentation = work / "images", rows, augmentation
        self._inputs = np.load(prepared / "inputs.npy", mmap_mode="r")
        if self._inputs.ndim == 2:
            self._inputs = np.array(self._inputs)
        self._labels = torch.from_numpy(np.load(work / "labels.npy"))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self._rows[index]
        if self._inputs.ndim == 4:
            record = self._image(row)
        elif self._augmentation == "ecg":
            record = distorted(self._inputs[row])
        else:
            record = np.array(self._inputs[row])
        return torch.from_numpy(record), self._labels[row]

    def _image(self, row: int) -> NDArray[np.float32]:
        from PIL import Image, ImageOps

        with Image.open(self._images / f"{row}.png") as image:
            mirrored = self._augmentation == "weak" and random.random() < 0.5
            pixels = np.asarray(ImageOps.mirror(image) if mirrored else image)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        if self._augmentation == "weak":
            height, width = pixels.shape[1:]
            down, right = height // 8, width // 8
            wide = np.pad(pixels, ((0, 0), (down, down), (right, right)), mode="reflect")
            top, left = random.randint(0, 2 * down), random.randint(0, 2 * right)
            pixels = wide[:, top : top + height, left : left + width]
        return pixels.astype(np.float32) / 127.5 - 1


def distorted(signal: NDArray[np.float32]) -> NDArray[np.float32]:
    """One signal [leads, samples] shifted in time, scaled, and without one lead in ten."""
    delay = random.randint(-(signal.shape[1] // 10), signal.shape[1] // 10)
    changed = np.roll(signal, delay, axis=1) * np.float32(random.uniform(0.8, 1.2))
    changed[[lead for lead in range(len(signal)) if random.random() < 0.1]] = 0
    return changed


def run_loop(case: Case, work: Path, prepared: Path, device: str, models: range) -> None:
    """One process per model, a Dataset that yields one record, a DataLoader, a plain module."""
    (model,) = models
    gpu = device == "cuda"
    loading: dict[str, Any] = {"batch_size": case.batch, "num_workers": WORKERS if gpu else 0, "pin_memory": gpu}
    inputs = np.load(prepared / "inputs.npy", mmap_mode="r")
    labels = np.load(work / "labels.npy", mmap_mode="r")
    members = Records(work, prepared, half_of(work, model), case.augmentation)
    loader = DataLoader(members, shuffle=True, persistent_workers=gpu, **loading)
    steps = case.epochs * len(loader)
    trainer = Trainer(case, inputs.shape[1:], labels.shape[1], model, steps, device, fused=False)
    for _ in range(case.epochs):
        for x, y in loader:
            trainer.step(x.to(device, non_blocking=True), y.to(device, non_blocking=True))
    everyone = Records(work, prepared, np.arange(len(labels)), "none")
    answers = [trainer.ask(x.to(device, non_blocking=True)) for x, _ in DataLoader(everyone, **loading)]
    np.save(work / f"loop-{model}.npy", torch.cat(answers).numpy())


# One model at a time on data in memory: what a careful programmer writes for one model.


class InMemory:
    """Inputs [N, …], as the dataset keeps them, and labels [N, L] on the device."""

    def __init__(self, work: Path, prepared: Path, device: str) -> None:
        self.inputs = torch.from_numpy(np.load(prepared / "inputs.npy")).to(device)
        self.labels = torch.from_numpy(np.load(work / "labels.npy")).to(device)
        self.device = device

    def records(self, rows: Tensor) -> Tensor:
        """Model inputs [n, …] of row numbers [n]."""
        x = self.inputs[rows]
        return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x

    def trained(self, case: Case, half: NDArray[np.int64], model: int) -> Trainer:
        """A target model trained on the rows `half`."""
        rows = torch.from_numpy(half).to(self.device)
        change = CHANGES[case.augmentation]
        steps = case.epochs * -(-len(rows) // case.batch)
        shape, n_outputs = tuple(self.inputs.shape[1:]), self.labels.shape[1]
        trainer = Trainer(case, shape, n_outputs, model, steps, self.device, fused=True)
        for _ in range(case.epochs):
            for batch in rows[torch.randperm(len(rows), device=self.device)].split(case.batch):
                trainer.step(change(self.records(batch)), self.labels[batch])
        return trainer

    def answers(self, trainer: Trainer) -> NDArray[np.float32]:
        """Logits [N, L] of a model for every record, asked in blocks that fill a GPU or fit into a CPU's cache."""
        block = 1024 if self.device == "cuda" or self.inputs.ndim == 2 else 32
        rows = torch.arange(len(self.inputs), device=self.device)
        return torch.cat([trainer.ask(self.records(part)) for part in rows.split(block)]).numpy()


def weak(x: Tensor) -> Tensor:
    """Images [B, C, H, W] flipped by chance and shifted by up to an eighth, mirrored at the border."""
    n, _, height, width = x.shape
    down, right, device = height // 8, width // 8, x.device
    flipped = torch.where(torch.rand(n, 1, 1, 1, device=device) < 0.5, x.flip(3), x)
    wide = nn.functional.pad(flipped, (right, right, down, down), mode="reflect")
    rows = torch.randint(2 * down + 1, (n, 1), device=device) + torch.arange(height, device=device)
    columns = torch.randint(2 * right + 1, (n, 1), device=device) + torch.arange(width, device=device)
    record = torch.arange(n, device=device)[:, None, None]
    return wide.permute(0, 2, 3, 1)[record, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2).contiguous()


def ecg(x: Tensor) -> Tensor:
    """Signals [B, leads, samples] shifted in time, scaled, and without one lead in ten."""
    n, leads, samples = x.shape
    delay = torch.randint(-(samples // 10), samples // 10 + 1, (n, 1), device=x.device)
    source = (torch.arange(samples, device=x.device) - delay) % samples
    scale = torch.empty(n, 1, 1, device=x.device).uniform_(0.8, 1.2)
    keep = torch.rand(n, leads, 1, device=x.device) >= 0.1
    return x.gather(2, source[:, None].expand_as(x)) * (scale * keep)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {"none": lambda x: x, "weak": weak, "ecg": ecg}


def run_resident(case: Case, work: Path, prepared: Path, device: str, models: range) -> None:
    """One process, one model after another, batches cut from tensors in memory."""
    data = InMemory(work, prepared, device)
    for model in models:
        trainer = data.trained(case, half_of(work, model), model)
        np.save(work / f"resident-{model}.npy", data.answers(trainer))


# This package.


def run_engine(case: Case, work: Path, prepared: Path, device: str, models: range) -> None:
    """One process, the package's own job."""
    from tailrisk.config.base import canonical
    from tailrisk.training.job import run_chunk

    queries = canonical({"clean": {"kind": "clean"}})
    with TemporaryDirectory(dir=work) as folder:  # an empty store, or the answers of the last time would be served
        store, chunk = Path(folder, "store"), Path(folder, "chunk.parquet")
        run_chunk(prepared, canonical(case.training()), queries, models, store, chunk, device=device, progress=None)


ARMS = {"loop": run_loop, "resident": run_resident, "engine": run_engine}
