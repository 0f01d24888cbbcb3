"""A real SLURM for the tests, brought up in seconds and taken down with them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, unavailable
from study import Study


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Iterator[Cluster]:
    """SLURM with two nodes of four pretended GPUs each."""
    reason = unavailable()
    if reason is not None:
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("slurm")) as started:
        yield started


@pytest.fixture
def study(cluster, repository, tmp_path: Path) -> Study:
    """A study that nothing was done of yet, to be run on the cluster."""
    return Study(tmp_path / "study", repository, cluster.environment)
