"""A segment keeps its own vector behind every template and extractor, and text splitters never make texts of it."""

import re

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.extractors import (
    BaseExtractor,
    KeywordExtractor,
    QuestionsAnsweredExtractor,
    SummaryExtractor,
    TitleExtractor,
)
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.llms import MockLLM
from llama_index.core.node_parser import (
    SemanticSplitterNodeParser,
    SentenceSplitter,
    SentenceWindowNodeParser,
    TokenTextSplitter,
)
from llama_index.core.schema import MetadataMode, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore

from bedrock_marengo import InputError, MarengoWarning
from llama_index_marengo import MarengoEmbedding, MarengoSegmenter


class Topic(BaseExtractor):
    async def aextract(self, nodes):
        return [{"topic": "sport"} for _ in nodes]


def rebuilt(nodes, local, tmp_path):
    """The vectors of an index that is built again from a docstore, by a new model."""
    docstore = SimpleDocumentStore()
    docstore.add_documents(nodes)
    docstore.persist(str(tmp_path / "docstore.json"))
    kept = list(SimpleDocumentStore.from_persist_path(str(tmp_path / "docstore.json")).docs.values())
    local.calls.reset()
    index = VectorStoreIndex(kept, embed_model=MarengoEmbedding(**local.client_options))
    assert local.calls["InvokeModel"] == 0
    return index.vector_store.data.embedding_dict


# MockLLM repeats its prompt, so that metadata hold the texts of other segments too.
@pytest.mark.parametrize(
    "extractors",
    [
        [Topic()],
        [Topic(node_text_template="{content}\n({metadata_str})")],
        [TitleExtractor(llm=MockLLM())],
        [KeywordExtractor(llm=MockLLM())],
        [SummaryExtractor(llm=MockLLM(), summaries=["prev", "self", "next"])],
        [QuestionsAnsweredExtractor(llm=MockLLM())],
        [TitleExtractor(llm=MockLLM()), SummaryExtractor(llm=MockLLM()), Topic()],
    ],
    ids=lambda extractors: "+".join(type(extractor).__name__ for extractor in extractors),
)
def test_after_extractors(local, segment, match, tmp_path, extractors):
    nodes = segment(match)
    own = {node.id_: node.embedding for node in nodes}
    nodes = IngestionPipeline(transformations=extractors).run(nodes=nodes)
    assert nodes[0].get_content(MetadataMode.EMBED) != nodes[0].text
    assert rebuilt(nodes, local, tmp_path) == own


TEMPLATES = {
    "LlamaIndex's documentation": ("Metadata: {metadata_str}\n-----\nContent: {content}", "{key}=>{value}", "::"),
    "its default": ("{metadata_str}\n\n{content}", "{key}: {value}", "\n"),
    "one line": ("{metadata_str} {content}", "{key}=>{value}", "::"),
    "no blank line": ("{metadata_str}\n{content}", "{value}", " "),
    "metadata last": ("{content}\n\n{metadata_str}", "{key}: {value}", "\n"),
    "labels": ("Content: {content}\nMetadata: {metadata_str}", "{key}={value}", ", "),
    "JSON": ('{{"metadata": "{metadata_str}", "content": "{content}"}}', "{key}: {value}", "; "),
    "XML": ("<doc><meta>{metadata_str}</meta><content>{content}</content></doc>", "{key}: {value}", " "),
    "Markdown": ("## {metadata_str}\n\n> {content}\n", "{value}", " - "),
    "a prefix of a model's": ("search_document: {content} | {metadata_str}", "{value}", " "),
    "an instruction": ("Represent this passage ({metadata_str}) for retrieval: {content}", "{value}", " "),
    "between rules": ("{metadata_str}\n=====\n{content}\n=====\nend", "{key}: {value}", "\n"),
}


@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("name", TEMPLATES)
def test_in_a_template(local, segment, match, tmp_path, name, words):
    nodes = segment(match)
    for node in nodes:
        node.text_template, node.metadata_template, node.metadata_separator = TEMPLATES[name]
        node.metadata |= {"topic": "sport", "document_title": "A match: the final"}
        node.text = node.text if words else node.text.partition("\n")[0]
        assert node.get_content(MetadataMode.EMBED) != node.text
    assert rebuilt(nodes, local, tmp_path) == {node.id_: node.embedding for node in nodes}


@pytest.mark.parametrize(
    "template",
    [
        "See {0}",
        "The goal at {0} is great.",
        "{0} shows the goal.",
        "He scores ({0}).",
        "[the goal]({0})",
        "Summarize:\n\n{0}\nwords\n\n{1}\nwords",
        "The goal: {0}, and its replay: {1}",
    ],
)
def test_what_only_cites_segments_is_text(local, embed_model, segment, match, template):
    text = template.format(*(node.text.partition("\n")[0] for node in segment(match)))
    assert embed_model.get_text_embedding(text) == embed_model.get_query_embedding(text)


def test_a_citation_of_someone_elses_segment_is_text_with_a_warning(local, embed_model, segment, match):
    text = f"Content: {segment(match)[0].text}"
    elsewhere = MarengoEmbedding(**{**local.client_options, "output_s3_uri": f"s3://{local.bucket}/elsewhere/"})
    with pytest.warns(MarengoWarning, match="is embedded as text"):
        assert elsewhere.get_text_embedding(text) == embed_model.get_query_embedding(text)


def sentences(text):
    """Instead of NLTK, which reads no file that an installer has linked."""
    return re.findall(r"[^.]+\.?", text)


class TestSplitters:
    SPLITTERS = (
        SentenceSplitter(chunk_size=80, chunk_overlap=0, chunking_tokenizer_fn=sentences),
        SentenceSplitter(chunk_size=160, chunk_overlap=50, chunking_tokenizer_fn=sentences),
        TokenTextSplitter(chunk_size=160, chunk_overlap=0),
        SentenceWindowNodeParser(sentence_splitter=lambda text: text.splitlines()),
    )

    @pytest.fixture
    def talk(self, local):
        words = " ".join(f"Sentence {i} of a long talk is said." for i in range(40))
        local.put(f"1\n00:00:00,000 --> 00:00:12,000\n{words}\n".encode(), "talk.srt")
        return local.put(b"a talk", "talk.mp4")

    @pytest.mark.parametrize("splitter", SPLITTERS, ids=range(4))
    async def test_pieces_are_refused(self, local, embed_model, read, talk, splitter):
        steps = [MarengoSegmenter(embed_model=embed_model), splitter, embed_model]
        media = read(talk)
        for run in (IngestionPipeline(transformations=steps).run, IngestionPipeline(transformations=steps).arun):
            with pytest.raises(InputError, match="text splitter has cut it"):
                result = run(documents=media)
                await result if not isinstance(result, list) else None
        assert local.calls["InvokeModel"] == 0

    @pytest.mark.parametrize("splitter", SPLITTERS, ids=range(4))
    def test_pieces_without_their_vectors_too(self, local, embed_model, segment, talk, splitter):
        pieces = splitter(segment(talk))
        for piece in pieces:
            piece.embedding = None
        with pytest.raises(InputError, match="is a piece of the text of"):
            VectorStoreIndex(pieces, embed_model=embed_model)
        assert local.calls["InvokeModel"] == 0

    def test_a_semantic_splitter_is_refused(self, local, embed_model, segment, talk):
        with pytest.raises(InputError, match="is a piece of the text of"):
            SemanticSplitterNodeParser(embed_model=embed_model, sentence_splitter=sentences)(segment(talk))
        assert local.calls["InvokeModel"] == 0

    def test_segments_that_need_no_cut_pass_whole(self, local, embed_model, read, match):
        steps = [MarengoSegmenter(embed_model=embed_model), SentenceSplitter(), embed_model]
        nodes = IngestionPipeline(transformations=steps).run(documents=read(match))
        whole = MarengoSegmenter(embed_model=embed_model)(read(match))
        assert [(node.text, node.embedding) for node in nodes] == [(node.text, node.embedding) for node in whole]

    @pytest.mark.parametrize("chunk_size", [60, 1024])
    def test_a_splitter_before_the_segmenter_changes_nothing(self, embed_model, read, segment, match, chunk_size):
        splitter = SentenceSplitter(chunk_size=chunk_size, chunk_overlap=0, chunking_tokenizer_fn=sentences)
        steps = [splitter, MarengoSegmenter(embed_model=embed_model), embed_model]
        nodes, expected = IngestionPipeline(transformations=steps).run(documents=read(match)), segment(match)
        assert [node.dict() for node in nodes] == [node.dict() for node in expected]

    def test_other_nodes_with_the_same_words_are_text(self, embed_model, segment, match):
        nodes = [*segment(match), TextNode(text="He shoots"), TextNode(text="Goal!")]
        for node in nodes:
            node.embedding = None
        assert len(VectorStoreIndex(nodes, embed_model=embed_model).vector_store.data.embedding_dict) == 8
