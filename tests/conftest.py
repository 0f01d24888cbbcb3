"""What all tests share: the folder of real open data, and short ways to write configurations."""

import os
from pathlib import Path

import hypothesis
import pytest

hypothesis.settings.register_profile("shared", deadline=None)  # a busy machine is no fault of a test
hypothesis.settings.load_profile("shared")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the tests run side by side, each on one thread

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def open_data() -> Path:
    """Folder of openly licensed medical data, named by TAILRISK_DATA; tests that need it skip where it is absent."""
    folder = os.environ.get("TAILRISK_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("set TAILRISK_DATA to a folder with the open datasets (diabetes130/dataset_diabetes.zip, ...)")
    return Path(folder)


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY
