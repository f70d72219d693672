"""Ray on this machine for the tests of one module, apart from whatever cluster runs here."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

import pytest
import ray
from ray.cluster_utils import Cluster

QUIET = {"log_to_driver": False, "logging_level": logging.WARNING}


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    """Room for two shards."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(address="local", num_cpus=2, include_dashboard=False, **QUIET)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[None]:
    """Room for a shard on each of two nodes."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, **QUIET)
        yield
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on this machine, as two `ray start` would make them."""
    ports = {name: free_port() for name in ("dashboard_port", "dashboard_agent_listen_port")}  # others may run Ray here
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": True, **ports})
    cluster.add_node(num_cpus=2, dashboard_agent_listen_port=free_port())
    yield cluster
    cluster.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
