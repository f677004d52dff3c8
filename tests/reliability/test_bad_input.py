"""Bad input at every entry point: an error of ours that names the input and the way out, before any call that costs.

A row is the entry point, the call, and what the message must hold: the input, and what to do.
"""

import datetime
import functools
import warnings
from pathlib import Path

import numpy as np
import pytest
from botocore.config import Config
from langchain_core.documents import Document
from langchain_core.embeddings.fake import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.schema import QueryBundle
from pydantic import ValidationError

from bedrock_marengo import (
    Manifest,
    MarengoClient,
    MarengoError,
    Media,
    Prices,
    Query,
    Segment,
    Segmentation,
    SegmentEmbeddings,
)
from bedrock_marengo.words.captions import Transcript
from langchain_marengo import (
    MarengoEmbeddings,
    MarengoLoader,
    MarengoRetriever,
    add_segments,
    delete_segments,
    format_moments,
)
from langchain_marengo.migrate import inventory, migrate
from llama_index_marengo import MarengoEmbedding, MarengoLinks, MarengoReader, MarengoSegmenter
from llama_index_marengo import MarengoRetriever as IndexRetriever
from marengo_view import page, segment_map, show, timeline

pytestmark = pytest.mark.promise("Bad input is refused before any call that costs")

NAN, INF = float("nan"), float("inf")
GIB = 1024**3
JOB = "3fa9c1d27b041e55"
UTC = datetime.UTC


class Here:
    """What a case needs, made when it is asked for; what making it cost is not counted."""

    def __init__(self, local, folder):
        self.local = local
        self.folder = folder

    def made(self, make, **settings):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "AWS ends Marengo 2.7")
            return make(**{**self.local.client_options, **settings})

    def connect(self, model="3.0", **settings):
        return self.made(functools.partial(MarengoClient, model), **settings)

    def embeddings_of(self, **settings):
        return self.made(MarengoEmbeddings, **settings)

    def embed_model_of(self, **settings):
        return self.made(MarengoEmbedding, **settings)

    @functools.cached_property
    def client(self):
        return self.connect()

    @functools.cached_property
    def old(self):
        return self.connect("2.7")

    @functools.cached_property
    def embeddings(self):
        return self.embeddings_of()

    @functools.cached_property
    def embed_model(self):
        return self.embed_model_of()

    @functools.cached_property
    def video(self):
        """A video on S3 that nobody embedded."""
        return self.local.put(b"a video", "match.mp4")

    @functools.cached_property
    def bucket(self):
        return self.local.bucket

    @functools.cached_property
    def image(self):
        return self.file("still.png", b"\x89PNG\r\n\x1a\n")

    def file(self, name, data=b"x"):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def large(self, name, size):
        """A file of so many bytes that holds none on disk."""
        with (self.folder / name).open("wb") as file:
            file.truncate(size)
        return self.folder / name

    @functools.cached_property
    def known(self):
        """A segment that was embedded before."""
        segment = self.client.embed_media(self.local.put(b"known", "known.mp4"))[0]
        self.local.calls.reset()
        return segment

    @functools.cached_property
    def segment(self):
        return Segment(self.video, 0, 6, "visual", "clip", JOB)

    @functools.cached_property
    def segments(self):
        """Two clips of a video, as a job gives them."""
        return SegmentEmbeddings(
            vectors=np.eye(2, 512, dtype=np.float32),
            start_sec=np.array([0.0, 6.0]),
            end_sec=np.array([6.0, 12.0]),
            option=["visual", "visual"],
            scope=["clip", "clip"],
            source=self.video,
            job=JOB,
            model_id=self.client.model_id,
            media_type="video",
        )

    @functools.cached_property
    def documents(self):
        return [Document(self.segment.uri, metadata={"source": self.video})]

    @functools.cached_property
    def store(self):
        return InMemoryVectorStore(self.embeddings)

    @functools.cached_property
    def media_documents(self):
        return MarengoReader(self.video, embed_model=self.embed_model).load_data()

    @functools.cached_property
    def index(self):
        return VectorStoreIndex(nodes=[], embed_model=self.embed_model)

    def load(self, source=None, **settings):
        settings = {"embeddings": self.embeddings, "show_progress": False, **settings}
        return MarengoLoader(self.video if source is None else source, **settings).load()

    def read(self, source=None, **settings):
        source = self.video if source is None else source
        return MarengoReader(source, **{"embed_model": self.embed_model, **settings}).load_data()

    def cut(self, nodes=None, **settings):
        nodes = self.media_documents if nodes is None else nodes
        return MarengoSegmenter(embed_model=self.embed_model, **settings)(nodes)

    def search(self, query="a goal", **settings):
        return MarengoRetriever(vectorstore=self.store, embeddings=self.embeddings).invoke(query, **settings)

    def many(self, sources=None, **settings):
        """embed_many, with the first medium's error raised."""
        for done in self.client.embed_many(self.video if sources is None else sources, **settings):
            if done.error is not None:
                raise done.error


@pytest.fixture
def here(marengo_bedrock, tmp_path):
    marengo_bedrock.synthetic_sec = 12.0
    return Here(marengo_bedrock, tmp_path)


CLIENT = [
    ("model", lambda it: it.connect(None), "model=None", "'3.0' or '2.7'"),
    ("model", lambda it: it.connect(3.0), "model=3.0", "'3.0' or '2.7'"),
    ("model", lambda it: it.connect("4.0"), "'4.0'", "Known: 3.0, 2.7"),
    ("model", lambda it: it.connect("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan"), "amazon.titan", "3.0"),
    (
        "model",
        lambda it: it.connect("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"),
        "application-inference-profile/abc",
        "model='3.0', invoke_model_id=",
    ),
    (
        "region_name",
        lambda it: it.connect(region_name="us-west-2").embed_text("a"),
        "us-west-2",
        "us-east-1, eu-west-1",
    ),
    ("region_name", lambda it: it.connect(region_name=5), "region_name=5", "a string"),
    ("output_s3_uri", lambda it: it.connect(output_s3_uri="bucket/marengo"), "'bucket/marengo'", "s3://bucket/key"),
    ("output_s3_uri", lambda it: it.connect(output_s3_uri=""), "''", "s3://bucket/key"),
    ("output_s3_uri", lambda it: it.connect(output_s3_uri=Path("/tmp/x")), "PosixPath", "s3://bucket/key"),
    ("output_s3_uri", lambda it: it.connect(output_s3_uri="s3://My_Bucket/x/"), "'s3://My_Bucket/x/'", "lower-case"),
    (
        "output_s3_uri",
        lambda it: it.connect(output_s3_uri=f"s3://bucket/{'x' * 1000}/"),
        "output_s3_uri=",
        "at most 984",
    ),
    (
        "output_s3_uri",
        lambda it: it.connect(output_s3_uri=None).embed_media(it.video),
        "Segments",
        "output_s3_uri='s3://",
    ),
    ("staging_s3_uri", lambda it: it.connect(staging_s3_uri="/stage"), "'/stage'", "s3://bucket/key"),
    ("bucket_owner", lambda it: it.connect(bucket_owner="12345"), "'12345'", "12 digits"),
    ("bucket_owner", lambda it: it.connect(bucket_owner=123456789012), "123456789012", "a string"),
    ("bucket_owner", lambda it: it.connect(bucket_owner={"bucket": None}), "bucket_owner=None", "12 digits"),
    ("bucket_owner", lambda it: it.connect(bucket_owner=["123456789012"]), "list", "a mapping of bucket to account"),
    ("max_concurrency", lambda it: it.connect(max_concurrency=0), "max_concurrency=0", "1 or more calls"),
    (
        "max_concurrency",
        lambda it: it.connect(max_concurrency="16"),
        "max_concurrency='16'",
        "1 or more calls at once (whole number)",
    ),
    (
        "max_concurrency",
        lambda it: it.connect(max_concurrency=True),
        "max_concurrency=True",
        "1 or more calls at once (whole number)",
    ),
    (
        "max_concurrency",
        lambda it: it.connect(max_concurrency=NAN),
        "max_concurrency=nan",
        "1 or more calls at once (whole number)",
    ),
    ("truncate", lambda it: it.connect(truncate="cut"), "truncate='cut'", "'end' or 'error'"),
    ("identity", lambda it: it.connect(identity="md5"), "identity='md5'", "'etag', 'checksum' or a callable"),
    (
        "identity",
        lambda it: it.connect(identity=lambda s: 5).embed_media(it.video),
        "returned 5",
        "must return a non-empty string",
    ),
    ("token_counter", lambda it: it.connect(token_counter=77), "token_counter=77", "a callable"),
    (
        "token_counter",
        lambda it: it.connect(token_counter=str).embed_text("a"),
        "returned 'a'",
        "a whole number of tokens",
    ),
    ("tags", lambda it: it.connect(tags=["team"]), "tags=list", "a mapping"),
    ("tags", lambda it: it.connect(tags={"team": 5}), "tags=dict", "letters, digits"),
    ("tags", lambda it: it.connect(tags={"te!am": "video"}), "tags=dict", "letters, digits"),
    ("tags", lambda it: it.connect(tags={"team": "x" * 257}), "tags=dict", "at most 256"),
    ("output_kms_key_id", lambda it: it.connect(output_kms_key_id="alias/mine"), "'alias/mine'", "arn:aws:kms:"),
    ("invoke_model_id", lambda it: it.connect(invoke_model_id="my profile"), "'my profile'", "or its ARN"),
    ("prices", lambda it: it.connect(prices={"text": 0.1}), "prices=dict", "expected Prices(...)"),
    ("Prices", lambda it: Prices(text="0.1"), "text='0.1'", "US dollars"),
    ("Prices", lambda it: Prices(video_sec=-1), "video_sec=-1", "0 or more"),
    ("max_starts_per_sec", lambda it: it.connect(max_starts_per_sec=0), "max_starts_per_sec=0", "more than 0"),
    ("job_slots", lambda it: it.connect(job_slots=20), "job_slots=20", "RayJobSlots(jobs_at_once=20)"),
    ("role_arn", lambda it: it.connect(role_arn="admin"), "role_arn='admin'", "arn:aws:iam::123456789012:role/"),
    ("role_session_name", lambda it: it.connect(role_session_name="a b"), "'a b'", "2 to 64"),
    ("endpoint_url", lambda it: it.connect(endpoint_url="localhost:80"), "'localhost:80'", "a URL such as"),
    ("s3_endpoint_url", lambda it: it.connect(s3_endpoint_url="file:///etc"), "'file:///etc'", "a URL such as"),
    ("session", lambda it: it.connect(session="default"), "session=str", "a boto3.Session"),
    ("config", lambda it: it.connect(config={"retries": 1}), "config=dict", "botocore.config.Config"),
    ("bedrock_client", lambda it: it.connect(bedrock_client=Config()), "bedrock_client=Config", "boto3.client("),
    ("keys", lambda it: it.connect(aws_secret_access_key=None), "aws_access_key_id", "or neither"),
    ("keys", lambda it: it.connect(aws_access_key_id=b"AKIA"), "aws_access_key_id=bytes", "a string"),
    (
        "profile_name",
        lambda it: MarengoClient(profile_name="nobody", region_name="us-east-1").embed_text("a"),
        "profile_name='nobody'",
        "could not be found",
    ),
]

TEXTS = [
    ("embed_text", lambda it: it.client.embed_text(None), "not NoneType", "must be a string"),
    ("embed_text", lambda it: it.client.embed_text(5), "not int", "must be a string"),
    ("embed_text", lambda it: it.client.embed_text(b"a dog"), "not bytes", "image="),
    ("embed_text", lambda it: it.client.embed_text(["a dog"]), "not list", "must be a string"),
    ("embed_text", lambda it: it.client.embed_text(" \n"), "text is empty", "at least one word"),
    ("embed_text", lambda it: it.connect(truncate="error").embed_text("word " * 600), "3000 tokens", "split it"),
    (
        "embed_text",
        lambda it: it.connect("2.7", truncate="error", token_counter=len).embed_text("x" * 78),
        "78",
        "split",
    ),
    ("embed_texts", lambda it: it.client.embed_texts("a dog"), "'a dog'", "pass a list"),
    ("embed_texts", lambda it: it.client.embed_texts(None), "not None", "pass a list"),
    ("embed_texts", lambda it: it.client.embed_texts({"a dog": 1}), "not dict", "pass a list"),
    ("embed_texts", lambda it: it.client.embed_texts(["a dog", None]), "Text 1 of 2", "must be a string"),
    ("embed_texts", lambda it: it.client.embed_texts(["a dog", ""]), "Text 1 of 2", "at least one word"),
    ("iter_embed_texts", lambda it: it.client.iter_embed_texts(5), "not 5", "pass a list"),
    ("iter_embed_texts", lambda it: list(it.client.iter_embed_texts([""])), "Text 0", "at least one word"),
    ("vectors_of", lambda it: it.client.vectors_of([it.known, ""]), "Text 1 of 2", "at least one word"),
    ("embed_query", lambda it: it.client.embed_query(5), "5 is not a query", "Query(text="),
    ("embed_query", lambda it: it.client.embed_query(it.image), "PosixPath is not a query", "Query(text=..., image="),
    ("embed_query", lambda it: it.client.embed_query(Query(text="", image=it.image)), "text is empty", "one word"),
    (
        "embed_query",
        lambda it: it.client.embed_query(Query(audio=it.video)),
        "match.mp4' is of kind 'video'",
        "kind='audio'",
    ),
    ("Query", lambda it: Query(), "is empty", "pass text, image"),
    ("Query", lambda it: Query(text=5), "text=5", "a string"),
    ("Query", lambda it: Query(text="a", video="s3://b/v.mp4"), "text with video", "fuse the results"),
    ("Query", lambda it: Query(images="s3://bucket/a.png"), "'s3://bucket/a.png'", "a list of images"),
]

IMAGES = [
    ("embed_image", lambda it: it.client.embed_image("/etc/passwd"), "'/etc/passwd'", "pathlib.Path"),
    ("embed_image", lambda it: it.client.embed_image("https://example.org/a.png"), "'https://", "'s3://bucket/key'"),
    ("embed_image", lambda it: it.client.embed_image(b"\x89PNG"), "bytes is not a media file", "Media.from_bytes"),
    ("embed_image", lambda it: it.client.embed_image(None), "None is not a media file", "'s3://bucket/key'"),
    ("embed_image", lambda it: it.client.embed_image(it.folder / "no.png"), "no.png'", "check the path"),
    ("embed_image", lambda it: it.client.embed_image(it.folder), "is a folder", "list_media()"),
    ("embed_image", lambda it: it.client.embed_image(it.file("a.png", b"")), "a.png' is empty", "0 bytes"),
    ("embed_image", lambda it: it.client.embed_image(it.file("a.mp4")), "is of kind 'video'", "kind='image'"),
    ("embed_image", lambda it: it.client.embed_image(it.video), "match.mp4' is of kind 'video'", "kind='image'"),
    ("embed_image", lambda it: it.client.embed_image(it.large("a.png", 5_242_881)), "5,242,881 bytes", "compress it"),
    ("embed_image", lambda it: it.client.embed_image("s3://bucket/"), "'s3://bucket/'", "list_media()"),
    (
        "embed_image",
        lambda it: it.client.embed_image("s3://my bucket/a.png"),
        "'s3://my bucket/a.png'",
        "in the bucket",
    ),
    ("embed_image", lambda it: it.client.embed_image("s3://no-such-bucket/a.png"), "'no-such-bucket'", "no bucket"),
    ("embed_images", lambda it: it.client.embed_images("s3://bucket/a.png"), "'s3://bucket/a.png'", "pass a list"),
    ("embed_images", lambda it: it.client.embed_images(it.image), "PosixPath", "pass a list"),
    ("embed_images", lambda it: it.client.embed_images(["a.png"]), "'a.png'", "pathlib.Path"),
    ("embed_text_image", lambda it: it.client.embed_text_image("", it.image), "text is empty", "at least one word"),
    ("embed_text_image", lambda it: it.client.embed_text_image("a dog", "a.png"), "'a.png'", "pathlib.Path"),
    ("embed_text_image", lambda it: it.old.embed_text_image("a dog", it.image), "2.7 has no text_image", "model='3.0'"),
    ("embed_multi_input", lambda it: it.old.embed_multi_input(None, [it.image]), "no multi_input", "model='3.0'"),
    ("embed_multi_input", lambda it: it.client.embed_multi_input(None, None), "not None", "a list of images"),
    ("embed_multi_input", lambda it: it.client.embed_multi_input(None, []), "got 0", "1 to 10 images"),
    ("embed_multi_input", lambda it: it.client.embed_multi_input(None, [it.image] * 11), "got 11", "1 to 10 images"),
    ("embed_multi_input", lambda it: it.client.embed_multi_input("<@b>", {"a": it.image}), "<@b>", "Names: a"),
    ("embed_multi_input", lambda it: it.client.embed_multi_input("x", {"a": it.image}), "'a'", "write <@a>"),
    ("Media", lambda it: Media("film", uri="s3://b/k"), "kind='film'", "'video', 'audio' or 'image'"),
    ("Media", lambda it: Media("video", data="text"), "data='text'", "from_bytes"),
    ("Media.from_path", lambda it: Media.from_path(5), "not 5", "takes a path"),
    ("Media.from_bytes", lambda it: Media.from_bytes("text"), "not str", "Media.from_path"),
    ("Media.from_bytes", lambda it: Media.from_bytes(b""), "0 bytes", "already read"),
    ("Media.from_bytes", lambda it: Media.from_bytes(b"unknown"), "first bytes", "pass kind="),
    ("Media.from_bytes", lambda it: Media.from_bytes(b"GIF89a"), "image (GIF)", "convert it to JPEG or PNG"),
    ("Media.from_s3", lambda it: Media.from_s3("s3://bucket/a.txt"), "a.txt'", "pass kind="),
    ("Manifest", lambda it: Manifest("s3://bucket/list.txt"), "list.txt'", "expected a .csv"),
]

MEDIA = [
    ("embed_media", lambda it: it.client.embed_media("match.mp4"), "'match.mp4'", "pathlib.Path"),
    ("embed_media", lambda it: it.client.embed_media([it.video]), "list is not a media file", "'s3://bucket/key'"),
    ("embed_media", lambda it: it.client.embed_media(f"s3://{it.bucket}/no.mp4"), "no.mp4'", "end it with a slash"),
    (
        "embed_media",
        lambda it: it.client.embed_media(it.large("a.mp4", 6 * GIB + 1)),
        "6,442,450,945",
        "Cut or compress",
    ),
    ("embed_media", lambda it: it.old.embed_media(it.large("a.mp4", 2 * GIB + 1)), "2.7 accepts", "Cut or compress"),
    ("embed_media", lambda it: it.client.embed_media(it.video, options="visul"), "'visul'", "visual, audio"),
    ("embed_media", lambda it: it.client.embed_media(it.video, options={"visual": 1}), "options=dict", "a list"),
    ("embed_media", lambda it: it.client.embed_media(it.video, options=["fused"]), "'fused'", "fused=True"),
    ("embed_media", lambda it: it.old.embed_media(it.video, options=["visual"]), "'visual'", "visual-text"),
    ("embed_media", lambda it: it.client.embed_media(it.video, scopes=["movie"]), "'movie'", "clip, asset"),
    ("embed_media", lambda it: it.old.embed_media(it.video, scopes=["asset"]), "'asset'", "clip"),
    ("embed_media", lambda it: it.client.embed_media(it.video, segmentation=6), "segmentation=6", "Segmentation.fixed"),
    (
        "embed_media",
        lambda it: it.client.embed_media(it.video, segmentation=Segmentation.fixed(11)),
        "fixed(11)",
        "1 to 10 seconds",
    ),
    ("embed_media", lambda it: it.client.embed_media(it.video, start_sec=-1), "start_sec=-1", "0 to 14400 seconds"),
    ("embed_media", lambda it: it.client.embed_media(it.video, start_sec=True), "start_sec=True", "0 to 14400 seconds"),
    ("embed_media", lambda it: it.client.embed_media(it.video, end_sec="60"), "end_sec='60'", "0 to 14400 seconds"),
    (
        "embed_media",
        lambda it: it.client.embed_media(it.video, end_sec=np.float32("nan")),
        "end_sec=",
        "0 to 14400 seconds",
    ),
    ("embed_media", lambda it: it.client.embed_media(it.video, end_sec=INF), "end_sec=inf", "0 to 14400 seconds"),
    (
        "embed_media",
        lambda it: it.client.embed_media(it.video, start_sec=9, end_sec=10),
        "end_sec=10",
        "widen the range",
    ),
    ("embed_media", lambda it: it.client.embed_media(it.video, fused="yes"), "fused='yes'", "'only'"),
    ("embed_media", lambda it: it.old.embed_media(it.video, fused=True), "no fused vectors", "use model='3.0'"),
    ("embed_media", lambda it: it.client.embed_media(it.video, force="no"), "force='no'", "True or False"),
    ("embed_media", lambda it: it.client.embed_media(it.video, timeout_sec="9"), "timeout_sec='9'", "expected seconds"),
    ("embed_media", lambda it: it.client.embed_media(it.video, timeout_sec=-1), "timeout_sec=-1", "0 or more"),
    ("embed_media", lambda it: it.client.embed_media(it.video, timeout_sec=NAN), "timeout_sec=nan", "expected seconds"),
    ("embed_media", lambda it: it.client.embed_media(it.video, on_progress="bar"), "on_progress='bar'", "a callable"),
    ("Segmentation", lambda it: Segmentation.fixed("6"), "duration_sec='6'", "seconds"),
    ("Segmentation", lambda it: Segmentation.dynamic(NAN), "min_duration_sec=nan", "seconds"),
    ("Segmentation", lambda it: Segmentation("even", 6), "'even'", "Segmentation.fixed(6)"),
    ("start", lambda it: it.client.start(it.video, options=["visul"]), "'visul'", "visual, audio"),
    ("start", lambda it: it.client.start(it.video, force=1), "force=1", "True or False"),
    ("collect", lambda it: it.client.collect(it.video), "match.mp4' is not a job", "start() or job()"),
    ("job", lambda it: it.client.job(5), "5 does not name a job", "an invocation's ARN"),
    ("job", lambda it: it.client.job("arn:aws:s3:::bucket"), "'arn:aws:s3:::bucket'", "an invocation's ARN"),
    ("job", lambda it: it.client.job("s3://bucket/match.mp4"), "match.mp4'", "output.json"),
    ("embed_many", lambda it: it.client.embed_many(None), "not None", "pass a list"),
    ("embed_many", lambda it: it.client.embed_many(b"s3://bucket/"), "not bytes", "pass a list"),
    ("embed_many", lambda it: it.many("videos/"), "'videos/'", "'s3://bucket/key'"),
    ("embed_many", lambda it: it.many([5]), "5 is not a media file", "'s3://bucket/key'"),
    ("embed_many", lambda it: it.many(option=["visual"]), "'option'", "Did you mean 'options'?"),
    ("embed_many", lambda it: it.many(model="2.7"), "'model'", "Known: options"),
    ("embed_many", lambda it: it.many(options=["visul"]), "'visul'", "visual, audio"),
    ("embed_many", lambda it: it.many(jobs_at_once=0), "jobs_at_once=0", "1 or more"),
    ("embed_many", lambda it: it.many(jobs_at_once=2.5), "jobs_at_once=2.5", "a whole number"),
    ("embed_many", lambda it: it.many(max_cost_usd="5"), "max_cost_usd='5'", "US dollars"),
    ("embed_many", lambda it: it.many(max_cost_usd=NAN), "max_cost_usd=nan", "US dollars"),
    ("embed_many", lambda it: it.many(max_cost_usd=5, assume_duration_sec=0), "assume_duration_sec=0", "more than 0"),
    ("embed_many", lambda it: it.many(max_cost_usd=5, durations=60), "durations=60", "a mapping or a callable"),
    ("embed_many", lambda it: it.many(max_cost_usd=5, durations=lambda uri: NAN), "durations gave nan", "more than 0"),
    ("embed_many", lambda it: it.many(max_cost_usd=5, durations=lambda uri: -9), "durations gave -9", "more than 0"),
    ("plan", lambda it: it.client.plan(it.video, jobs_at_once=0), "jobs_at_once=0", "1 or more"),
    ("plan", lambda it: it.client.plan(it.video, mean_job_sec=0), "mean_job_sec=0", "more than 0"),
    ("plan", lambda it: it.client.plan(it.video, fuse=True), "'fuse'", "Did you mean 'fused'?"),
    ("list_media", lambda it: it.client.list_media(5), "not 5", "pass a list"),
    ("list_media", lambda it: it.client.list_media(it.video, suffixes=5), "suffixes=5", "['.mp4']"),
    ("list_media", lambda it: it.client.list_media(it.video, exclude=[None]), "exclude=list", "a list of strings"),
    ("list_media", lambda it: it.client.list_media(it.video, limit=-1), "limit=-1", "a whole number"),
    (
        "list_media",
        lambda it: it.client.list_media(it.video, modified_after="2026-01-01"),
        "'2026-01-01'",
        "a datetime",
    ),
    (
        "list_media",
        lambda it: it.client.list_media(it.video, modified_after=datetime.datetime(2026, 1, 1)),
        "2026",
        "set tzinfo=",
    ),
    ("forget", lambda it: it.client.forget("match.mp4"), "'match.mp4'", "pathlib.Path"),
    ("forget", lambda it: it.client.forget(f"s3://{it.bucket}/videos/"), "videos/'", "list_media()"),
    ("forget", lambda it: it.client.forget(it.video, store=5), "store=5", "a callable"),
    ("object_tags", lambda it: it.client.object_tags("s3://bucket"), "'s3://bucket'", "s3://bucket/key"),
    ("locate", lambda it: it.client.locate(5), "5 is not a media file", "'s3://bucket/key'"),
    ("playable_url", lambda it: it.client.playable_url(5), "5 is not a segment's URI", "#t=START,END"),
    ("playable_url", lambda it: it.client.playable_url(it.video), "match.mp4'", "#t=START,END"),
    ("playable_url", lambda it: it.client.playable_url(it.segment, expires_sec=0.5), "expires_sec=0.5", "7 days"),
    ("playable_url", lambda it: it.client.playable_url(it.segment, expires_sec=604_801), "604801", "7 days"),
    ("captions_of", lambda it: it.client.captions_of("match.mp4"), "'match.mp4'", "pathlib.Path"),
    ("segment_vectors", lambda it: it.client.segment_vectors(it.segment.uri), "match.mp4", "pass a list"),
    ("segment_vectors", lambda it: it.client.segment_vectors([None]), "None is not a segment's URI", "#t=START,END"),
    (
        "segment_vectors",
        lambda it: it.client.segment_vectors([f"s3://b/k#t=0,1&track=x&job={JOB}"]),
        "s3://b/k",
        "Embed",
    ),
    ("Segment", lambda it: Segment("bucket/k", 0, 1, "visual", "clip", JOB), "'bucket/k'", "s3://bucket/key"),
    ("Segment", lambda it: Segment("s3://bucket", 0, 1, "visual", "clip", JOB), "'s3://bucket'", "s3://bucket/key"),
    ("Segment", lambda it: Segment("s3://b/k", "0", 1, "visual", "clip", JOB), "start_sec='0'", "seconds, 0 or more"),
    ("Segment", lambda it: Segment("s3://b/k", 0, NAN, "visual", "clip", JOB), "end_sec=nan", "seconds, 0 or more"),
    ("Segment", lambda it: Segment("s3://b/k", 0, 1, "visual", "clip", None), "job=None", "16 hex digits"),
    ("Segment.parse", lambda it: Segment.parse(None), "None is not a segment's URI", "#t=START,END"),
    ("Transcript", lambda it: Transcript.parse(b"WEBVTT"), "not bytes", "SRT or WebVTT"),
    ("Transcript", lambda it: Transcript.of(it.folder / "no.srt"), "no.srt'", "can't be read"),
]

LANGCHAIN = [
    ("MarengoEmbeddings", lambda it: it.embeddings_of(model_id="4.0"), "'4.0'", "Known: 3.0, 2.7"),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(region="us-east-1"), "'region'", "Did you mean 'region_name'?"),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(dimensions=256), "dimensions=256", "always has 512"),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(model_kwargs={"inputType": 1}), "inputType", "truncate="),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(bucket_owner="me"), "'me'", "12 digits"),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(max_concurrency=-1), "max_concurrency=-1", "1 or more calls"),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(endpoint_url="here"), "'here'", "a URL such as"),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(config={"a": 1}), "config=dict", "Config("),
    ("MarengoEmbeddings", lambda it: it.embeddings_of(tags={"a!": "b"}), "tags=dict", "letters, digits"),
    ("embed_documents", lambda it: it.embeddings.embed_documents("a dog"), "'a dog'", "pass a list"),
    ("embed_documents", lambda it: it.embeddings.embed_documents(None), "not None", "pass a list"),
    ("embed_documents", lambda it: it.embeddings.embed_documents([it.known.uri, 5]), "Text 1 of 2", "a string"),
    ("embed_documents", lambda it: it.embeddings.embed_documents(["a dog", ""]), "Text 1 of 2", "one word"),
    ("embed_query", lambda it: it.embeddings.embed_query(["a dog"]), "not list", "must be a string"),
    ("embed_image", lambda it: it.embeddings.embed_image(), "one image", "uris=[...]"),
    ("embed_image", lambda it: it.embeddings.embed_image("/etc/passwd"), "'/etc/passwd'", "local_files=True"),
    ("embed_image", lambda it: it.embeddings.embed_image("data:image/png;base64,?"), "'data:image", "pathlib.Path"),
    ("embed_image", lambda it: it.embeddings.embed_image(uris="a.png"), "'a.png'", "pass a list"),
    ("embed_images", lambda it: it.embeddings.embed_images(5), "not 5", "pass a list"),
    (
        "embed_multi_input",
        lambda it: it.embeddings.embed_multi_input("a dog", it.image),
        "PosixPath",
        "a list of images",
    ),
    ("query_handle", lambda it: it.embeddings.query_handle("a dog"), "'a dog' is not a query", "Query(...)"),
    ("query_handle", lambda it: it.embeddings.query_handle([1.0, 2.0]), "list is not a query", "512 numbers"),
    ("query_handle", lambda it: it.embeddings.query_handle([NAN] * 512), "list is not a query", "512 numbers"),
    ("MarengoLoader", lambda it: it.load(embeddings=None), "embeddings is NoneType", "MarengoEmbeddings(...)"),
    ("MarengoLoader", lambda it: it.load(embeddings=it.embed_model), "MarengoEmbedding:", "MarengoEmbeddings(...)"),
    ("MarengoLoader", lambda it: it.load("videos/"), "'videos/'", "pathlib.Path"),
    ("MarengoLoader", lambda it: it.load(5), "not 5", "pass a list"),
    ("MarengoLoader", lambda it: it.load(f"s3://{it.bucket}/no.mp4"), "no.mp4'", "end it with a slash"),
    ("MarengoLoader", lambda it: it.load(it.large("a.mp4", 6 * GIB + 1)), "6,442,450,945", "Cut or compress"),
    ("MarengoLoader", lambda it: it.load(options=["visul"]), "'visul'", "visual, audio"),
    ("MarengoLoader", lambda it: it.load(metadata={"tenant": "acme"}), "metadata=dict", "a callable"),
    ("MarengoLoader", lambda it: it.load(metadata=lambda source: None), "NoneType", "a flat dict"),
    ("MarengoLoader", lambda it: it.load(metadata=lambda source: {"source": "x"}), "'source'", "reserved"),
    ("MarengoLoader", lambda it: it.load(metadata=lambda source: {"tags": ["a"]}), "'tags': list", "Leave a field out"),
    ("MarengoLoader", lambda it: it.load(metadata=lambda source: {"rating": NAN}), "'rating': nan", "leave it out"),
    ("MarengoLoader", lambda it: it.load(metadata=lambda source: {5: "x"}), "5: str", "under str keys"),
    ("MarengoLoader", lambda it: it.load(object_tags="tenant"), "'tenant'", "pass a list"),
    ("MarengoLoader", lambda it: it.load(object_tags=["job_id"]), "'job_id'", "reserved"),
    ("MarengoLoader", lambda it: it.load(transcripts="match.srt"), "'match.srt'", "a pathlib.Path"),
    ("MarengoLoader", lambda it: it.load(on_error="ignore"), "'ignore'", "'raise', 'skip'"),
    ("MarengoLoader", lambda it: it.load(jobs_at_once=0), "jobs_at_once=0", "1 or more"),
    ("MarengoLoader", lambda it: it.load(limit="3"), "limit='3'", "a whole number"),
    ("MarengoLoader", lambda it: it.load(force="no"), "force='no'", "True or False"),
    ("MarengoRetriever", lambda it: MarengoRetriever(embeddings=it.embeddings), "MarengoRetriever", "vectorstore="),
    (
        "MarengoRetriever",
        lambda it: MarengoRetriever(vectorstore=it.store, embeddings=it.embeddings, kk=5),
        "'kk'",
        "'k'?",
    ),
    (
        "MarengoRetriever",
        lambda it: MarengoRetriever(vectorstore=it.store, embeddings=it.embeddings, weights="visul"),
        "'visul'",
        "visual, dialogue",
    ),
    (
        "MarengoRetriever",
        lambda it: MarengoRetriever(vectorstore=it.store, embeddings=it.embeddings, alpha=NAN),
        "alpha=nan",
        "Larger values favor",
    ),
    (
        "MarengoRetriever",
        lambda it: MarengoRetriever(vectorstores={"visul": it.store}, embeddings=it.embeddings),
        "'visul'",
        "visual, audio",
    ),
    ("invoke", lambda it: it.search(5), "5 is not a query", "Query(text="),
    ("invoke", lambda it: it.search(""), "text is empty", "at least one word"),
    ("invoke", lambda it: it.search(Query(image="a.png")), "'a.png'", "pathlib.Path"),
    ("invoke", lambda it: it.search(k="5"), "k='5'", "a whole number, 1 or more"),
    ("invoke", lambda it: it.search(k=None), "k=None", "a whole number, 1 or more"),
    ("invoke", lambda it: it.search(filters={}), "'filters'", "Did you mean 'filter'?"),
    ("invoke", lambda it: it.search(weights=5), "weights=5", "a mapping"),
    ("invoke", lambda it: it.search(weights={"visual": "most"}), "'most'", "a number, 0 or more"),
    ("invoke", lambda it: it.search(weights="intent", alpha="x"), "alpha='x'", "a number, 0 or more"),
    ("invoke", lambda it: it.search(start_sec="x"), "start_sec='x'", "a number, 0 or more"),
    ("invoke", lambda it: it.search(merge_gap_sec=True), "merge_gap_sec=True", "a number, 0 or more"),
    ("invoke", lambda it: it.search(sources="s3://bucket/"), "'s3://bucket/'", "pass a list"),
    ("invoke", lambda it: it.search(sources=["videos/"]), "'videos/'", "S3 URIs"),
    ("invoke", lambda it: it.search(fusion="sum"), "fusion='sum'", "'rrf' or 'scores'"),
    (
        "add_segments",
        lambda it: add_segments(None, it.documents),
        "None is not a LangChain VectorStore",
        "first argument",
    ),
    ("add_segments", lambda it: add_segments(it.store, it.documents[0]), "tuple is not a Document", "a list"),
    ("add_segments", lambda it: add_segments(it.store, "s3://bucket/"), "'s3://bucket/'", "pass a list"),
    ("add_segments", lambda it: add_segments(it.store, [Document("plain")]), "'plain'", "store.add_documents"),
    ("add_segments", lambda it: add_segments(it.store, it.documents, chunk_size=0), "chunk_size=0", "1 or more"),
    (
        "add_segments",
        lambda it: add_segments(InMemoryVectorStore(DeterministicFakeEmbedding(size=4)), it.documents),
        "DeterministicFakeEmbedding",
        "MarengoEmbeddings",
    ),
    ("delete_segments", lambda it: delete_segments(it.store, None), "None is not an S3 URI", "s3://bucket/key"),
    ("delete_segments", lambda it: delete_segments(it.store, "known.mp4"), "'known.mp4'", "s3://bucket/key"),
    ("delete_segments", lambda it: delete_segments(it.store, f"s3://{it.bucket}/"), "/'", "one source at a time"),
    ("delete_segments", lambda it: delete_segments("chroma", it.video), "'chroma'", "first argument"),
    ("inventory", lambda it: inventory(None), "NoneType", "InMemoryVectorStore, Chroma"),
    ("migrate", lambda it: migrate(it.store, it.store, embeddings=it.embeddings), "It holds", "use a separate store"),
    (
        "migrate",
        lambda it: migrate(it.store, InMemoryVectorStore(it.embeddings), embeddings=None),
        "NoneType",
        "Embeddings(",
    ),
    (
        "migrate",
        lambda it: migrate(it.store, InMemoryVectorStore(it.embeddings), embeddings=it.embeddings, on_error="x"),
        "on_error='x'",
        "'raise' or 'skip'",
    ),
    (
        "migrate",
        lambda it: migrate(it.store, InMemoryVectorStore(it.embeddings), embeddings=it.embeddings, switch="x"),
        "switch='x'",
        "a callable",
    ),
]

LLAMA_INDEX = [
    ("MarengoEmbedding", lambda it: it.embed_model_of(model_name="4.0"), "'4.0'", "Known: 3.0, 2.7"),
    ("MarengoEmbedding", lambda it: it.embed_model_of(model_id="3.0"), "'model_id'", "Known: model_name"),
    ("MarengoEmbedding", lambda it: it.embed_model_of(role_arn="admin"), "'admin'", "arn:aws:iam::"),
    ("MarengoEmbedding", lambda it: it.embed_model_of(botocore_config={"a": 1}), "config=dict", "Config("),
    ("get_text_embedding", lambda it: it.embed_model.get_text_embedding(None), "not NoneType", "must be a string"),
    ("get_text_embedding", lambda it: it.embed_model.get_text_embedding(""), "text is empty", "at least one word"),
    ("get_text_embedding_batch", lambda it: it.embed_model.get_text_embedding_batch("ab"), "'ab'", "pass a list"),
    (
        "get_text_embedding_batch",
        lambda it: it.embed_model.get_text_embedding_batch(["a", 5]),
        "Text 1 of 2",
        "a string",
    ),
    ("get_query_embedding", lambda it: it.embed_model.get_query_embedding(b"a"), "not bytes", "must be a string"),
    ("get_agg_embedding", lambda it: it.embed_model.get_agg_embedding_from_queries("ab"), "'ab'", "pass a list"),
    ("get_agg_embedding", lambda it: it.embed_model.get_agg_embedding_from_queries([]), "query is empty", "one word"),
    ("get_image_embedding", lambda it: it.embed_model.get_image_embedding("a.png"), "'a.png'", "local_root="),
    ("get_image_embedding", lambda it: it.embed_model.get_image_embedding(5), "5 is not a media file", "pathlib.Path"),
    (
        "get_text_image_embedding",
        lambda it: it.embed_model.get_text_image_embedding("", it.image),
        "text is empty",
        "word",
    ),
    (
        "get_text_image_embedding",
        lambda it: it.embed_model.get_text_image_embedding(None, it.image),
        "None",
        "only the image",
    ),
    (
        "get_multi_input_embedding",
        lambda it: it.embed_model.get_multi_input_embedding(None, 5),
        "not 5",
        "a list of images",
    ),
    ("__call__", lambda it: it.embed_model([5]), "5 is not a node", "a list of LlamaIndex's nodes"),
    ("MarengoReader", lambda it: it.read("videos/"), "'videos/'", "pathlib.Path"),
    ("MarengoReader", lambda it: it.read([None]), "None is not a media file", "pathlib.Path"),
    ("MarengoReader", lambda it: it.read(5), "not 5", "pass a list"),
    ("MarengoReader", lambda it: it.read(sufixes=[".mp4"]), "'sufixes'", "Did you mean 'suffixes'?"),
    ("MarengoReader", lambda it: it.read(region_name="us-east-1"), "region_name", "not both"),
    ("MarengoReader", lambda it: it.read(limit=-1), "limit=-1", "a whole number"),
    ("MarengoReader", lambda it: it.read(metadata=lambda source: None), "NoneType", "a flat dict"),
    ("MarengoReader", lambda it: it.read(metadata=lambda source: {"model_id": 1}), "'model_id'", "reserved"),
    ("MarengoReader", lambda it: it.read(metadata=lambda source: {"etag": "x"}), "etag", "the Document itself uses"),
    ("MarengoReader", lambda it: it.read(it.large("a.mp4", 6 * GIB + 1)), "6,442,450,945", "Cut or compress"),
    (
        "load_resource",
        lambda it: MarengoReader(it.video, embed_model=it.embed_model).load_resource("/etc/passwd"),
        "'/etc/passwd'",
        "list_resources()",
    ),
    ("MarengoSegmenter", lambda it: it.cut("abc"), "'abc'", "pass a list"),
    ("MarengoSegmenter", lambda it: it.cut([5]), "5 is not a node", "a list of LlamaIndex's nodes"),
    ("MarengoSegmenter", lambda it: it.cut(options=["visul"]), "'visul'", "visual, audio"),
    ("MarengoSegmenter", lambda it: it.cut(segmentation=Segmentation.fixed(11)), "fixed(11)", "1 to 10 seconds"),
    ("MarengoSegmenter", lambda it: it.cut(start_sec=NAN), "start_sec=nan", "0 to 14400 seconds"),
    ("MarengoSegmenter", lambda it: it.cut(jobs_at_once=0), "jobs_at_once=0", "1 or more"),
    ("MarengoSegmenter", lambda it: it.cut(transcripts="match.srt"), "'match.srt'", "a pathlib.Path"),
    ("MarengoSegmenter", lambda it: it.cut(option=["visual"]), "'option'", "Did you mean 'options'?"),
    (
        "MarengoSegmenter",
        lambda it: it.cut([told(node, cast=["a"]) for node in it.media_documents]),
        "'cast': list",
        "Leave",
    ),
    (
        "MarengoSegmenter",
        lambda it: it.cut([told(node, job_id="x") for node in it.media_documents]),
        "'job_id'",
        "reserved",
    ),
    ("MarengoRetriever", lambda it: IndexRetriever(), "MarengoRetriever", "index="),
    ("MarengoRetriever", lambda it: IndexRetriever(index="faiss"), "'faiss' is not an index", "VectorStoreIndex"),
    (
        "MarengoRetriever",
        lambda it: IndexRetriever(index=it.index, embed_model="default"),
        "str",
        "MarengoEmbedding(...)",
    ),
    ("MarengoRetriever", lambda it: IndexRetriever(index=it.index, similarity_top_k="5"), "k='5'", "1 or more"),
    (
        "MarengoRetriever",
        lambda it: IndexRetriever(index=it.index, weights={"visual": NAN}),
        "nan",
        "a number, 0 or more",
    ),
    ("MarengoRetriever", lambda it: IndexRetriever(index=it.index, weights={"smell": 1}), "'smell'", "visual, audio"),
    ("MarengoRetriever", lambda it: IndexRetriever(index=it.index, sources=[5]), "5", "S3 URIs"),
    ("MarengoRetriever", lambda it: IndexRetriever(index=it.index, start_sec=True), "start_sec=True", "0 or more"),
    ("MarengoRetriever", lambda it: IndexRetriever(index=it.index, alpha=-1), "alpha=-1", "Larger values favor"),
    (
        "MarengoRetriever",
        lambda it: IndexRetriever(index=it.index, filters={"a": 1}),
        "filters=dict",
        "MetadataFilters",
    ),
    ("MarengoRetriever", lambda it: IndexRetriever(indices={"smell": it.index}), "'smell'", "visual, audio"),
    ("retrieve", lambda it: IndexRetriever(index=it.index).retrieve(5), "5 is not a query", "Query(text="),
    ("retrieve", lambda it: IndexRetriever(index=it.index).retrieve(""), "query is empty", "at least one word"),
    ("retrieve", lambda it: IndexRetriever(index=it.index).retrieve(Query(image="a.png")), "'a.png'", "pathlib.Path"),
    (
        "retrieve",
        lambda it: IndexRetriever(index=it.index).retrieve(QueryBundle("", image_path="/etc/passwd")),
        "'/etc/passwd'",
        "local_root=",
    ),
    ("MarengoLinks", lambda it: MarengoLinks(embed_model=it.embed_model, expires_sec=0), "expires_sec=0", "7 days"),
    (
        "MarengoLinks",
        lambda it: MarengoLinks(embed_model=it.embed_model, allowed_prefixes=["videos/"]),
        "'videos/'",
        "s3://bucket",
    ),
    (
        "MarengoLinks",
        lambda it: MarengoLinks(embed_model=it.embed_model, expire_sec=9),
        "'expire_sec'",
        "'expires_sec'?",
    ),
    ("postprocess_nodes", lambda it: MarengoLinks(embed_model=it.embed_model).postprocess_nodes([5]), "5", "retriever"),
]


VIEWS = [
    ("frames", lambda it: it.client.frames(it.video, 5), "not 5", "pass a list"),
    ("frames", lambda it: it.client.frames(it.video, [NAN]), "nan is not a time", "seconds, 0 or more"),
    ("frames", lambda it: it.client.frames(it.video, [1.0], width="wide"), "width='wide'", "16 to 4096"),
    ("clip", lambda it: it.client.clip(it.video, 5, 1), "from 5 to 1 s", "must be after the start"),
    ("clip", lambda it: it.client.clip(it.video, 0, INF), "inf is not a time", "seconds, 0 or more"),
    ("format_moments", lambda it: format_moments(5), "not 5", "pass a list"),
    ("show", lambda it: show("a goal", it.client), "'a goal'", "pass a list"),
    ("show", lambda it: show(it.documents, it.store), "client=InMemoryVectorStore is not a client", "MarengoClient"),
    ("show", lambda it: show(it.documents, it.client, expires_sec=0), "expires_sec=0", "7 days"),
    (
        "show",
        lambda it: show(it.documents, it.client, allowed_prefixes="s3://bucket/"),
        "'s3://bucket/'",
        "pass a list",
    ),
    ("timeline", lambda it: timeline(5, it.segments, it.client), "5 is not a query", "Query(text="),
    (
        "timeline",
        lambda it: timeline("a goal", it.documents, it.client),
        "segments=list is not a SegmentEmbeddings",
        "embed_media",
    ),
    ("segment_map", lambda it: segment_map(5), "not 5", "pass a list"),
    (
        "segment_map",
        lambda it: segment_map(it.documents),
        "segments=Document is not a SegmentEmbeddings",
        "embed_media",
    ),
    ("segment_map", lambda it: segment_map(it.segments, color="loud"), "color='loud'", "'source', 'track', 'time'"),
    ("page", lambda it: page([], client=it.client, query=5), "5 is not a query", "Query(text="),
    ("page", lambda it: page([], client=None, query="a goal"), "None is not a client", "MarengoClient"),
    ("page", lambda it: page([], client=it.client, query="a goal", segments="x"), "'x'", "pass a list"),
]


def told(node, **metadata):
    """A medium's Document with further metadata, as somebody else's step in a pipeline leaves it."""
    node.metadata.update(metadata)
    return node


def rows(**tables):
    """The tables' rows, each with a name that says where it fails."""
    numbered = [(name, i, row) for name, table in tables.items() for i, row in enumerate(table)]
    return [pytest.param(*row[1:], id=f"{name}-{row[0]}-{i}") for name, i, row in numbered]


@pytest.mark.parametrize(
    ("call", "names", "way_out"),
    rows(
        client=CLIENT,
        texts=TEXTS,
        images=IMAGES,
        media=MEDIA,
        langchain=LANGCHAIN,
        llama_index=LLAMA_INDEX,
        views=VIEWS,
    ),
)
def test_bad_input_is_refused_by_name_before_it_costs(here, call, names, way_out):
    with pytest.raises((MarengoError, ValidationError)) as refused:
        call(here)
    said = str(refused.value)
    assert names in said
    assert way_out in said
    assert here.local.calls["InvokeModel"] == here.local.calls["StartAsyncInvoke"] == 0
