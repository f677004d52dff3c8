"""Videos on a clean stand-in, and search results in them."""

import os
from functools import cache

import pytest

from bedrock_marengo import Segment
from bedrock_marengo.search.results import SearchResult

from ..films import film
from .browser import chromium

# Set before scikit-learn is imported: with several workers, its spinning threads make it ten times slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")

film = cache(film)
SECONDS, FPS = 12.0, 10


@pytest.fixture
def local(marengo_bedrock):
    """The stand-in, with files as long as the test video and vectors generated from a hash."""
    marengo_bedrock.synthetic_sec = SECONDS
    return marengo_bedrock


@pytest.fixture
def old_client(connect):
    return connect("2.7")


# Of the module, not the session: Playwright keeps an event loop running, which asyncio's tests would meet.
@pytest.fixture(scope="module")
def opened():
    """Opens a file in a tab of the system's Chromium."""
    with chromium() as opened:
        yield opened


@pytest.fixture
def match(local):
    """A 12 s video at 10 frames per second, each frame showing its number."""
    return local.put(film(seconds=SECONDS, fps=FPS), "videos/match.mp4")


@pytest.fixture
def song(local):
    return local.put(film(video=None, seconds=SECONDS), "songs/song.mp4")


@pytest.fixture
def hit():
    """Returns a function that makes a search result."""
    return _hit


def _hit(source, start_sec=6.0, end_sec=12.0, *, words="", score=0.03, **fields):
    segment = Segment(source, start_sec, end_sec, "visual", "clip", "3fa9c1d27b041e55")
    fields = {"media_type": "video", "tracks": {"visual": 0.123, "audio": None}, **fields}
    return SearchResult(segment=segment, start_sec=start_sec, end_sec=end_sec, words=words, score=score, **fields)
