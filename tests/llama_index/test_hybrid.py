"""words= adds what is said as a track; queries= and decompose= search each track for a query of its own."""

import json
import warnings
from pathlib import Path

import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores import FilterCondition, FilterOperator, MetadataFilter, MetadataFilters

from bedrock_marengo import ConfigurationError, InputError, MarengoWarning, Media
from bedrock_marengo.errors import _warned
from bedrock_marengo.search import evaluate
from llama_index_marengo import MarengoRetriever, Query, add_words

SAID = {
    "a.mp4": ["the price of the red car", "order 4711 is ready"],
    "b.mp4": ["黒猫がいる", "nothing but the weather"],
    "c.mp4": ["a song", "the car is gone"],
}
PHOTO = Media.from_bytes(b"\x89PNG\r\n\x1a\n" + b"a photograph")
ONLY = {"words": 1.0}


def vtt(lines):
    times = ("00:00.500 --> 00:05.000", "00:06.500 --> 00:11.000")
    return "WEBVTT\n\n" + "\n\n".join(f"{time}\n{line}" for time, line in zip(times, lines, strict=True)) + "\n"


@pytest.fixture
def uris(local):
    return {name: local.put(name.encode() * 9, name) for name in SAID}


@pytest.fixture
def nodes(uris, segment):
    """Two clips of each file on three tracks; the tenant of a.mp4 and b.mp4 is acme's."""
    captions = {uri: vtt(SAID[name]) for name, uri in uris.items()}
    found = segment(list(uris.values()), transcripts=captions)
    for node in found:
        node.metadata["tenant"] = "other" if node.metadata["source"].endswith("c.mp4") else "acme"
    return found


@pytest.fixture(params=["SimpleVectorStore", "ChromaVectorStore"])
def index(request, embed_model, nodes):
    context = None
    if request.param == "ChromaVectorStore":
        import chromadb
        from llama_index.vector_stores.chroma import ChromaVectorStore

        client = chromadb.EphemeralClient()
        if "hybrid" in [each.name for each in client.list_collections()]:
            client.delete_collection("hybrid")
        collection = client.create_collection("hybrid", configuration={"hnsw": {"space": "cosine"}})
        context = StorageContext.from_defaults(vector_store=ChromaVectorStore(chroma_collection=collection))
    return VectorStoreIndex(nodes, embed_model=embed_model, storage_context=context)


@pytest.fixture
def make(index):
    """A retriever with words."""
    return lambda **settings: MarengoRetriever(index=index, **{"words": "bm25", "similarity_top_k": 6, **settings})


def places(found):
    return [(Path(hit.node.metadata["source"]).name, hit.node.metadata["start_sec"]) for hit in found]


def tenant(name, operator=FilterOperator.EQ):
    return MetadataFilter(key="tenant", value=name, operator=operator)


@pytest.mark.parametrize(
    ("query", "first"),
    [("4711", ("a.mp4", 6.0)), ("ORDER", ("a.mp4", 6.0)), ("黒猫", ("b.mp4", 0.0)), ("猫", ("b.mp4", 0.0))],
)
async def test_words_find_what_vectors_dont_know(make, query, first):
    retriever = make(weights={"visual": 0.1, "words": 0.9})
    assert places(retriever.retrieve(query))[0] == places(await retriever.aretrieve(query))[0] == first


def test_each_clip_counts_once_and_tells_its_text_score(make):
    found = make(weights=ONLY).retrieve("car")
    assert [set(hit.node.metadata["tracks"]) for hit in found] == [{"words"}] * 2
    assert all("confidence" not in hit.node.metadata and hit.node.metadata["tracks"]["words"]["score"] for hit in found)
    assert make(weights=ONLY, min_confidence="high", distinct=1.0).retrieve("car") == found


def test_without_words_nothing_changes(make):
    plain, both = make(words=None), make()
    for query in (Query(image=PHOTO), QueryBundle("", embedding=[0.1] * 512)):
        assert plain.retrieve(query) == both.retrieve(query)
    with pytest.raises(InputError, match="no text"):
        make(weights=ONLY).retrieve(Query(image=PHOTO))
    with pytest.raises(InputError, match="unless you pass words="):
        make(words=None, weights=ONLY)


@pytest.mark.parametrize(
    "filters",
    [
        MetadataFilters(filters=[tenant("acme")]),
        MetadataFilters(filters=[tenant(["acme", "x"], FilterOperator.IN)]),
        MetadataFilters(filters=[tenant("acme"), tenant("x")], condition=FilterCondition.OR),
    ],
)
def test_the_filters_limit_what_is_found_and_what_is_counted(make, filters):
    everyone = make(weights=ONLY).retrieve("car")
    [hit] = make(weights=ONLY, filters=filters).retrieve("car")
    assert hit.node.metadata["tenant"] == "acme"
    # In acme's own four clips, "car" is rarer than in all six.
    assert hit.node.metadata["tracks"]["words"]["score"] > max(
        each.node.metadata["tracks"]["words"]["score"] for each in everyone
    )
    assert make(weights=ONLY, filters=MetadataFilters(filters=[tenant("nobody")])).retrieve("car") == []


def test_the_index_follows_the_nodes(make, index, embed_model, uris):
    retriever = make(weights=ONLY)
    assert retriever.retrieve("zebra") == []
    add_words(index, embed_model=embed_model, transcripts={uris["c.mp4"]: vtt(["a zebra", "the end"])})
    assert places(retriever.retrieve("zebra")) == [("c.mp4", 0.0)] and retriever.retrieve("song") == []
    index.delete_ref_doc(next(n.ref_doc_id for n in _held(index) if n.metadata["source"] == uris["c.mp4"]), True)
    assert retriever.retrieve("zebra") == []


def _held(index):
    store = index.vector_store
    return store.get_nodes(None) if store.stores_text else list(index.docstore.docs.values())


def test_settings_limit_the_words_and_moments_merge(make, uris):
    assert places(make(weights=ONLY, start_sec=6.0).retrieve("car")) == [("c.mp4", 6.0)]
    assert places(make(weights=ONLY, sources=[uris["a.mp4"]]).retrieve("car")) == [("a.mp4", 0.0)]
    [merged] = make(weights=ONLY, merge_gap_sec=0).retrieve("price 4711")
    assert (merged.node.metadata["start_sec"], merged.node.metadata["end_sec"]) == (0.0, 12.0)


class Listed(BaseRetriever):
    """Another search engine: whatever it is asked, it finds these."""

    def __init__(self, found):
        self._found = found
        super().__init__()

    def _retrieve(self, query_bundle):
        return [NodeWithScore(node=node, score=0.5) for node in self._found]


def test_a_retriever_as_words(make, nodes):
    found = make(weights=ONLY, words=Listed([TextNode(text="a page of a manual"), *nodes[::-1]])).retrieve("anything")
    assert len(found) == 6 and found[0].node.metadata["source"] == nodes[-1].metadata["source"]
    for wrong in ("tfidf", 3, "store"):
        with pytest.raises(ConfigurationError, match="words"):
            make(words=wrong)


def test_each_track_is_searched_for_its_own_query(local, make):
    weights = {"visual": 1.0, "audio": 1.0, "transcription": 1.0, "words": 1.0}
    queries = {"visual": "a red car", "audio": "the price", "words": "4711"}
    retriever = make(weights=weights)
    local.calls.reset()
    found = retriever.retrieve("the price", queries=queries)
    assert [places([hit])[0] for hit in found if "words" in hit.node.metadata["tracks"]] == [("a.mp4", 6.0)]
    assert len(local.calls.of("InvokeModel")) == 2
    for text, track in (("a red car", "visual"), ("the price", "transcription")):
        alone = make(weights={track: 1.0}).retrieve(text)
        expected = sorted(hit.node.metadata["tracks"][track]["score"] for hit in alone)
        assert sorted(hit.node.metadata["tracks"][track]["score"] for hit in found) == pytest.approx(expected)
    with pytest.raises(InputError, match="not a track"):
        retriever.retrieve("x", queries={"speech": "x"})


class Answers(CustomLLM):
    """An LLM that always says the same, and notes how it was asked."""

    answer: str
    calls: list = []  # noqa: RUF012

    @property
    def metadata(self):
        return LLMMetadata()

    def complete(self, prompt, formatted=False, **kwargs):
        self.calls.append("sync")
        return CompletionResponse(text=self.answer)

    async def acomplete(self, prompt, formatted=False, **kwargs):
        self.calls.append("async")
        return CompletionResponse(text=self.answer)

    def stream_complete(self, prompt, formatted=False, **kwargs):
        raise NotImplementedError


async def test_an_llm_makes_the_queries(make):
    answer = {"visual": "a red car", "words": "4711", "smell": "petrol"}
    llm = Answers(answer=json.dumps(answer), calls=[])
    weights = {"visual": 1.0, "words": 1.0}
    expected = make(weights=weights).retrieve("which car", queries={"visual": "a red car", "words": "4711"})
    decomposed = make(weights=weights, decompose=llm)
    assert decomposed.retrieve("which car") == expected and llm.calls == ["sync"]
    assert await decomposed.aretrieve("which car") == expected and llm.calls == ["sync", "async"]
    decomposed.retrieve(Query(image=PHOTO))
    decomposed.retrieve("x", queries={"words": "x"})
    assert llm.calls == ["sync", "async"]
    engine = RetrieverQueryEngine.from_args(decomposed, llm=llm)
    assert engine.retrieve(QueryBundle("which car")) == expected
    with pytest.raises(ConfigurationError, match="decompose"):
        make(decompose="gpt")


@pytest.mark.parametrize("answer", ["I can't help with that.", '{"visual": 3}'])
def test_what_is_not_valid_falls_back_to_the_question(make, answer):
    _warned.pop("decompose", None)
    with pytest.warns(MarengoWarning, match="decompose="):
        assert make(decompose=Answers(answer=answer, calls=[])).retrieve("4711") == make().retrieve("4711")
    with warnings.catch_warnings():
        warnings.simplefilter("error", MarengoWarning)
        make(decompose=Answers(answer=answer, calls=[])).retrieve("4711")


def test_evaluate_compares_plain_hybrid_and_decomposed(make, uris):
    questions = [{"query": "which order", "source": uris["a.mp4"], "start_sec": 6, "end_sec": 12}]
    decomposed = make(weights=ONLY, decompose=Answers(answer='{"words": "4711"}', calls=[]))
    found = evaluate({"plain": make(words=None), "hybrid": make(), "decomposed": decomposed}, questions, k=3)
    assert found.records()[2]["recall@1"] == 1
    assert "words alone" in evaluate(make(), questions, k=3).names
