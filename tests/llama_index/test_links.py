"""MarengoLinks: a citation and a playable link on what was retrieved, and only there."""

import urllib.request
from urllib.parse import parse_qs, urlsplit

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from bedrock_marengo import Segment
from bedrock_marengo.search.citations import citation, clock
from llama_index_marengo import MarengoLinks


@pytest.fixture
def links(embed_model):
    return MarengoLinks(embed_model=embed_model)


@pytest.fixture
def second(segment, match):
    """The match's second half."""
    node = next(node for node in segment(match) if node.metadata["start_sec"] == 6.0)
    return NodeWithScore(node=node, score=0.5)


def test_a_segment_gets_a_url_that_plays_it(local, links, second):
    [found] = links.postprocess_nodes([second])
    url = urlsplit(found.node.metadata["url"])
    assert url.fragment == "t=6,12"
    assert parse_qs(url.query)["X-Amz-Expires"] == ["3600"]
    assert parse_qs(url.query)["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert urllib.request.urlopen(found.node.metadata["url"]).read() == b"a match"
    assert found.score == 0.5


def test_the_llm_reads_the_citation_and_never_the_url(links, second):
    [found] = links.postprocess_nodes([second])
    assert found.node.metadata["citation"] == "match.mp4 at 00:06"
    shown = found.node.get_content(MetadataMode.LLM)
    assert "citation: match.mp4 at 00:06" in shown
    assert "http" not in shown
    assert found.node.get_content(MetadataMode.EMBED) == second.node.get_content(MetadataMode.EMBED)


async def test_nothing_stored_changes(embed_model, segment, match, links, tmp_path):
    index = VectorStoreIndex(segment(match), embed_model=embed_model)
    engine = index.as_retriever(similarity_top_k=6)
    hits = engine.retrieve("a goal")
    linked = await links.apostprocess_nodes(hits)
    assert all("url" in hit.node.metadata for hit in linked)
    assert not any("url" in hit.node.metadata for hit in hits)
    index.storage_context.persist(str(tmp_path))
    assert not any("X-Amz-" in file.read_text() for file in tmp_path.iterdir())


def test_what_is_no_segment_passes_through(links):
    hits = [NodeWithScore(node=TextNode(text="plain", metadata={"source": "s3://bucket/report.pdf"}))]
    assert links.postprocess_nodes(hits) == hits


def test_only_below_the_prefixes_given(embed_model, second):
    def url(*below):
        links = MarengoLinks(embed_model=embed_model, allowed_prefixes=below)
        return links.postprocess_nodes([second])[0].node.metadata.get("url")

    assert url("s3://elsewhere/") is None
    assert url("s3://elsewhere/", second.node.metadata["source"].rpartition("/")[0] + "/")


@pytest.mark.parametrize("expires_sec", [0, 604_801])
def test_a_lifetime_that_s3_does_not_have(embed_model, expires_sec):
    with pytest.raises(ValueError, match="7 days"):
        MarengoLinks(embed_model=embed_model, expires_sec=expires_sec)


def test_plain_keywords_and_nothing_secret_in_its_dict(local):
    links = MarengoLinks(expires_sec=60, **local.client_options)
    found = links.to_dict()
    embed_model = found.pop("embed_model")
    assert found == {"expires_sec": 60, "allowed_prefixes": None, "class_name": "MarengoLinks"}
    assert embed_model["output_s3_uri"] == local.output_s3_uri
    assert not {name for name in embed_model if name.startswith("aws_")}


def test_citations():
    def cite(start_sec, end_sec, key="a/my match.mp4"):
        return citation(Segment(f"s3://bucket/{key}", start_sec, end_sec, "visual", "clip", "0" * 16))

    assert cite(6.5, 13) == "my match.mp4 at 00:06"
    assert cite(0, 0, "goal.jpg") == "goal.jpg"
    assert [clock(sec) for sec in (59.99, 60, 3599, 3600, 36_000)] == ["00:59", "01:00", "59:59", "1:00:00", "10:00:00"]
