"""Credentials and media never come out: not in what is shown, kept, logged, warned of or raised."""

import base64
import copy
import functools
import inspect
import json
import logging
import pickle
import re
import traceback
import warnings

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.load import dumps
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import VectorStoreIndex
from llama_index.core.callbacks import CallbackManager, CBEventType, LlamaDebugHandler
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index_instrumentation import get_dispatcher
from llama_index_instrumentation.event_handlers import BaseEventHandler
from pydantic import ValidationError

from bedrock_marengo import InputError, MarengoClient, MarengoError, Media, MediaFailedError, Query, instrumentation
from bedrock_marengo.instrumentation import EVENTS
from langchain_marengo import MarengoEmbeddings, MarengoLoader, MarengoRetriever, add_segments
from llama_index_marengo import MarengoEmbedding, MarengoLinks, MarengoReader, MarengoSegmenter
from llama_index_marengo import MarengoRetriever as IndexRetriever
from marengo_local import Fault

pytestmark = pytest.mark.promise("No secret gets out")

SECRET = "s3cr3t/of+this+test"
TOKEN = "t0k3n/of+this+test"
MARK = b"<what only Marengo may see>"
PACKAGES = ("bedrock_marengo", "langchain_marengo", "llama_index_marengo")
KEPT_OUT = re.compile(r"X-Amz-|inputText|base64|-?\d\.\d+, -?\d\.\d+, -?\d\.\d+|bytearray|\bb'")
OTHERS = ("botocore", "boto3", "urllib3", "s3transfer", "aiohttp", "asyncio", "werkzeug", "moto")


@pytest.fixture
def options(local):
    local.secret_access_key, local.session_token = SECRET, TOKEN
    return local.client_options


@pytest.fixture
def image(png):
    """A PNG that holds a mark, as many viewers don't mind."""
    return png() + 50 * MARK


@pytest.fixture
def hides(local, image):
    """Whether a text or some bytes hold neither credentials nor media."""
    inline = base64.b64encode(image)
    hidden = [local.access_key_id.encode(), SECRET.encode(), TOKEN.encode(), MARK, inline[:60], inline[-60:]]
    hidden += [repr(MARK).encode()[2:-1], base64.b64encode(SECRET.encode())]

    def hides(shown):
        data = shown if isinstance(shown, bytes) else str(shown).encode(errors="surrogateescape")
        return not [secret for secret in hidden if secret in data]

    return hides


class Things:
    """One of each kind of object that holds credentials, or might, made when it is asked for."""

    def __init__(self, options, image, video):
        self.options, self.image, self.video = options, image, video

    @functools.cached_property
    def client(self):
        return MarengoClient(**self.options)

    @property
    def settings(self):
        return self.client._settings

    @functools.cached_property
    def job(self):
        return self.client.start(self.video)

    @functools.cached_property
    def media(self):
        return Media.from_bytes(self.image)

    @property
    def query(self):
        return Query(text="at night", image=self.media)

    @property
    def queries(self):
        return Query(images={"a": self.media})

    @functools.cached_property
    def embeddings(self):
        return MarengoEmbeddings(**self.options)

    @functools.cached_property
    def store(self):
        return InMemoryVectorStore(self.embeddings)

    @functools.cached_property
    def retriever(self):
        return MarengoRetriever(vectorstore=self.store, embeddings=self.embeddings)

    @functools.cached_property
    def embed_model(self):
        return MarengoEmbedding(**self.options)

    @functools.cached_property
    def reader(self):
        return MarengoReader(self.video, embed_model=self.embed_model)

    @functools.cached_property
    def reader_by_settings(self):
        return MarengoReader(self.video, **self.options)

    @functools.cached_property
    def segmenter(self):
        return MarengoSegmenter(embed_model=self.embed_model)

    @functools.cached_property
    def links(self):
        return MarengoLinks(**self.options)

    def used(self, name):
        """A thing after its first call, with all that it has made for it."""
        thing = getattr(self, name)
        for client in (
            thing,
            getattr(thing, "core", None),
            getattr(getattr(thing, "embed_model", None), "core", None),
        ):
            if isinstance(client, MarengoClient):
                client.embed_text("a dog")
        return thing


@pytest.fixture
def things(options, image, video):
    return Things(options, image, video)


# What is shown, dumped and copied.

SHOWS = {
    "repr": repr,
    "str": str,
    "format": lambda thing: f"{thing}",
    "in a list": lambda thing: repr([thing]),
    "copy": lambda thing: repr(copy.copy(thing)),
    "deepcopy": lambda thing: repr(copy.deepcopy(thing)),
    "dumps": dumps,
    "model_dump": lambda thing: thing.model_dump(),
    "model_dump_json": lambda thing: thing.model_dump_json(),
    "to_dict": lambda thing: thing.to_dict(),
    "to_json": lambda thing: thing.to_json(),
    "to_payload": lambda thing: thing.to_payload(),
}
PLAIN = ["repr", "str", "format", "in a list", "copy", "deepcopy"]
LANGCHAIN = [*PLAIN, "dumps", "model_dump"]
LLAMA_INDEX = [*PLAIN, "model_dump", "model_dump_json", "to_dict", "to_json"]


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("client", PLAIN),
        ("settings", PLAIN[:-2]),
        ("job", PLAIN[:-2]),
        ("media", PLAIN),
        ("query", PLAIN),
        ("queries", PLAIN),
        ("embeddings", [*LANGCHAIN, "model_dump_json"]),
        ("retriever", [*LANGCHAIN, "to_json"]),
        ("store", ["repr", "str", "dumps"]),
        ("embed_model", [*LLAMA_INDEX, "to_payload"]),
        ("reader", LLAMA_INDEX),
        ("reader_by_settings", LLAMA_INDEX),
        ("segmenter", LLAMA_INDEX),
        ("links", LLAMA_INDEX),
    ],
)
def test_what_is_shown_holds_no_secret(things, hides, name, ways):
    for way in ways:
        assert hides(SHOWS[way](things.used(name))), way


@pytest.mark.parametrize(
    "name",
    ["client", "settings", "job", "embeddings", "embed_model", "reader", "reader_by_settings", "segmenter", "links"],
)
def test_a_pickle_holds_no_secret(things, hides, name):
    pickled = pickle.dumps(things.used(name))
    assert hides(pickled)
    assert hides(repr(pickle.loads(pickled)))


def test_a_password_in_an_endpoint_is_refused_and_not_shown(hides):
    with pytest.raises(MarengoError) as refused:
        MarengoClient(endpoint_url=f"https://me:{SECRET}@localhost")
    assert hides(refused.value)
    assert "'localhost'" in str(refused.value)


# What is raised.


def shown(error):
    """All that a log or a page would show of an error: its chain, its text, its attributes."""
    return "\n".join([*traceback.format_exception(error), repr(error), str(error), repr(vars(error))])


WRONG = [
    {"bucket_owner": "me"},
    {"max_concurrency": "many"},
    {"region": "us-east-1"},
    {"secret_access_key": SECRET},
    {"aws_secret_access_key": [SECRET]},
    {"aws_session_token": [TOKEN]},
    {"aws_access_key_id": None},
    {"truncate": "cut"},
    {"endpoint_url": "here"},
    {"session": SECRET},
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: next(iter(wrong)))
@pytest.mark.parametrize(
    "make",
    [
        MarengoEmbeddings,
        MarengoEmbedding,
        MarengoLinks,
        MarengoSegmenter,
        lambda **settings: MarengoReader("s3://bucket/", **settings),
        MarengoEmbeddings.model_validate,
        MarengoEmbedding.model_validate,
    ],
    ids=["embeddings", "embed_model", "links", "segmenter", "reader", "validated", "validated model"],
)
def test_a_wrong_setting_with_credentials_shows_none(options, hides, make, wrong):
    settings = options | wrong
    with pytest.raises(ValidationError) as refused:
        make(settings) if "validate" in getattr(make, "__name__", "") else make(**settings)
    error = refused.value
    assert hides(shown(error))
    # What programs read of pydantic's errors, too.
    assert hides(error.errors())
    assert hides(error.json())


@pytest.mark.parametrize(
    "wrong", [wrong for wrong in WRONG if wrong.keys() <= inspect.signature(MarengoClient).parameters.keys()]
)
def test_a_clients_own_refusal_tells_none(options, hides, wrong):
    with pytest.raises(MarengoError) as refused:
        MarengoClient(**options | wrong)
    assert hides(shown(refused.value))


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("InvokeModel", "AccessDeniedException"),
        ("InvokeModel", "ValidationException"),
        ("StartAsyncInvoke", "AccessDeniedException"),
        ("StartAsyncInvoke", "ExpiredTokenException"),
        ("GetAsyncInvoke", "AccessDeniedException"),
        ("s3:ListObjectsV2", "AccessDenied"),
        ("s3:ListObjectsV2", "ExpiredToken"),
        ("s3:PutObject", "AccessDenied"),
    ],
)
def test_what_aws_refuses_tells_none(things, hides, local, image, tmp_path, operation, code):
    local.faults = [Fault(operation, error=code, message="User is not authorized")]
    (tmp_path / "film.mp4").write_bytes(image)
    errors = []
    for call in (
        lambda: things.client.embed_image(things.media),
        lambda: things.client.embed_media(tmp_path / "film.mp4"),
        lambda: things.embeddings.embed_image(image),
        lambda: things.embed_model.get_image_embedding(image),
        lambda: things.job.status(),
        lambda: things.client.embed_media(things.video),
        lambda: MarengoLoader([tmp_path], embeddings=things.embeddings, show_progress=False).load(),
    ):
        try:
            call()
        except MarengoError as error:
            errors.append(error)
    assert errors
    for error in errors:
        assert hides(shown(error))
        assert hides(pickle.dumps(error))
        copied = pickle.loads(pickle.dumps(error))
        assert (str(copied), vars(copied)) == (str(error), vars(error))


@pytest.mark.parametrize(
    "call",
    [
        lambda it, image: it.client.embed_text(image),
        lambda it, image: it.client.embed_texts(image),
        lambda it, image: it.client.embed_image(image),
        lambda it, image: it.client.embed_query(image),
        lambda it, image: it.client.embed_media(image),
        lambda it, image: it.client.embed_many(image),
        lambda it, image: it.client.plan(image),
        lambda it, image: it.client.playable_url(image),
        lambda it, image: it.client.segment_vectors([image]),
        lambda it, image: it.client.embed_multi_input("<@b>", {"a": Media.from_bytes(image)}),
        lambda it, image: it.client.embed_image(Media.from_bytes(image + bytes(5_242_880))),
        lambda it, image: it.client.embed_image(Media.from_bytes(image, "video")),
        lambda it, image: Media.from_bytes(b"x" + image),
        lambda it, image: Query(image=image),
        lambda it, image: Query(images={"a": image}),
        lambda it, image: it.embeddings.embed_query(image),
        lambda it, image: it.embeddings.embed_documents(image),
        lambda it, image: it.embeddings.embed_images(image),
        lambda it, image: it.embeddings.embed_image("x" + base64.b64encode(image).decode()),
        lambda it, image: it.retriever.invoke(image),
        lambda it, image: it.embed_model.get_text_embedding(image),
        lambda it, image: it.embed_model.get_image_embedding(image + bytes(5_242_880)),
        lambda it, image: it.segmenter([image]),
    ],
)
def test_media_handed_in_wrongly_stand_in_no_error(things, hides, image, call):
    with pytest.raises(MarengoError) as refused:
        call(things, image)
    assert hides(shown(refused.value))


def test_several_failed_media_tell_their_names_alone(things, hides, image):
    loader = MarengoLoader(
        [Media.from_bytes(image), Media.from_bytes(image + b"x")],
        embeddings=things.embeddings,
        options=["visual"],
        metadata=lambda source: {"source": "x"},
        show_progress=False,
    )
    with pytest.raises(MediaFailedError) as failed:
        loader.load()
    assert hides(shown(failed.value))


# What is logged, warned of, printed and traced.


class Tracer(BaseCallbackHandler):
    """Keeps all that LangChain tells its callbacks, which tracers send elsewhere."""

    def __init__(self):
        self.seen = []

    def on_retriever_start(self, *args, **kwargs):
        self.seen += [args, kwargs]

    def on_retriever_end(self, *args, **kwargs):
        self.seen += [args, kwargs]

    def on_retriever_error(self, *args, **kwargs):
        self.seen += [args, kwargs]


class Events(BaseEventHandler):
    """Keeps all that LlamaIndex tells its event handlers."""

    def __init__(self, **fields):
        super().__init__(**fields)
        self._seen = []

    def handle(self, event, **kwargs):
        self._seen.append(event.model_dump_json(serialize_as_any=True))


@pytest.fixture
def events():
    dispatcher, handler = get_dispatcher(), Events()
    dispatcher.add_event_handler(handler)
    yield handler._seen
    dispatcher.event_handlers.remove(handler)


def work(things, options, image, folder, callbacks):
    """A day's work in both frameworks, with a mistake and a failure in it."""
    path = folder / "still.png"
    path.write_bytes(image)
    (folder / "broken.srt").write_text("no captions")
    (folder / "broken.mp4").write_bytes(image)
    (folder / "bad.mp4").write_bytes(b"bad" + image)
    things.client.embed_image(path)
    things.client.embed_query(things.query)
    documents = MarengoLoader(folder, embeddings=things.embeddings, on_error="skip").load()
    add_segments(things.store, documents)
    things.retriever.invoke(things.query, {"callbacks": [callbacks]})
    with pytest.raises(InputError):
        things.retriever.invoke("", {"callbacks": [callbacks]})
    debug = LlamaDebugHandler(print_trace_on_end=False)
    embed_model = MarengoEmbedding(**options, callback_manager=CallbackManager([debug]))
    embed_model.get_image_embedding(path)
    embed_model.get_text_image_embedding("at night", things.media)
    media = MarengoReader(folder, embed_model=embed_model, on_error="skip").load_data()
    nodes = MarengoSegmenter(embed_model=embed_model, on_error="skip", show_progress=True)(media)
    index = VectorStoreIndex(nodes, embed_model=embed_model)
    IndexRetriever(index=index).retrieve(things.query)
    return debug


def test_a_days_work_logs_warns_prints_and_traces_no_secret(
    things, options, hides, image, local, tmp_path, caplog, capfd, events
):
    local.faults = [
        Fault("Job", error="Failed", message="the media can't be read", when=lambda call: "bad.mp4" in str(call.body)),
        Fault("InvokeModel", error="ThrottlingException", times=1),
        Fault("InvokeModel", error="InternalServerException", times=1),
        Fault("StartAsyncInvoke", error="ServiceQuotaExceededException", times=1),
        Fault("StartAsyncInvoke", error="InternalServerException", times=1),
        Fault("s3:GetObject", error="SlowDown", times=1),
    ]
    caplog.set_level(logging.DEBUG)
    tracer = Tracer()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        debug = work(things, options, image, tmp_path, tracer)
    # botocore's DEBUG log holds requests as they are sent: it is botocore's.
    ours = [record for record in caplog.records if not record.name.startswith(OTHERS)]
    assert all(hides(f"{record.getMessage()} {record.__dict__}") for record in ours)
    assert {record.levelname for record in ours} >= {"DEBUG", "INFO", "WARNING", "ERROR"}
    assert {record.name.split(".")[0] for record in ours} >= {*PACKAGES}
    # Nor a presigned URL, a vector or a body.
    assert not [record for record in ours if KEPT_OUT.search(f"{record.getMessage()} {record.__dict__}")]
    assert warned
    assert all(hides(warning.message) for warning in warned)
    printed = capfd.readouterr()
    assert "media" in printed.err  # the progress bar
    assert hides(printed.out + printed.err)
    assert len(tracer.seen) >= 8
    assert hides(repr(tracer.seen))
    assert events
    assert all(map(hides, events))
    payloads = [event.payload for pair in debug.get_event_pairs(CBEventType.EMBEDDING) for event in pair]
    assert payloads
    assert hides(repr(payloads))


@pytest.mark.parametrize("name", EVENTS)
def test_no_event_lets_a_secret_out(image, hides, caplog, name):
    """Whatever a caller hands over: bodies, vectors and media by their type, URLs without their query."""
    event = EVENTS[name]
    caplog.set_level(logging.DEBUG, "bedrock_marengo")
    url = f"https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Security-Token={TOKEN}&X-Amz-Signature={SECRET}"
    numbers = set(re.findall(r"%\((\w+)\)[.\d]*[df]", event.message))
    texts = set(re.findall(r"%\((\w+)\)s", event.message))
    texts |= {"body", "vector"}
    facts = {**dict.fromkeys(numbers, 1.0), **dict.fromkeys(texts, url), "body": image, "vector": [0.1, 0.2, 0.3]}
    instrumentation.emit(name, **facts)
    [record] = caplog.records
    assert hides(f"{record.getMessage()} {record.__dict__}")
    assert not KEPT_OUT.search(f"{record.getMessage()} {record.__dict__}")


def test_botocores_own_log_never_holds_the_secret_key(things, image, caplog):
    caplog.set_level(logging.DEBUG)
    MarengoClient(**things.client._settings.__dict__ | {"bedrock_client": None}).embed_text("a dog")
    assert any(record.name.startswith("botocore") for record in caplog.records)
    assert SECRET not in caplog.text


# What is kept.


def test_nothing_kept_on_s3_in_stores_or_caches_holds_a_secret_or_a_link(
    things, options, hides, local, video, tmp_path
):
    """Presigned links, too: they expire, and are made after retrieval."""
    things.client.collect(things.job)
    documents = MarengoLoader(video, embeddings=things.embeddings, show_progress=False).load()
    add_segments(things.store, documents)
    assert things.retriever.invoke("a goal")
    things.store.dump(str(tmp_path / "store.json"))
    cache = IngestionCache()
    steps = [MarengoSegmenter(**options), things.embed_model]
    nodes = IngestionPipeline(transformations=steps, cache=cache).run(documents=things.reader.load_data())
    index = VectorStoreIndex(nodes, embed_model=things.embed_model)
    linked = things.links.postprocess_nodes(IndexRetriever(index=index).retrieve("a goal"))
    assert all("X-Amz-Expires=3600" in hit.node.metadata["url"] for hit in linked)
    index.storage_context.persist(str(tmp_path / "index"))
    cache.persist(str(tmp_path / "cache.json"))
    kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    listed = local.s3.list_objects_v2(Bucket=local.bucket, Prefix="marengo/")["Contents"]
    kept += [local.s3.get_object(Bucket=local.bucket, Key=item["Key"])["Body"].read() for item in listed]
    assert len(kept) >= 8
    assert all(hides(data) and b"X-Amz-" not in data for data in kept)


def test_a_cache_key_is_the_same_whoever_pays(options, things):
    other = MarengoSegmenter(**{**options, "aws_secret_access_key": "another", "endpoint_url": "http://localhost:1"})
    assert other.to_dict() == things.segmenter.to_dict()
    assert json.dumps(other.to_dict()) == json.dumps(things.segmenter.to_dict())
