"""One GPU a job: claimed by processes side by side, waited for, and free again however a process ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tailrisk.config.machine import gpus
from tailrisk.training.own_gpu import own_gpu

HOLD = """
import os, sys, time
from pathlib import Path
from tailrisk.training.own_gpu import own_gpu
with own_gpu(Path(sys.argv[1])):
    print("has", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize(
    ("visible", "names"), [("0,1", ["0", "1"]), ("GPU-a, GPU-b", ["GPU-a", "GPU-b"]), ("", []), ("-1", [])]
)
def test_visible_gpus(monkeypatch, visible: str, names: list[str]) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == names


def test_gpus_of_a_machine(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia0", "nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm", "null"):
        (tmp_path / name).touch()
    assert gpus(tmp_path) == ["0", "2", "10"]
    assert gpus(tmp_path / "nothing") == []


def test_processes_share_no_gpu(tmp_path) -> None:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "4,7"}
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    running = []
    try:
        for _ in range(3):
            running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
            line = running[-1].stdout.readline().strip()
            if len(running) < 3:
                assert line == f"has {'47'[len(running) - 1]}"
            else:
                assert line == "waiting: other jobs have all 2 GPUs of this machine"
        time.sleep(2)
        os.kill(running[1].pid, signal.SIGKILL)  # no chance to give anything back
        assert running[2].stdout.readline().strip() == "has 7"
    finally:
        for process in running:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("visible", ["3", ""])
def test_one_gpu_or_none_is_left_alone(monkeypatch, tmp_path, visible: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with own_gpu(tmp_path):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert list(tmp_path.iterdir()) == []


def test_the_choice_is_given_back(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    for _ in range(2):
        with own_gpu(tmp_path):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_locks_can_be_read_by_all(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    before = os.umask(0o077)
    try:
        with own_gpu(tmp_path):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "tailrisk-gpu-0.lock").stat().st_mode & 0o777 == 0o644
