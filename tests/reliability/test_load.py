"""Every fault at once, for seconds here and for minutes in the benchmark."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bedrock_marengo import SegmentEmbeddings
from bedrock_marengo.embedding.vector_cache import VectorCache

pytestmark = pytest.mark.promise("Memory, threads and open files stay bounded")

SOAK = Path(__file__).parents[2] / "benchmarks" / "soak.py"


@pytest.mark.slow
def test_with_every_fault_on_each_medium_comes_once_and_is_paid_for_once():
    ran = subprocess.run(
        [sys.executable, SOAK, "--minutes", "0.03", "--timeout", "20"], capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0 and "problems: 0 " in ran.stdout, ran.stdout + ran.stderr
    assert " fails once: done" in ran.stdout and " faults injected" in ran.stdout


def test_the_cache_of_vectors_keeps_to_its_bound_and_forgets_to_the_last_byte():
    cache = VectorCache(cache_bytes=100_000)
    for number in range(1_000):
        cache.remember(job(number))
        cache.remember(job(number))  # of two threads that read it at once
        assert cache._size == sum(table.size for table in cache._tables.values()) <= 100_000
    assert 10 < len(cache._tables) < 50
    for number in range(1_000):
        cache.forget(f"s3://bucket/{number}.mp4")
    assert cache._size == 0


def job(number):
    times = np.arange(1.0)
    return SegmentEmbeddings(
        vectors=np.zeros((1, 512), np.float32),
        start_sec=times,
        end_sec=times + 1,
        option=["visual"],
        scope=["clip"],
        source=f"s3://bucket/{number}.mp4",
        job=f"{number:016x}",
        model_id="a model",
        media_type="video",
    )
