"""Texts and images: one InvokeModel call each, concurrently. Transient errors are retried, permanent ones are not."""

import asyncio
import pickle
import warnings

import boto3
import numpy as np
import pytest

from bedrock_marengo import ConfigurationError, InputError, MarengoClient, MarengoWarning, Media, Query, ServiceError
from marengo_local import Fault

LONG = "a long story about dogs " * 200


@pytest.fixture
def image(png, tmp_path):
    path = tmp_path / "dog.png"
    path.write_bytes(png())
    return path


# Shapes and order.


@pytest.mark.parametrize(("model", "dimension"), [("3.0", 512), ("2.7", 1024)])
def test_vectors_are_float32_with_the_models_dimension(connect, png, model, dimension):
    client = connect(model)
    assert client.dimension == client.model.dimension == dimension
    for vector in (client.embed_text("a dog"), client.embed_image(Media.from_bytes(png()))):
        assert vector.dtype == np.float32 and vector.shape == (dimension,)
    many = client.embed_texts(["a", "b", "c"])
    assert many.dtype == np.float32 and many.shape == (3, dimension)
    assert client.embed_texts([]).shape == client.embed_images([]).shape == (0, dimension)


def test_order_is_kept_and_equal_texts_are_embedded_once(client, local):
    texts = [f"text {i % 40}" for i in range(100)]
    vectors = client.embed_texts(text for text in texts)
    assert local.calls["InvokeModel"] == 40
    for i in (0, 39, 40, 99):
        assert np.array_equal(vectors[i], client.embed_text(texts[i]))
    assert not np.array_equal(vectors[0], vectors[1])


def test_images_by_path_bytes_and_s3_are_the_same(client, local, image):
    data = image.read_bytes()
    uri = local.put(data, "a b#dog.png")
    one = client.embed_image(image)
    for other in (Media.from_path(str(image)), Media.from_bytes(data), uri, Media.from_s3(uri)):
        assert np.array_equal(client.embed_image(other), one)
    assert np.array_equal(client.embed_images([image, uri]), [one, one])
    assert local.calls.of("InvokeModel")[3].body["image"]["mediaSource"]["s3Location"]["uri"] == uri


def test_combinations(client, local, image):
    both = client.embed_text_image("at night", image)
    assert both.shape == (512,) and not np.array_equal(both, client.embed_image(image))
    assert client.embed_multi_input("<@a> beside <@b>", {"a": image, "b": image}).shape == (512,)
    assert client.embed_multi_input(None, [image, image]).shape == (512,)
    assert np.array_equal(
        client.embed_multi_input(None, {"a": image}), client.embed_multi_input(None, (Media.from_path(image),))
    )


def test_embed_query_accepts_all_kinds_of_query(client, local, image, png):
    text, other = client.embed_text("a dog"), Media.from_bytes(png(9))
    assert np.array_equal(client.embed_query("a dog"), text)
    assert np.array_equal(client.embed_query(Query(text="a dog")), text)
    assert np.array_equal(client.embed_query(Query(image=image)), client.embed_image(image))
    assert np.array_equal(client.embed_query(Query(text="a", image=image)), client.embed_text_image("a", image))
    assert np.array_equal(
        client.embed_query(Query(text="<@x>", images={"x": other})), client.embed_multi_input("<@x>", {"x": other})
    )
    for query in (Query(video=local.put(b"v", "q.mp4")), Query(audio=local.put(b"a", "q.mp3"))):
        vector = client.embed_query(query)
        assert vector.dtype == np.float32 and np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


# Refused before the first call.


# Long texts.


def test_a_long_text_warns_once(client, connect):
    with pytest.warns(MarengoWarning, match=r"about \d+ tokens: Marengo 3.0 uses only the first 500"):
        client.embed_text(LONG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client.embed_texts([LONG, LONG + "more", "short"])
        connect().embed_text(LONG)


def test_truncate_error_rejects_texts_that_might_be_truncated(connect, local):
    client = connect(truncate="error")
    with pytest.raises(InputError, match=r"up to 4800 tokens; Marengo 3.0 accepts at most 500"):
        client.embed_text(LONG)
    with pytest.raises(InputError, match="Text 1 of 2: This text has up to"):
        client.embed_texts(["short", "語" * 167])
    assert local.calls["InvokeModel"] == 0
    client.embed_texts(["a" * 500, "語" * 166])


def test_a_token_counter_replaces_the_estimate(connect, local):
    client = connect(truncate="error", token_counter=lambda text: len(text.split()))
    client.embed_text(" ".join(["word"] * 500))
    with pytest.raises(InputError, match="has 501 tokens"):
        client.embed_text(" ".join(["word"] * 501))
    with pytest.warns(MarengoWarning, match="about 999 tokens"):
        connect(token_counter=lambda _: 999).embed_text("short")


def test_2_7_lets_the_service_reject(connect, local):
    with pytest.raises(ServiceError, match="77 tokens"):
        connect("2.7", truncate="error").embed_text(LONG)
    assert local.calls["InvokeModel"] == 1


# Concurrency.


@pytest.mark.parametrize("limit", [1, 4])
def test_max_concurrency_limits_concurrent_calls(connect, local, limit):
    local.latency_sec = 0.3
    connect(max_concurrency=limit).embed_texts(map(str, range(3 * limit)))
    at = sorted(call.at for call in local.calls.of("InvokeModel"))
    # The stand-in delays each response by 0.3 s, so an extra concurrent call would have arrived by then.
    assert all(later - earlier >= 0.299 for earlier, later in zip(at, at[limit:], strict=False))
    assert at[limit - 1] - at[0] < 0.3


async def test_300_awaitables_share_the_limit(connect, local):
    local.latency_sec = 0.02
    client = connect(max_concurrency=16)
    vectors = await asyncio.gather(*(client.aembed_text(f"text {i}") for i in range(300)))
    at = sorted(call.at for call in local.calls.of("InvokeModel"))
    assert len(at) == 300 and all(b - a >= 0.0195 for a, b in zip(at, at[16:], strict=False))
    assert np.array_equal(vectors[7], client.embed_text("text 7"))


async def test_the_event_loop_and_its_default_executor_are_not_blocked(client, local, image):
    loop = asyncio.get_running_loop()
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0)
            ticks += 1

    local.latency_sec = 0.1
    ticking = asyncio.create_task(tick())
    await client.aembed_texts(["a", "b"])
    await client.aembed_image(image)
    await client.aembed_images([image])
    await client.aembed_text_image("a", image)
    await client.aembed_multi_input(None, [image])
    await client.aembed_query(Query(text="a"))
    ticking.cancel()
    assert ticks > 100
    assert loop._default_executor is None


# What passes is retried; what does not pass stops at once.

PASSING = [
    {"error": "ThrottlingException"},
    {"error": "ModelNotReadyException"},
    {"error": "ModelTimeoutException"},
    {"error": "ModelErrorException"},
    {"error": "InternalServerException"},
    {"error": "ServiceUnavailableException"},
    {"error": "BadGateway", "status": 502},
    {"drop": "before"},
    {"drop": "after"},
    {"drop": "mid-body"},
]


@pytest.mark.fault("A call for a text is throttled, fails or loses its connection", expect="retried")
@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: "-".join(map(str, fault.values())))
def test_what_passes_is_retried(client, local, fault):
    local.faults = [Fault(op="InvokeModel", times=2, **fault)]
    assert client.embed_text("a dog").shape == (512,)
    assert local.calls["InvokeModel"] == 3


@pytest.mark.fault("A rate limit on InvokeModel", expect="all calls slow down together; none is lost")
def test_a_rate_limit_slows_the_pool_and_loses_nothing(client, local):
    local.invoke_rate = 60.0
    assert client.embed_texts(map(str, range(100))).shape == (100, 512)
    # Without a shared backoff, there would be hundreds of calls more.
    assert local.calls["InvokeModel"] < 400


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("ValidationException", ""),
        ("AccessDeniedException", "Check IAM: bedrock:InvokeModel"),
        ("ExpiredTokenException", "refresh them and run again"),
        ("ResourceNotFoundException", ""),
    ],
)
def test_permanent_errors_stop_at_once(connect, local, error, advice):
    local.faults = [Fault(op="InvokeModel", error=error, message="because of us")]
    with pytest.raises(ServiceError, match=f"InvokeModel for a text: {error}: because of us.*{advice}") as caught:
        connect(max_concurrency=4).embed_texts(map(str, range(100)))
    assert (caught.value.code, caught.value.operation) == (error, "InvokeModel")
    assert local.calls["InvokeModel"] <= 8


@pytest.mark.fault("A service that stays unavailable", expect="ServiceError after 8 calls")
def test_a_failure_that_does_not_pass_in_time_is_told(connect, local, monkeypatch):
    monkeypatch.setattr("bedrock_marengo.aws.retries.backoff_sec", lambda _: 0.0)
    local.faults = [Fault(op="InvokeModel", error="ServiceUnavailableException")]
    with pytest.raises(ServiceError, match="ServiceUnavailableException"):
        connect().embed_text("a")
    assert local.calls["InvokeModel"] == 8


def test_endpoint_unreachable(connect, monkeypatch):
    monkeypatch.setattr("bedrock_marengo.aws.retries.backoff_sec", lambda _: 0.0)
    with pytest.raises(ServiceError, match=r"EndpointConnectionError.*check region_name, endpoint_url"):
        connect(endpoint_url="http://127.0.0.1:1").embed_text("a")


def test_no_credentials(monkeypatch, local):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ServiceError, match="Set up AWS credentials"):
        MarengoClient(region_name="us-east-1").embed_text("a")


def test_unknown_profile():
    with pytest.raises(ConfigurationError, match="profile_name='nobody'"):
        MarengoClient(profile_name="nobody").embed_text("a")


# Processes.


def test_a_pickle_contains_no_secret_and_works(connect, local, monkeypatch):
    local.session_token = "TOKEN-OF-MINE"
    monkeypatch.setenv("AWS_SESSION_TOKEN", local.session_token)
    client = connect(tags={"team": "a"}, max_concurrency=3)
    data = pickle.dumps(client)
    for secret in (local.access_key_id, local.secret_access_key, local.session_token):
        assert secret.encode() not in data and secret not in repr(client) and secret not in str(client.__getstate__())
    copied = pickle.loads(data)
    assert repr(copied) == repr(client) and copied._settings.max_concurrency == 3
    # The copy finds credentials by boto3's own chain; here, the environment.
    assert np.array_equal(copied.embed_text("a"), connect().embed_text("a"))


@pytest.mark.parametrize("name", ["session", "bedrock_client"])
def test_clients_that_cannot_be_pickled(connect, local, name):
    local.secret_access_key = "s3cr3t"
    keys = {name: local.client_options[name] for name in ("aws_access_key_id", "aws_secret_access_key")}
    session = boto3.Session(region_name="us-east-1", **keys)
    given = session if name == "session" else session.client("bedrock-runtime", endpoint_url=local.endpoint_url)
    options = {key: value for key, value in local.client_options.items() if not key.startswith("aws_")}
    client = MarengoClient(**options, **{name: given})
    assert client.embed_text("a").shape == (512,)
    with pytest.raises(ConfigurationError, match=f"A {name} can't be pickled"):
        pickle.dumps(client)
    assert "s3cr3t" not in repr(client)
