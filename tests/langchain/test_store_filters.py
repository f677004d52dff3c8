"""Filters of S3 Vectors and Pinecone, evaluated here: their lists have none, and other tenants' rows must not count."""

import pytest

from bedrock_marengo import ConfigurationError
from langchain_marengo.store_filters import matches

ROW = {"tenant": "a", "n": 3, "tags": ["x", "y"], "is_new": True}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, True),
        ({"tenant": "a"}, True),
        ({"tenant": "b"}, False),
        ({"tenant": "a", "n": 4}, False),
        ({"tenant": {"$in": ["b", "a"]}}, True),
        ({"tenant": {"$ne": "b"}}, True),
        ({"missing": {"$ne": "b"}}, False),
        ({"missing": {"$exists": False}}, True),
        ({"n": {"$gte": 3, "$lt": 4}}, True),
        ({"n": {"$gt": 3}}, False),
        ({"tenant": {"$gt": 3}}, False),
        ({"tags": "y"}, True),
        ({"tags": {"$nin": ["y"]}}, False),
        ({"is_new": 1}, False),
        ({"tenant": {"$startsWith": "a"}}, True),
        ({"$or": [{"tenant": "b"}, {"$and": [{"n": 3}, {"tags": "x"}]}]}, True),
        ({"$and": [{"tenant": "a"}, {"n": 4}]}, False),
    ],
)
def test_what_matches(where, expected):
    assert matches(where, ROW) is expected


@pytest.mark.parametrize("where", [{"tenant": {"$regex": ".*"}}, {"$not": {"tenant": "b"}}, "tenant = 'a'"])
def test_what_is_not_known_is_refused_and_not_ignored(where):
    with pytest.raises(ConfigurationError, match="filter"):
        matches(where, ROW)
