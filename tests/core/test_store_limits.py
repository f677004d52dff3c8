"""A store that refuses so many hits ends the widening with what it gave; what else it refuses is raised."""

import asyncio

import numpy as np
import pytest

from bedrock_marengo import InputError, MarengoWarning
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.search.fusion import SearchSettings, SearchTarget
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch, aretrieve, retrieve
from bedrock_marengo.search.store_limits import STORE_LIMITS, limit_of

TARGETS = tuple(SearchTarget(track, "clip") for track in ("visual", "audio", "image"))
ROWS = [
    StoreHit(
        Segment(f"s3://b/{i}.mp4", 0.0, 6.0, ("visual", "audio")[i % 2], "clip", "3fa9c1d27b041e55"), i, 1 - i / 9e3
    )
    for i in range(6_000)
]


class BadRequestError(Exception):
    """As in many clients: a status and words of the store's own."""

    def __init__(self, message, status_code=400):
        super().__init__(message)
        self.status_code = status_code


class Store:
    def __init__(self, most, error=BadRequestError):
        self.most, self.error, self.asked = most, error, []

    def search(self, limit):
        self.asked.append(limit)
        if limit > self.most:
            raise self.error(f"k must be less than or equal to {self.most}, but was {limit}")
        return ROWS[:limit]

    async def asearch(self, limit):
        return self.search(limit)


@pytest.fixture(params=["sync", "async"])
def ask(request, client):
    """Store -> moments, of three targets in one search, of which one is never found."""
    query, weights = np.ones(512, np.float32), {"visual": 1.0, "audio": 1.0, "image": 1.0}
    # One more than counts is requested of each: 150.
    settings = SearchSettings(weights=weights, k=3, fetch_k=49)

    def ask(store, **how):
        if request.param == "sync":
            return retrieve(client, query, settings, [StoreSearch(TARGETS, store.search, "This store", **how)])[0]
        return asyncio.run(
            aretrieve(client, query, settings, [StoreSearch(TARGETS, store.asearch, "This store", **how)])
        )[0]

    return ask


GIVEN = {
    1: [1],
    3: [2],
    10: [9],
    50: [37],
    100: [75],
    149: [75],
    150: [150],
    599: [150],
    600: [150, 600],
    1_000: [150, 600],
    2_400: [150, 600, 2_400],
}
"""A store's limit -> how many hits it was asked for and gave."""


@pytest.mark.parametrize("most", GIVEN)
def test_a_refusal_ends_the_widening_at_any_limit(ask, most):
    store = Store(most)
    with pytest.warns(MarengoWarning, match="refused a wider search"):
        assert len(ask(store)) == min(3, GIVEN[most][-1])
    assert [limit for limit in store.asked if limit <= most] == GIVEN[most]


@pytest.mark.filterwarnings("error")
def test_a_limit_that_is_known_is_not_exceeded(ask):
    store = Store(1_000)
    assert len(ask(store, max_limit=1_000)) == 3
    assert store.asked == [150, 600, 1_000]


def test_a_track_that_is_not_found_below_a_limit_of_ours_is_said_once(ask):
    store = Store(9_999)
    with pytest.warns(MarengoWarning, match="none of its 1,000 nearest segments is of image") as warned:
        for _ in range(2):
            assert len(ask(store, max_limit=1_000, is_capped=True)) == 3
    assert store.asked == 2 * [150, 600, 1_000]
    assert len(warned) == 1


@pytest.mark.parametrize(
    "error",
    [
        lambda said: BadRequestError("security_exception: missing authentication credentials", 401),
        lambda said: BadRequestError("Forbidden", 403),
        lambda said: BadRequestError("index_not_found_exception: no such index [segments]", 404),
        lambda said: BadRequestError("busy", 503),
        lambda said: ConnectionRefusedError(111, "Connection refused"),
        lambda said: TimeoutError("timed out"),
        lambda said: RuntimeError("AccessDeniedException: not authorized to perform: s3vectors:QueryVectors"),
        lambda said: TypeError("search() got an unexpected keyword argument 'filter'"),
        lambda said: InputError("not a vector"),
    ],
)
def test_other_errors_of_the_first_question_are_raised_at_once(ask, error):
    store = Store(0, error)
    with pytest.raises(type(error(""))):
        ask(store)
    assert store.asked == [150]


def test_a_store_that_refuses_every_number_says_why_in_its_first_words(ask):
    with pytest.raises(BadRequestError, match="but was 150"):
        ask(Store(0))


def test_limits_are_found_by_the_name_of_a_class_or_its_base():
    class ElasticsearchStore:
        pass

    class Own(ElasticsearchStore):
        pass

    assert limit_of(Own()) == 10_000
    Own.__module__ = ElasticsearchStore.__module__ = "llama_index.vector_stores.elasticsearch.base"
    assert limit_of(Own()) == STORE_LIMITS["llama_index.ElasticsearchStore"] == 1_000
    assert limit_of(object()) == 10_000
