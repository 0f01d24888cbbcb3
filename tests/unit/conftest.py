"""Prepared datasets, made once in a test process; no test changes them."""

from pathlib import Path

import pytest
from real_sources import nih, source

from tailrisk.config.sources import BreastCancer
from tailrisk.datasets.groups import groups
from tailrisk.datasets.prepare import prepare


@pytest.fixture(scope="session")
def nih_folder(open_data) -> Path:
    return open_data / "nih_chestxray14_subset"


@pytest.fixture(scope="session")
def ptbxl_folder(open_data) -> Path:
    return open_data / "ptbxl_subset"


@pytest.fixture(scope="session")
def nih_prepared(nih_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("nih")
    prepare("nih", nih(nih_folder), folder)
    groups(nih(nih_folder), folder)
    return folder


@pytest.fixture(scope="session")
def ptbxl_prepared(ptbxl_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ptbxl")
    spec = source(source="ptbxl", path=str(ptbxl_folder))
    prepare("ptbxl", spec, folder)
    groups(spec, folder)
    return folder


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The breast cancer data, prepared."""
    folder = tmp_path_factory.mktemp("data") / "breast_cancer"
    prepare("breast_cancer", BreastCancer(source="breast_cancer"), folder)
    return folder
