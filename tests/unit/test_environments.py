"""The pinned environments name one set of versions, and everything that the package depends on."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

CONDA_NAMES = {"torch": "pytorch", "matplotlib": "matplotlib-base", "huggingface-hub": "huggingface_hub"}
OF_SNAKEMAKE = {"snakemake", "snakemake-executor-plugin-slurm", "pygments"}
OF_TRAINING = {"torch", "torchvision", "timm", "huggingface-hub"}
OF_ANALYSIS = {"jinja2", "matplotlib", "pillow", "wfdb", "pydicom", "python-calamine"}


def pinned(repository: Path) -> dict[str, str]:
    """The versions that Python 3.11 on Linux gets from constraints.txt."""
    lines = (repository / "envs/constraints.txt").read_text().splitlines()
    chosen = [line for line in lines if "==" in line and ">= '3.12'" not in line]
    return {name: version.split(" ")[0] for name, version in (line.split("==", 1) for line in chosen)}


def of_conda(repository: Path, name: str) -> dict[str, str]:
    environment = yaml.safe_load((repository / f"envs/{name}.yaml").read_text())
    return dict(line.split("=") for line in environment["dependencies"])


@pytest.mark.parametrize(("name", "others"), [("train", OF_ANALYSIS), ("analysis", OF_TRAINING)])
def test_conda_files(repository, name: str, others: set[str]) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=]", line)[0] for line in project["dependencies"]} - OF_SNAKEMAKE - others
    versions = pinned(repository)
    expected = {CONDA_NAMES.get(package, package): versions[package] for package in needed}
    assert of_conda(repository, name) == {"python": "3.11"} | expected
