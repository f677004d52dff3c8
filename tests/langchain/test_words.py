"""Words for segments that a store holds already, and what a stock chain shows a language model of them."""

import asyncio

import pytest
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_milvus import Milvus

from bedrock_marengo import ConfigurationError, InputError, MarengoWarning, SegmentNotFoundError
from bedrock_marengo.contract.words import words_in
from langchain_marengo import MarengoEmbeddings, MarengoRetriever, Segment, aadd_words, add_segments, add_words

SRT = b"1\n00:00:00,000 --> 00:00:06,000\nHe shoots\n\n2\n00:00:06,000 --> 00:00:12,000\nGoal!\n"
OTHER = "WEBVTT\n\n00:01.000 --> 00:02.000\nkick off\n"


@pytest.fixture
def uri(local):
    return local.put(b"a match", "match.mp4")


@pytest.fixture
def store(embeddings, load, uri):
    """Two clips on three tracks, without words, and a page of something else."""
    store = InMemoryVectorStore(embeddings)
    add_segments(store, load(uri, transcripts=False))
    store.add_documents([Document(id="page", page_content="Offside", metadata={"source": "laws.pdf"})])
    return store


def words(store):
    return {words_in(row["text"]) for row in store.store.values()} - {""}


class TestAddWords:
    def test_captions_next_to_the_files(self, local, store, embeddings):
        before = {key: (row["vector"], row["metadata"]) for key, row in store.store.items()}
        local.put(SRT, "match.srt")
        local.calls.reset()
        assert add_words(store, embeddings=embeddings) == 6
        assert words(store) == {"He shoots", "Goal!"}
        assert {key: (row["vector"], row["metadata"]) for key, row in store.store.items()} == before
        assert store.store["page"]["text"] == "Offside"
        assert local.calls["InvokeModel"] == local.calls["StartAsyncInvoke"] == 0
        assert add_words(store, embeddings=embeddings) == 0

    @pytest.mark.parametrize("wrap", [dict, lambda given: given.get], ids=["mapping", "callable"])
    def test_other_words_replace_all_of_a_file(self, local, store, embeddings, uri, wrap):
        local.put(SRT, "match.srt")
        add_words(store, embeddings=embeddings)
        assert add_words(store, embeddings=embeddings, transcripts=wrap({uri: OTHER})) == 6
        assert words(store) == {"kick off"}

    def test_words_stay_where_none_are_found(self, local, store, embeddings, uri):
        add_words(store, embeddings=embeddings, transcripts={uri: OTHER})
        assert (
            add_words(store, embeddings=embeddings) == add_words(store, embeddings=embeddings, transcripts=False) == 0
        )
        local.put(b"not captions", "match.srt")
        with pytest.warns(MarengoWarning, match=r"match\.srt"):
            assert add_words(store, embeddings=embeddings) == 0
        assert words(store) == {"kick off"}

    @pytest.mark.parametrize("sources", [["s3://{}/a/x.mp4"], ["s3://{}/a/"]], ids=["file", "prefix"])
    def test_only_some_files(self, local, store, embeddings, load, sources):
        uris = [local.put(name.encode(), f"{name}.mp4") for name in ("a/x", "ab/y")]
        add_segments(store, load(uris, transcripts=False))
        sources = [source.format(local.bucket) for source in sources]
        assert add_words(store, embeddings=embeddings, transcripts=lambda uri: OTHER, sources=sources) == 3
        assert {row["metadata"]["source"] for row in store.store.values() if words_in(row["text"])} == {uris[0]}

    def test_texts_of_the_first_version_get_their_heading_and_keep_their_words(self, store, embeddings, load, uri):
        said = {}
        for key, row in list(store.store.items()):
            if segment := Segment.find(row["text"]):
                row["text"] = f"{segment.uri}\nGoal!" if segment.start_sec else segment.uri
                said[key] = "Goal!" if segment.start_sec else ""
        assert {words_in(row["text"]) for row in store.store.values()} == {"", "Goal!"}
        assert add_words(store, embeddings=embeddings) == 6
        whole = {document.id: document.page_content for document in load(uri, transcripts=False)}
        texts = {key: row["text"] for key, row in store.store.items() if key != "page"}
        assert texts == {key: f"{whole[key]}\n{text}".strip() for key, text in said.items()}

    def test_two_jobs_of_a_file_share_its_words(self, store, embeddings, load, uri):
        add_segments(store, load(uri, transcripts=False, end_sec=6))
        assert add_words(store, embeddings=embeddings, transcripts={uri: OTHER}) == 6

    def test_a_store_for_each_track(self, store, embeddings, load, uri):
        other = InMemoryVectorStore(embeddings)
        add_segments(other, load(uri, transcripts=False, options=["audio"]))
        stores = {"visual": store, "audio": other, "transcription": store}
        assert add_words(stores, embeddings=embeddings, transcripts={uri: OTHER}) == 4
        assert words(store) == words(other) == {"kick off"}

    def test_a_job_that_is_gone_is_an_error(self, local, store, uri):
        options = {**local.client_options, "output_s3_uri": f"s3://{local.bucket}/elsewhere/"}
        store.embedding = MarengoEmbeddings(**options)
        with pytest.raises(SegmentNotFoundError, match="elsewhere"):
            add_words(store, embeddings=store.embedding, transcripts={uri: OTHER})
        assert words(store) == set()

    async def test_for_asyncio(self, store, embeddings, uri):
        count = await asyncio.wait_for(aadd_words(store, embeddings=embeddings, transcripts={uri: OTHER}), 30)
        assert (count, words(store)) == (3, {"kick off"})

    def test_wrong_settings_are_refused(self, store, embeddings, tmp_path):
        with pytest.raises(ConfigurationError, match="transcripts="):
            add_words(store, embeddings=embeddings, transcripts="captions.srt")
        with pytest.raises(InputError, match="takes a list of S3 prefixes"):
            add_words(store, embeddings=embeddings, sources="s3://bucket/a.mp4")
        with pytest.raises(ConfigurationError, match="expected MarengoEmbeddings"):
            add_words(store, embeddings="3.0")
        with pytest.raises(ConfigurationError, match="chunk_size=0"):
            add_words(store, embeddings=embeddings, chunk_size=0)
        with pytest.raises(ConfigurationError, match="add_words doesn't support 7, only InMemoryVectorStore"):
            add_words(7, embeddings=embeddings)
        numbered = Milvus.__new__(Milvus)
        numbered.auto_id = True
        with pytest.raises(ConfigurationError, match="auto_id=True"):
            add_words(numbered, embeddings=embeddings)


@pytest.mark.parametrize("has_words", [True, False])
@pytest.mark.parametrize("retrieve", ["marengo", "plain"])
def test_what_a_stock_chain_shows_a_language_model(local, embeddings, store, has_words, retrieve):
    prompts = []

    class Llm(FakeListChatModel):
        def _call(self, messages, *args, **kwargs):
            prompts.append(messages[0].content)
            return super()._call(messages, *args, **kwargs)

    if has_words:
        local.put(SRT, "match.srt")
        add_words(store, embeddings=embeddings)
    retriever = {
        "marengo": MarengoRetriever(vectorstore=store, embeddings=embeddings, k=2),
        "plain": store.as_retriever(search_kwargs={"k": 7}),
    }[retrieve]
    prompt = ChatPromptTemplate.from_template("Context:\n{context}\n\nQuestion: {input}")
    chain = create_retrieval_chain(retriever, create_stuff_documents_chain(Llm(responses=["At 00:06"]), prompt))
    assert chain.invoke({"input": "When is the goal?"})["answer"] == "At 00:06"
    for text in ("match.mp4, 00:00 to 00:06\nHe shoots", "match.mp4, 00:06 to 00:12\nGoal!"):
        assert (text if has_words else text.partition("\n")[0]) in prompts[0]
