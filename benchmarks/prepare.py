"""Time of reading images: this package's prepare stage beside a pool of processes that reads them by Pillow.

Usage: python benchmarks/prepare.py [--data FOLDER] [--cores N] [--repeats 5] [--case NAME]

Both arms turn the same files into gray images of 64 × 64 pixels, on as many cores:
  ours  `tailrisk.datasets.decode.Decoding`, which checks every file, and writes an array to disk that a killed job
        takes up again
  pool  multiprocessing.Pool over the files: Pillow's open, convert("L"), resize(BILINEAR), numpy.asarray; the array
        stays in memory, and a file that cannot be read would end it
The cases are generated JPEG files of the sizes (in pixels and, about, in bytes) of CheXpert-small and of MIMIC-CXR-JPG
and, from the folder of open datasets --data (TAILRISK_DATA), PNG files of NIH ChestX-ray14 (a release at 64 × 64
pixels) and of Hannover's COVID-19 images, each repeated by links. The arms are processes of their own that take turns;
imports are not counted, starting the pool's workers is. On a machine with other work, CPU time (the least of the
repeats) is the steadier measure. Memory is the peak of all processes of an arm together, counted as the largest
worker's times their number, each with its libraries.

Then the time to open a prepared dataset of as many records as CheXpert, as every training job does, and to read it all.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from machine import cores_and_load
from numpy.typing import NDArray
from PIL import Image

from tailrisk import __version__

SHAPE = (64, 64)
ARMS = ("ours", "pool")
CHEXPERT = 223_414
UNIT = 2**20 if sys.platform == "darwin" else 2**10
"""Of `ru_maxrss` in a MiB."""


def generated(folder: Path, files: int, height: int, width: int, noise: float, quality: int) -> None:
    """JPEG files with smooth content and grain, links to up to 24 different ones."""
    folder.mkdir()
    for number in range(files):
        path = folder / f"{number:05d}.jpg"
        if number >= 24:
            path.hardlink_to(folder / f"{number % 24:05d}.jpg")
            continue
        random = np.random.default_rng(number)
        coarse = random.normal(size=(height // 32 + 2, width // 32 + 2)).astype(np.float32)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        pixels = 128 + 45 * smooth + noise * random.normal(size=(height, width))
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path, quality=quality)


def linked(folder: Path, source: Path, files: int) -> None:
    """`files` links to the PNG files of `source`, in turn."""
    found = sorted(source.rglob("*.png"))
    folder.mkdir()
    for number in range(files):
        (folder / f"{number:05d}.png").symlink_to(found[number % len(found)].resolve())


def cases(data: Path | None) -> dict[str, Any]:
    """What lays out the files of each case in a folder."""
    found: dict[str, Any] = {
        "JPEG 320 × 390": lambda folder: generated(folder, 4000, 320, 390, noise=5, quality=95),
        "JPEG 3056 × 2544": lambda folder: generated(folder, 72, 3056, 2544, noise=4, quality=90),
    }
    if data:
        found |= {
            "PNG 64 × 64, NIH": lambda folder: linked(folder, data / "nih_chestxray14_subset", 32_000),
            "PNG about 256 × 215, Hannover": lambda folder: linked(folder, data / "covid19_hannover", 8000),
        }
    return found


def by_package(paths: list[Path], work: Path, cores: int) -> dict[str, float]:
    """The arm `ours`: what was measured, and the mean gray."""
    from tailrisk.datasets.decode import Decoding
    from tailrisk.datasets.images import pictures

    files = pictures(paths, SHAPE)
    start = now()
    decoding = Decoding(files, work, "benchmark")
    faults = decoding.run(0.0, cores)
    found = measures(start, len(paths), workers=0)
    assert not faults
    return found | {"gray": float(np.mean([block.mean() for block in decoding.rows(np.arange(len(paths)))]))}


def by_pool(paths: list[Path], work: Path, cores: int) -> dict[str, float]:
    """The same of the arm `pool`."""
    from multiprocessing import Pool

    start = now()
    with Pool(cores) as pool:
        images = np.stack(pool.map(by_pillow, paths, chunksize=max(1, min(64, len(paths) // (4 * cores)))))
        pool.close()
        pool.join()
    return measures(start, len(paths), workers=cores) | {"gray": float(images.mean())}


def by_pillow(path: Path) -> NDArray[np.uint8]:
    """One image, in the usual four steps."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize(SHAPE, Image.Resampling.BILINEAR))


def now() -> NDArray[np.float64]:
    """Seconds of the clock, and of CPU of this process and of those that it has waited for."""
    return np.array([time.perf_counter(), sum(os.times()[:4])])


def measures(start: NDArray[np.float64], files: int, workers: int) -> dict[str, float]:
    """Images a second, CPU milliseconds an image, and MiB of memory at the peak."""
    seconds, cpu = now() - start
    in_workers = workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / UNIT
    return {"rate": files / seconds, "cpu": 1e3 * cpu / files, "memory": peak() + in_workers}


def peak() -> float:
    """MiB that this process had at most; on Linux not by getrusage, which counts what its parent had before it."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / UNIT


def child(arm: str, folder: Path, cores: int) -> None:
    """One arm on the files of a folder; prints what it measured for the parent process."""
    paths = sorted(folder.iterdir())
    with tempfile.TemporaryDirectory() as work:
        print(json.dumps((by_package if arm == "ours" else by_pool)(paths, Path(work, "decoding"), cores)))


def measured(folder: Path, cores: int, repeats: int) -> dict[str, list[dict[str, float]]]:
    """What each arm reports, once a repeat, the arms in turns and in changing order."""
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for path in folder.iterdir():  # so that no arm is the first to read from disk
        path.read_bytes()
    for repeat in range(repeats):
        for arm in ARMS if repeat % 2 == 0 else reversed(ARMS):
            command = [sys.executable, __file__, "--child", arm, str(folder), str(cores)]
            done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
            found[arm].append(json.loads(done.stdout))
    return found


def described(name: str, folder: Path, found: dict[str, list[dict[str, float]]]) -> Iterator[str]:
    """Lines on one case."""
    files = list(folder.iterdir())
    size = statistics.mean(path.stat().st_size for path in files) / 1e3
    yield f"{name}: {len(files):,} files of {size:,.0f} kB on average, {len(found['ours'])} repeats"
    for arm, runs in found.items():
        rates = [run["rate"] for run in runs]
        yield (
            f"  {arm}: {statistics.median(rates):10,.0f} images/s ({min(rates):,.0f} … {max(rates):,.0f}), "
            f"{min(run['cpu'] for run in runs):.2f} ms of CPU each, "
            f"peak {max(run['memory'] for run in runs):,.0f} MiB, mean gray {runs[0]['gray']:.2f}"
        )
    ratios = [ours["rate"] / pool["rate"] for ours, pool in zip(found["ours"], found["pool"], strict=True)]
    work = [min(run["cpu"] for run in found[arm]) for arm in ARMS]
    yield (
        f"  images/s, ours / pool: {statistics.median(ratios):.2f} ({min(ratios):.2f} … {max(ratios):.2f}); "
        f"CPU, pool / ours: {work[1] / work[0]:.2f}"
    )


def opening(folder: Path) -> Iterator[str]:
    """Time to open a prepared dataset as large as CheXpert, and to read all of its images."""
    import pandas as pd

    from tailrisk.datasets.contract import open_prepared
    from tailrisk.tables import write_array, write_json, write_table

    folder.mkdir()
    ids = np.char.add("r", np.arange(CHEXPERT).astype(str)).astype(object)
    write_table(folder / "records.parquet", "records", pd.DataFrame({"record": ids, "patient": ids, "split": "audit"}))
    write_array(folder / "inputs.npy", np.ones((CHEXPERT, 1, *SHAPE), dtype=np.uint8))
    write_array(folder / "labels.npy", np.zeros((CHEXPERT, 14), dtype=np.float32))
    card = {"task": "multilabel", "classes": ["a"] * 14, "n_outputs": 14, "data_hash": ""}
    write_json(folder / "card.json", card)
    opened, read = [], []
    for _ in range(3):
        start = time.perf_counter()
        prepared = open_prepared(folder)
        opened.append(time.perf_counter() - start)
        start = time.perf_counter()
        np.asarray(prepared.inputs).copy()
        read.append(time.perf_counter() - start)
    size = prepared.inputs.nbytes / 1e9
    yield f"a prepared dataset of {CHEXPERT:,} images: opened in {min(opened):.2f} s, its {size:.2f} GB read in "
    yield f"  {min(read):.2f} s more (from memory, as on every opening but the first)"


def main() -> None:
    """Run the comparison, or one arm of it as a child process."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("TAILRISK_DATA"), help="folder of open datasets")
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--case", help="the cases whose name holds this, such as PNG")
    options = parser.parse_args()
    versions = f"Pillow {version('pillow')}, numpy {np.__version__}, Python {platform.python_version()}"
    print(f"tailrisk {__version__}, {versions}, {platform.platform()}")
    print(f"{cores_and_load()}; {options.cores} used by each arm", flush=True)
    for name, lay_out in cases(options.data).items():
        if options.case and options.case not in name:
            continue
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary, "files")
            lay_out(folder)
            for line in described(name, folder, measured(folder, options.cores, options.repeats)):
                print(line, flush=True)
    if not options.case:
        with tempfile.TemporaryDirectory() as temporary:
            for line in opening(Path(temporary, "dataset")):
                print(line)


if __name__ == "__main__":
    main()
