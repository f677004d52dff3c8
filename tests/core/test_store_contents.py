"""A search that leaves the track out of its filter finds what a filtered one finds, whatever the store holds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bedrock_marengo import MarengoClient
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.search import contents
from bedrock_marengo.search.contents import StoreContents, contents_of, forget_contents
from bedrock_marengo.search.fusion import SearchSettings
from bedrock_marengo.search.retrieve import StoreHit, StoreSearch, retrieve

CLIENT = MarengoClient(region_name="us-east-1")
QUERY = np.ones(512, np.float32)
ROW = st.tuples(st.sampled_from(["visual", "visual", "visual", "audio", "asset", "other"]), st.integers(0, 2))


def stored(rows):
    """Hits from (kind, folder), the nearest first."""
    hits = []
    for i, (kind, folder) in enumerate(rows):
        track, scope = ("audio" if kind == "audio" else "visual"), ("asset" if kind == "asset" else "clip")
        segment = Segment(f"s3://b/{folder}/{i}.mp4", 0.0, 6.0, track, scope, "3fa9c1d27b041e55")
        hits.append(StoreHit(None if kind == "other" else segment, i, 1 - i / 1e4))
    return hits


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(ROW, max_size=60),
    fetch_k=st.integers(1, 12),
    sources=st.sampled_from([(), ("s3://b/1/",)]),
    max_limit=st.sampled_from([5, 20, 10_000]),
)
def test_it_finds_the_same(rows, fetch_k, sources, max_limit):
    hits, known = stored(rows), StoreContents()
    how = SearchSettings(weights={"visual": 1.0}, k=60, fetch_k=fetch_k, sources=sources)
    [target] = how.targets

    def filtered(limit):
        kept = [hit for hit in hits if hit.segment and hit.segment.option == "visual" and hit.segment.scope == "clip"]
        return kept[:limit]

    plain = StoreSearch((target,), filtered, "This store", max_limit)
    bare = StoreSearch(
        (target,), filtered, "This store", max_limit, contents=known, search_implied=lambda limit: hits[:limit]
    )
    right = retrieve(CLIENT, QUERY, how, [plain])[0]
    for _ in range(3):
        assert retrieve(CLIENT, QUERY, how, [bare])[0] == right


def test_an_unfiltered_search_that_fails_is_made_with_its_filter():
    [hit], how = stored([("visual", 0)]), SearchSettings(weights={"visual": 1.0})

    def refuses(limit):
        raise RuntimeError("no")

    search = StoreSearch(
        tuple(how.targets), lambda limit: [hit], "This store", contents=StoreContents(), search_implied=refuses
    )
    assert len(retrieve(CLIENT, QUERY, how, [search])[0]) == 1


class Store:
    pass


class TestContents:
    TARGET = SearchSettings(weights={"image": 1.0}).targets[0]

    @pytest.mark.parametrize("change", ["a write", "another version", "time"])
    def test_it_is_forgotten_after(self, change, monkeypatch):
        store = Store()
        contents_of(store, 1).note_lacks(self.TARGET)
        assert contents_of(store, 1).lacks("image", "clip")
        if change == "a write":
            forget_contents()
        if change == "time":
            monkeypatch.setattr(contents.time, "monotonic", lambda: 1e9)
        assert not contents_of(store, 2 if change == "another version" else 1).lacks("image", "clip")

    def test_another_object_at_the_same_place_is_another_store(self):
        store = Store()
        contents_of(store).note_lacks(self.TARGET)
        before = len(contents._kept)
        del store
        assert len(contents._kept) == before - 1

    def test_nothing_is_kept_of_what_has_no_weak_references(self):
        contents_of([]).note_lacks(self.TARGET)
        assert not contents_of([]).lacks("image", "clip")

    def test_a_track_is_alone_if_the_others_are_lacking(self):
        known, tracks = StoreContents(), ("image", "visual")
        [visual] = SearchSettings(weights={"visual": 1.0}).targets
        assert known.is_alone(visual, ["visual"])
        assert not known.is_alone(visual, tracks)
        known.note_lacks(self.TARGET)
        assert known.is_alone(visual, tracks)
        [asset] = SearchSettings(weights={"visual": 1.0}, scope="asset").targets
        assert not known.is_alone(asset, ["visual"])
