"""A Ray cluster on this machine: a head for the driver, and two nodes that work, one of which may die."""

import faulthandler
import time

import pytest

NODE = {"object_store_memory": 80_000_000, "include_dashboard": False}
CPUS = 3.0
# A dead node is noticed in 8 seconds instead of 20.
SYSTEM = {"health_check_period_ms": 1000, "health_check_failure_threshold": 8, "health_check_timeout_ms": 8000}


@pytest.fixture(scope="module")
def _ray_cluster(_marengo_bedrock_server, tmp_path_factory):
    """Imported here: every worker of pytest collects these files, and few run them, one at a time."""
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    from filelock import FileLock
    from ray.cluster_utils import Cluster

    # Waiting for the tests of another worker is no hang.
    faulthandler.cancel_dump_traceback_later()
    # Nodes inherit the environment, and in it the stand-in's endpoints and credentials.
    ours = {**_marengo_bedrock_server.env, "RAY_USAGE_STATS_ENABLED": "0", "RAY_DATA_DISABLE_PROGRESS_BARS": "1"}
    with (
        pytest.MonkeyPatch.context() as patch,
        FileLock(tmp_path_factory.getbasetemp().parent / "ray.lock", timeout=1200),
    ):
        for name, value in ours.items():
            patch.setenv(name, value)
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": SYSTEM, **NODE})
        ray.init(address=cluster.address, log_to_driver=False)
        yield cluster
        ray.shutdown()
        cluster.shutdown()


@pytest.fixture
def cluster(_ray_cluster, local):
    """Two nodes that work, whichever the last test has left."""
    while len(_ray_cluster.worker_nodes) < 2:
        _ray_cluster.add_node(num_cpus=CPUS, **NODE)
    _ray_cluster.wait_for_nodes()
    return _ray_cluster


@pytest.fixture
def kill_node(cluster):
    """Kills one of the nodes that work, without notice."""
    return lambda: cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)


@pytest.fixture
def peaks(local):
    """How many jobs run at each start, that one included, if each takes a second."""
    running = []

    def job_sec(job):
        running.append(len(local.jobs.running()))
        return 1.0

    local.job_duration_sec = job_sec
    return running


@pytest.fixture
def until():
    return _until


def _until(holds, sec=180.0):
    end = time.monotonic() + sec
    while not holds():
        assert time.monotonic() < end, f"not within {sec} s"
        time.sleep(0.05)


@pytest.fixture
def videos(local):
    """A prefix with 24 videos."""
    local.synthetic_sec = 12.0
    for i in range(24):
        local.put(bytes([i]), f"videos/{i:02}.mp4")
    return f"s3://{local.bucket}/videos/"


@pytest.fixture
def local(marengo_bedrock):
    marengo_bedrock.synthetic_sec = 12.0
    return marengo_bedrock
