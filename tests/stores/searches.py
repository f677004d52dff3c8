"""What both frameworks' tests ask of every store: the ranking and scores that arithmetic gives."""

import pytest

QUERIES = ("a goal from a corner", "the crowd sings", "rain on a roof")


def places(found):
    """Documents, nodes, their metadata, or moments -> (source, start)."""
    told = [one if isinstance(one, dict) else getattr(one, "metadata", None) for one in found]
    return [
        (t["source"], t["start_sec"]) if t else (one.source, one.start_sec) for one, t in zip(found, told, strict=True)
    ]


class Searches:
    """A subclass has ``ask``, which gives metadata with scores, and ``of_tenant``, which makes a store's own filter."""

    @pytest.mark.parametrize("query", QUERIES[:2])
    def test_one_track_ranks_and_scores_as_arithmetic_says(self, ask, truth, query):
        how = {"weights": {"audio": 1.0}, "fusion": "scores", "k": 30}
        found, right = ask(query, **how), truth(query, **how)
        assert len(found) == len(right) == 30
        scores = dict(zip(places(right), (moment.score for moment in right), strict=True))
        for hit, moment in zip(found, right, strict=True):
            # Hits within 1e-4 of each other may swap.
            assert scores[places([hit])[0]] == pytest.approx(moment.score, abs=1e-4)
            assert hit["score"] == pytest.approx(scores[places([hit])[0]], abs=1e-4)

    @pytest.mark.parametrize("query", QUERIES[:2])
    @pytest.mark.parametrize("fusion", ["rrf", "scores"])
    def test_fused_tracks_rank_the_same(self, ask, truth, query, fusion):
        found, right = ask(query, fusion=fusion), truth(query, fusion=fusion, k=10)
        assert places(found) == places(right)
        for hit, moment in zip(found, right, strict=True):
            assert hit["score"] == pytest.approx(moment.score, abs=1e-4)
            assert {track: told["rank"] for track, told in hit["tracks"].items()} == {
                track: best.rank for track, best in moment.tracks.items()
            }

    @pytest.mark.parametrize("limits", [{"start_sec": 30}, {"end_sec": 12.0}, {"start_sec": 13, "end_sec": 17.5}])
    def test_a_time_range(self, ask, truth, limits):
        found = ask(QUERIES[0], **limits)
        assert places(found) == places(truth(QUERIES[0], k=10, **limits))
        assert found

    def test_sources(self, ask, truth, uris):
        first, second, third = uris
        for sources in ([first], [second], [third], [first, third]):
            assert places(ask(QUERIES[1], sources=sources)) == places(truth(QUERIES[1], k=10, sources=sources))

    def test_a_prefix_of_sources(self, ask, truth, local):
        limits = {"sources": [f"s3://{local.bucket}/games/"], "k": 20}
        found = ask(QUERIES[1], **limits)
        assert places(found) == places(truth(QUERIES[1], **limits))
        assert len(found) == 20

    @pytest.mark.parametrize("tenant, count", [("acme", 20), ("globex", 10), ("nobody", 0)])
    def test_a_tenants_own_filter(self, ask, of_tenant, tenant, count):
        found = ask(QUERIES[2], filter=of_tenant(tenant), k=30)
        assert len(found) == count
        assert {hit["tenant"] for hit in found} <= {tenant}

    def test_tracks_without_hits_are_not_searched_for_more(self, ask, asked):
        assert len(ask(QUERIES[0], fetch_k=5)) > 5
        # One more than counts, of each of five tracks; and one each, to learn that it has no photos and fused vectors.
        # langchain-lancedb's can't filter for the scope.
        assert max(asked) in (6, 24)
        assert len(asked) <= 8
