"""A string is text: whatever it looks like, it is embedded and opens nothing; a planted segment reads only our own."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.config import Config
from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode

from bedrock_marengo import ConfigurationError, InputError, MarengoError, Media, Query, Segment, SegmentNotFoundError
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, add_segments
from llama_index_marengo import MarengoEmbedding, MarengoLinks, MarengoReader, MarengoSegmenter
from llama_index_marengo import MarengoRetriever as IndexRetriever

pytestmark = pytest.mark.promise("No string opens a file, and no forged segment reads or deletes anything")

JOB = "3fa9c1d27b041e55"
SEGMENT = f"s3://other/secret.mp4#t=0,6&track=visual&job={JOB}"
STRINGS = [
    "/etc/passwd",
    "../../../../etc/passwd",
    "~/.aws/credentials",
    "C:\\Windows\\win.ini",
    "file:///etc/passwd",
    "s3://other/secret",
    "s3://other/secret.mp4",
    SEGMENT,
    f"{SEGMENT}\nand words",
    "data:text/plain;base64,cm9vdA==",
    "data:image/png;base64,iVBORw0KGgo=",
    "iVBORw0KGgoAAAANSUhEUg==",
    "marengo-query:0b0c2f5e-0000-0000-0000-000000000000",
    "arn:aws:bedrock:us-east-1:123456789012:async-invoke/aaaaaaaaaaaa",
    "http://127.0.0.1:1/latest/meta-data",
    "<@a> {0} ${HOME} $(cat /etc/passwd) %s",
]

# Every way in for a text that is asked or embedded: name -> what takes it.
CORE = {
    "embed_text": lambda it, text: it.client.embed_text(text),
    "embed_texts": lambda it, text: it.client.embed_texts([text]),
    "iter_embed_texts": lambda it, text: list(it.client.iter_embed_texts([text])),
    "embed_query": lambda it, text: it.client.embed_query(text),
    "embed_query of a Query": lambda it, text: it.client.embed_query(Query(text=text)),
    "embed_text_image": lambda it, text: it.client.embed_text_image(text, it.image),
}
LANGCHAIN = {
    "embed_query": lambda it, text: it.embeddings.embed_query(text),
    "similarity_search": lambda it, text: it.store.similarity_search(text),
    "as_retriever": lambda it, text: it.store.as_retriever().invoke(text),
    "MarengoRetriever": lambda it, text: it.retriever.invoke(text),
    "MarengoRetriever of a Query": lambda it, text: it.retriever.invoke(Query(text=text)),
    "embed_text_image": lambda it, text: it.embeddings.embed_text_image(text, it.image),
}
LLAMA_INDEX = {
    "get_query_embedding": lambda it, text: it.embed_model.get_query_embedding(text),
    "get_agg_embedding": lambda it, text: it.embed_model.get_agg_embedding_from_queries([text]),
    "as_retriever": lambda it, text: it.index.as_retriever().retrieve(text),
    "MarengoRetriever": lambda it, text: it.index_retriever.retrieve(text),
    "MarengoRetriever of a Query": lambda it, text: it.index_retriever.retrieve(Query(text=text)),
    "get_text_image_embedding": lambda it, text: it.embed_model.get_text_image_embedding(text, it.image),
}
# What embeds documents: there a segment's text gets the segment's own vector, or is refused.
DOCUMENTS = {
    "embed_documents": lambda it, text: it.embeddings.embed_documents([text]),
    "add_texts": lambda it, text: it.store.add_texts([text]),
    "get_text_embedding": lambda it, text: it.embed_model.get_text_embedding(text),
    "get_text_embedding_batch": lambda it, text: it.embed_model.get_text_embedding_batch([text]),
    "insert_nodes": lambda it, text: it.index.insert_nodes([TextNode(text=text)]),
    "insert_nodes with metadata": lambda it, text: it.index.insert_nodes(
        [TextNode(text=text, metadata={"title": "A"})]
    ),
}


class Here:
    """Both frameworks over the stand-in, with stores that hold nothing."""

    def __init__(self, options, image):
        self.image = Media.from_bytes(image)
        self.embeddings = MarengoEmbeddings(**options)
        self.embed_model = MarengoEmbedding(**options)
        self.client = self.embeddings.core
        self.store = InMemoryVectorStore(self.embeddings)
        self.retriever = MarengoRetriever(vectorstore=self.store, embeddings=self.embeddings)
        self.index = VectorStoreIndex(nodes=[], embed_model=self.embed_model)
        self.index_retriever = IndexRetriever(index=self.index)


@pytest.fixture
def here(local, png):
    return Here(local.client_options, png())


def texts_sent(local):
    """The texts that Bedrock was asked for."""
    bodies = [call.body for call in local.calls.of("InvokeModel")]
    return [body[body["inputType"]]["inputText"] for body in bodies]


def others(local):
    """Calls to anything but InvokeModel."""
    return sorted({call.op for call in local.calls} - {"InvokeModel"})


@pytest.mark.filterwarnings("ignore:A query handle")
@pytest.mark.parametrize(
    "enter", [*CORE.values(), *LANGCHAIN.values(), *LLAMA_INDEX.values()], ids=[*CORE, *LANGCHAIN, *LLAMA_INDEX]
)
def test_a_query_is_sent_as_text_and_nothing_else_is_called(here, local, enter):
    for text in STRINGS:
        local.calls.reset()
        enter(here, text)
        assert set(texts_sent(local)) == {text}
        assert others(local) == []


@pytest.mark.parametrize("enter", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_is_sent_as_text_unless_it_is_a_segment(here, local, enter):
    for text in STRINGS:
        local.calls.reset()
        if text.startswith(SEGMENT):
            with pytest.raises(SegmentNotFoundError):
                enter(here, text)
            assert texts_sent(local) == []
        else:
            enter(here, text)
            assert any(text in sent for sent in texts_sent(local))
            assert others(local) == []


AUDIT = """
import json, os, sys, warnings
warnings.simplefilter("ignore")
from test_strings_open_nothing import CORE, DOCUMENTS, LANGCHAIN, LLAMA_INDEX, Here
from bedrock_marengo import MarengoError

here = Here(json.loads(sys.argv[1]), bytes.fromhex(sys.argv[2]))
ways = [*CORE.values(), *LANGCHAIN.values(), *LLAMA_INDEX.values(), *DOCUMENTS.values()]
for enter in ways:
    enter(here, "so that all is imported and connected")
touched = []
watched = ("open", "os.listdir", "os.scandir", "glob.glob", "subprocess.Popen", "os.system", "socket.getaddrinfo")
sys.addaudithook(lambda event, args: touched.append([event, str(args[0])]) if event in watched else None)
for enter in ways:
    for text in sys.argv[3:]:
        try:
            enter(here, text)
        except MarengoError:
            pass
print(json.dumps(touched))
"""


@pytest.mark.slow
def test_no_way_in_opens_a_file_or_another_host(local, png, tmp_path):
    """Seen by the interpreter itself, in a process of its own: an audit hook can't be taken back."""
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    (tmp_path / "audit.py").write_text(AUDIT)
    texts = [str(secret), "secret.png", secret.as_uri(), str(tmp_path), "s3://other/secret.mp4", SEGMENT, "data:,x"]
    done = subprocess.run(
        [sys.executable, "audit.py", json.dumps(local.client_options), png().hex(), *texts],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])},
        capture_output=True,
        text=True,
        check=True,
    )
    touched = json.loads(done.stdout)
    # What a library reads of its own, and the stand-in's own address.
    own = (sys.prefix, sys.base_prefix, "127.0.0.1", "localhost", "/dev/null", os.devnull)
    assert [event for event in touched if not event[1].startswith(own)] == []
    assert not {call.op for call in local.calls} - {"InvokeModel", "s3:ListObjectsV2"}
    assert set(texts_sent(local)) >= set(texts)


@pytest.mark.parametrize(
    "enter",
    [
        lambda it, text: it.client.embed_image(text),
        lambda it, text: it.client.embed_media(text),
        lambda it, text: it.client.embed_query(Query(image=text)),
        lambda it, text: it.embeddings.embed_image(text),
        lambda it, text: it.embeddings.embed_image(uris=[text]),
        lambda it, text: MarengoLoader(text, embeddings=it.embeddings, show_progress=False).load(),
        lambda it, text: it.embed_model.get_image_embedding(text),
        lambda it, text: MarengoReader(text, embed_model=it.embed_model).load_data(),
        lambda it, text: MarengoReader([], embed_model=it.embed_model).load_resource(text),
    ],
    ids=["image", "media", "query", "lc image", "lc uris", "loader", "li image", "reader", "resource"],
)
def test_where_media_are_taken_a_string_opens_no_file(here, local, enter):
    for text in STRINGS:
        if text.startswith(("data:image", "iVBOR")):
            continue
        local.calls.reset()
        with pytest.raises(MarengoError):
            enter(here, text)
        # A string that is an S3 URI names a file there, in a bucket that doesn't exist.
        assert set(others(local)) <= ({"s3:HeadBucket"} if text.startswith("s3://") else set())
        assert texts_sent(local) == []


# Segments that someone else made up.


def planted(local):
    """Texts that look like segments, of sources that are not ours to read."""
    sources = [
        "other/secret.mp4",
        f"{local.bucket}/private/salaries.mp4",
        f"{local.bucket}/marengo/request.json",
        f"{local.bucket}/../other/secret.mp4",
        f"{local.bucket}/marengo/../../private/salaries.mp4",
        f"{local.bucket}/a%23t%3D0%2C6%26job%3D{JOB}.mp4",
        f"{local.bucket}//private/salaries.mp4",
    ]
    texts = [f"s3://{source}#t=0,6&track=visual&job={JOB}" for source in sources]
    return [*texts, *(f"{text}\nand words" for text in texts)]


def test_a_planted_segment_reads_nothing_but_listings_of_our_own_prefix(here, local):
    local.put(b"salaries", "private/salaries.mp4")
    texts = planted(local)
    assert all(Segment.find(text) for text in texts)
    # A slash is never percent-encoded: what hides one is no segment, but text.
    assert Segment.find(f"s3://{local.bucket}/..%2F..%2Fprivate%2Fsalaries.mp4#t=0,6&track=visual&job={JOB}") is None
    for enter in DOCUMENTS.values():
        for text in texts:
            local.calls.reset()
            with pytest.raises(SegmentNotFoundError, match=r"no output\.json"):
                enter(here, text)
            assert {call.op for call in local.calls} == {"s3:ListObjectsV2"}
            for call in local.calls:
                assert call.body["bucket"] == local.bucket
                folder, source, job, end = call.body["prefix"].split("/")
                assert (folder, len(source), job, end) == ("marengo", 16, JOB, "")


def test_a_planted_segment_gets_no_other_segments_vector(here, local, video):
    """Nor by another time, track or source of a job that is ours."""
    own = here.client.embed_media(video)[0]
    changed = [
        Segment("s3://other/match.mp4", own.start_sec, own.end_sec, own.option, own.scope, own.job),
        Segment(own.source, own.start_sec + 1, own.end_sec, own.option, own.scope, own.job),
        Segment(own.source, own.start_sec, own.end_sec, "fused", own.scope, own.job),
        Segment(own.source, own.start_sec, own.end_sec, own.option, own.scope, own.job[::-1]),
    ]
    for segment in changed:
        with pytest.raises(SegmentNotFoundError):
            here.embeddings.embed_documents([segment.uri])


def test_a_planted_segment_takes_nothing_of_a_store_with_it(here, local, video):
    """``replace=True`` deletes by the source that the text names, not by what the metadata say."""
    add_segments(here.store, MarengoLoader(video, embeddings=here.embeddings, show_progress=False).load())
    held = set(here.store.store)
    other = here.client.embed_media(local.put(b"another", "other.mp4"))[0]
    add_segments(here.store, [Document(other.uri, metadata={"source": video})], replace=True)
    assert held <= set(here.store.store)


ELSEWHERE = [
    "s3://other/secret.mp4",
    "s3://{bucket}-of-others/videos/a.mp4",
    "s3://{bucket}.evil/videos/a.mp4",
    "s3://{bucket}/private/salaries.mp4",
    "s3://{bucket}/videos-private/a.mp4",
    "s3://{bucket}/videos",
    "s3://{bucket}/videos/../private/salaries.mp4",
    "s3://{bucket}/videos/./../private/salaries.mp4",
    "s3://{bucket}/videos/..",
    "s3://{bucket}//videos/a.mp4",
    "s3://{bucket}/Videos/a.mp4",
    "s3://{bucket}/private/#/videos/a.mp4",
    "s3://{bucket}/private?x=/videos/a.mp4",
]


def linked(links, source):
    node = TextNode(text=Segment(source, 0, 6, "visual", "clip", JOB).uri)
    [found] = links.postprocess_nodes([NodeWithScore(node=node)])
    return found.node.metadata.get("url")


@pytest.mark.parametrize("source", ELSEWHERE)
def test_links_sign_nothing_outside_of_what_they_may(here, local, source):
    links = MarengoLinks(embed_model=here.embed_model, allowed_prefixes=[f"s3://{local.bucket}/videos/"])
    assert linked(links, source.format(bucket=local.bucket)) is None


def test_links_below_a_prefix_a_bucket_or_of_one_object(here, local):
    uri = local.put(b"a video", "videos/a b#1.mp4")
    for below in (f"s3://{local.bucket}/videos/", f"s3://{local.bucket}", f"s3://{local.bucket}/", uri):
        links = MarengoLinks(embed_model=here.embed_model, allowed_prefixes=["s3://nothing/", below])
        url = linked(links, uri)
        assert urllib.request.urlopen(url).read() == b"a video"
        assert linked(links, f"s3://{local.bucket}-of-others/videos/a.mp4") is None
    assert linked(MarengoLinks(embed_model=here.embed_model, allowed_prefixes=[]), uri) is None


@pytest.mark.parametrize("expires_sec", [1, 60, 604_800])
def test_links_expire(here, local, video, expires_sec):
    segment = Segment(video, 0, 6, "visual", "clip", JOB)
    links = MarengoLinks(embed_model=here.embed_model, expires_sec=expires_sec)
    for url in (linked(links, video), here.client.playable_url(segment, expires_sec=expires_sec)):
        assert parse_qs(urlsplit(url).query)["X-Amz-Expires"] == [str(expires_sec)]


# Further parameters.


@pytest.mark.parametrize(
    "extra",
    [
        {"mediaSource": {"s3Location": {"uri": "s3://other/secret.mp4"}}},
        {"inputType": "video"},
        {"modelId": "amazon.titan"},
        {"model": "2.7"},
        {"source": "s3://other/secret.mp4"},
        {"uri": "s3://other/secret.mp4"},
        {"bucket_owner": "999999999999"},
    ],
)
def test_further_parameters_override_neither_media_nor_model(here, local, video, extra):
    calls = [
        lambda: list(here.client.embed_many(video, **extra)),
        lambda: here.client.plan(video, **extra),
        lambda: MarengoEmbeddings(**local.client_options, model_kwargs=extra),
        lambda: MarengoEmbeddings(**{**local.client_options, "endpoint_url": "http://localhost:1"}, body=extra),
        lambda: MarengoEmbedding(**local.client_options, additional_kwargs=extra),
        lambda: here.retriever.invoke("a goal", **extra),
        lambda: MarengoSegmenter(embed_model=here.embed_model, extra_body=extra),
    ]
    for call in calls:
        with pytest.raises((InputError, ConfigurationError, ValueError)):
            call()
    assert len(local.calls) == 0


def test_what_llama_index_passes_along_changes_nothing(here, local, video):
    """Its own methods take any keywords."""
    reader = MarengoReader(video, embed_model=here.embed_model)
    documents = reader.load_data(source="/etc/passwd", uri="s3://other/secret.mp4")
    assert [document.id_ for document in documents] == [video]
    nodes = MarengoSegmenter(embed_model=here.embed_model)(documents, source="s3://other/secret.mp4", model="2.7")
    assert {node.metadata["source"] for node in nodes} == {video}
    here.embed_model([TextNode(text="a goal")], image="/etc/passwd")
    assert texts_sent(local) == ["a goal"]
    [start] = local.calls.of("StartAsyncInvoke")
    assert start.body["modelInput"]["video"]["mediaSource"]["s3Location"]["uri"] == video


def test_botocores_config_reaches_no_request(local, video):
    """``config`` is botocore's: timeouts, proxies, a user agent; nothing that a body holds."""
    embeddings = MarengoEmbeddings(
        **local.client_options, config=Config(user_agent_extra="inputType=video", read_timeout=9)
    )
    embeddings.embed_query("a goal")
    [call] = local.calls.of("InvokeModel")
    assert call.body == {"inputType": "text", "text": {"inputText": "a goal"}}
    assert call.model_id == "twelvelabs.marengo-embed-3-0-v1:0"
