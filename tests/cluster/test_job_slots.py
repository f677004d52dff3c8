"""RayJobSlots: one limit for all processes of a cluster, whichever of them die."""

import pickle
import subprocess
import sys
import time

import pytest

from bedrock_marengo import ConfigurationError, MarengoClient

pytestmark = pytest.mark.slow

LEASE_SEC = 3.0


@pytest.fixture
def slots_of(cluster, request):
    """Slots of this test."""
    from marengo_ray import RayJobSlots

    name = request.node.name
    return lambda **settings: RayJobSlots(**{"name": name, "jobs_at_once": 5, "lease_sec": LEASE_SEC, **settings})


@pytest.fixture
def actors(cluster, local, slots_of):
    """Four actors on two nodes."""
    import ray

    # A class of this function goes to workers by value: they can't import a test.
    class Embedder:
        def __init__(self, settings):
            self.client = MarengoClient(**settings)

        def embed(self, sources):
            return [(done.uri, done.error) for done in self.client.embed_many(sources, options=["visual"])]

    settings = {"output_s3_uri": local.output_s3_uri, "bucket_owner": local.account_id, "job_slots": slots_of()}
    made = [ray.remote(Embedder).options(num_cpus=1.5).remote(settings) for _ in range(4)]
    yield made
    for actor in made:
        ray.kill(actor)


def test_four_actors_keep_to_one_limit_and_a_dead_nodes_slots_come_back(
    local, slots_of, actors, peaks, videos, kill_node, until
):
    import ray

    uris = [f"{videos}{i:02}.mp4" for i in range(24)]
    runs = [actor.embed.remote(uris[i::4]) for i, actor in enumerate(actors)]
    until(lambda: len(local.jobs) >= 7)
    kill_node()
    done, dead, alive = [], [], []
    for i, run in enumerate(runs):
        try:
            done += ray.get(run, timeout=180)
            alive.append(actors[i])
        except ray.exceptions.RayActorError:
            dead += uris[i::4]
    assert len(alive) == 2
    after = len(peaks)
    done += [pair for run in [actor.embed.remote(dead[i::2]) for i, actor in enumerate(alive)] for pair in ray.get(run)]
    assert sorted(done) == [(uri, None) for uri in uris]
    assert len(local.jobs) == 24, "no job twice"
    assert max(peaks) == 5 == max(peaks[after:])
    # All are free at the end.
    slots = slots_of()
    assert all(slots.acquire(LEASE_SEC) for _ in range(5)) and slots.acquire(0.1) is None


def test_what_the_service_refuses_limits_all(local, actors, peaks, videos):
    import ray

    local.max_jobs = 3
    uris = [f"{videos}{i:02}.mp4" for i in range(16)]
    done = [pair for run in [actor.embed.remote(uris[i::4]) for i, actor in enumerate(actors)] for pair in ray.get(run)]
    assert sorted(done) == [(uri, None) for uri in uris] and max(peaks) == 3
    # Four clients that learn alone are refused again and again.
    assert local.calls["StartAsyncInvoke"] <= 16 + 4


class TestTheActor:
    def test_dies_and_comes_back_with_the_slots_of_the_living(self, cluster, slots_of):
        import ray

        slots = slots_of(lease_sec=12.0)
        held = [slots.acquire(1.0) for _ in range(5)]
        assert all(held)
        ray.kill(slots._keeper(), no_restart=False)
        assert slots.acquire(6.0) is None
        slots.release(held[0], "ended")
        assert slots.acquire(6.0) and slots.acquire(0.1) is None

    def test_is_made_again_if_someone_ends_it(self, cluster, slots_of, until):
        import ray

        slots = slots_of()
        ray.kill(slots._keeper())
        until(lambda: slots.acquire(0.1))

    def test_keeps_no_slot_that_is_not_renewed(self, cluster, slots_of):
        slots = slots_of(lease_sec=1.0)
        assert [slots.acquire(1.0) is not None for _ in range(5)] == [True] * 5
        time.sleep(1.5)
        assert slots.acquire(0.1) is None, "renewed"
        slots._held.clear()
        assert slots.acquire(2.5)

    def test_spaces_starts(self, cluster, slots_of):
        slots = slots_of(max_starts_per_sec=5.0)
        assert slots.acquire(1.0)
        began = time.monotonic()
        assert all(slots.acquire(1.0) for _ in range(4))
        assert time.monotonic() - began >= 0.7

    def test_lets_wait_who_is_too_early(self, cluster, slots_of):
        slots = slots_of(max_starts_per_sec=0.1)
        assert slots.acquire(1.0)
        began = time.monotonic()
        assert slots.acquire(0.5) is None and time.monotonic() - began > 0.4

    def test_is_one_for_a_copy_that_was_pickled(self, cluster, slots_of):
        slots = slots_of(jobs_at_once=1)
        assert slots.acquire(1.0)
        assert pickle.loads(pickle.dumps(slots)).acquire(0.1) is None


WRONG = [("jobs_at_once", 0), ("max_starts_per_sec", 0), ("max_starts_per_sec", True), ("name", ""), ("lease_sec", 0)]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_setting_is_refused(name, value):
    pytest.importorskip("ray")
    from marengo_ray import RayJobSlots

    with pytest.raises(ConfigurationError, match=f"{name}={value!r}"):
        RayJobSlots(**{name: value})


def test_it_needs_a_connection(monkeypatch):
    ray = pytest.importorskip("ray")
    from marengo_ray import RayJobSlots

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ConfigurationError, match=r"call ray.init\(\) first"):
        RayJobSlots()


def test_without_ray_the_error_names_the_extra():
    script = "import sys; sys.modules['ray'] = None; import marengo_ray"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "marengo_ray needs ray: pip install 'bedrock-marengo[ray]'" in result.stderr
