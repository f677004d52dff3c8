"""Questions to Pegasus: what is sent, what it costs, and what becomes of answers that can't be used."""

import json
import re
from functools import cache

import boto3
import numpy as np
import pytest
from botocore.config import Config
from langchain_core.documents import Document
from llama_index.core.schema import NodeWithScore, TextNode

from bedrock_marengo import (
    Answer,
    BudgetError,
    ConfigurationError,
    InputError,
    Media,
    MediaNotFoundError,
    OutputError,
    Segment,
    ServiceError,
)
from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.search.results import results_from
from bedrock_marengo.words import parts
from bedrock_marengo.words.pegasus_contract import PEGASUS, read_reply
from marengo_local import Fault, event_stream

from ..films import film

film_of = film
film = cache(film)
QUESTION = "Who scores?"
SCHEMA = {
    "type": "object",
    "title": "Moment",
    "properties": {
        "title": {"type": "string", "description": "A few words", "minLength": 1},
        "scenes": {"type": "array", "items": {"$ref": "#/$defs/Scene"}, "minItems": 0, "maxItems": 50},
    },
    "required": ["title"],
    "additionalProperties": False,
    "$defs": {"Scene": {"type": "object", "properties": {"start": {"type": ["number", "null"]}}}},
}


@pytest.fixture
def match(local):
    """A film of 12 s on S3."""
    local.synthetic_sec = None
    return local.put(film(seconds=12.0, fps=10), "match.mp4")


def bodies(local):
    """What was sent to Pegasus."""
    return [call.body for op in ("InvokeModel", "InvokeModelWithResponseStream") for call in local.calls.of(op)]


def same(client, local):
    """Whether the client counted what the stand-in did."""
    usage = client.usage
    assert usage.usd == pytest.approx(local.usage.pegasus_usd, abs=1e-9)
    assert usage.services["pegasus"].seconds == pytest.approx(local.usage.pegasus_sec, abs=1e-6)
    return usage


class TestWhatIsAskedAbout:
    @pytest.mark.parametrize("model", ["1.5", "1.2"])
    def test_a_whole_file_goes_by_s3_and_a_part_as_a_clip(self, client, local, match, model):
        whole = client.ask(match, QUESTION, model=model)
        part = client.ask(match, QUESTION, model=model, start_sec=2, end_sec=8)
        assert isinstance(whole, Answer) and str(whole) == whole.text and whole.text
        assert (whole.source, whole.start_sec, whole.end_sec, whole.calls) == (match, 0.0, 12.0, 1)
        assert (part.start_sec, part.end_sec, part.stop_reason) == (2.0, 8.0, "stop")
        assert whole.model == part.model == PEGASUS[model].model_id
        tokens = whole.output_tokens + part.output_tokens
        assert whole.usd + part.usd == pytest.approx(18 * 0.00049 + tokens * 7.5e-6, abs=1e-6)
        same(client, local)
        assert client.usage.services["pegasus"].calls == 2

    def test_a_short_range_is_widened_within_the_file(self, client, local, match):
        spans = [(5, 6), (11.5, 12), (0, 0.5), (1, 20), (0, 12)]
        found = [client.ask(match, QUESTION, start_sec=start, end_sec=end) for start, end in spans]
        assert [(one.start_sec, one.end_sec) for one in found] == [(5, 9.25), (7.75, 12), (0, 4.25), (1, 12), (0, 12)]
        same(client, local)

    @pytest.mark.parametrize(
        "named",
        [
            lambda segment: segment,
            lambda segment: segment.uri,
            lambda segment: segment.uri_within(2, 9),
            lambda segment: Document(page_content=f"{segment.uri}\nwords", metadata={"source": "s3://other/b.mp4"}),
            lambda segment: TextNode(text=segment.uri),
            lambda segment: NodeWithScore(node=TextNode(text=segment.uri_within(2, 9)), score=0.5),
            lambda segment: results_from([segment])[0],
        ],
    )
    def test_a_segment_in_any_form(self, client, match, named):
        segment = Segment(match, 3.0, 9.0, "visual", "clip", "3fa9c1d27b041e55")
        answer = client.ask(named(segment), QUESTION)
        assert (answer.source, answer.end_sec) == (match, 9.0) and answer.start_sec in (2.0, 3.0)

    def test_its_range_may_be_changed(self, client, match):
        segment = Segment(match, 3.0, 6.0, "visual", "clip", "3fa9c1d27b041e55")
        assert client.ask(segment, QUESTION, start_sec=1).start_sec == 1.0

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ("match.mp4", "s3://"),
            (Document(page_content="about s3://bucket/match.mp4"), "names no file"),
            (Document(page_content="", metadata={"source": "s3://bucket/match.mp4"}), "names no file"),
            (None, "names no file"),
            (Media.from_bytes(b"\x89PNG\r\n\x1a\n", "image"), "only sees videos"),
            ("s3://bucket/speech.mp3", "only sees videos"),
            (Segment("s3://bucket/a.jpg", 0, 0, "image", "clip", "3fa9c1d27b041e55"), "only sees videos"),
        ],
    )
    def test_anything_else_is_refused(self, client, local, given, said):
        with pytest.raises(InputError, match=re.escape(said)):
            client.ask(given, QUESTION)
        assert len(local.calls) == 0

    def test_only_allowed_files_are_read(self, client, local, match):
        segment = Segment(match, 3.0, 9.0, "visual", "clip", "3fa9c1d27b041e55")
        bucket, _ = split_s3_uri(match)
        with pytest.raises(InputError, match="allowed_prefixes"):
            client.ask(segment, QUESTION, allowed_prefixes=["s3://other/"])
        assert client.ask(segment, QUESTION, allowed_prefixes=[f"s3://{bucket}/"]).text

    def test_local_files_and_bytes(self, client, connect, local, match, tmp_path):
        path = tmp_path / "match.mp4"
        path.write_bytes(film(seconds=12.0, fps=10))
        expected = client.ask(match, QUESTION).text
        assert client.ask(path, QUESTION).text == expected
        assert any("/uploads/" in item["Key"] for item in local.s3.list_objects_v2(Bucket=local.bucket)["Contents"])
        without = connect(output_s3_uri=None)
        assert (
            without.ask(path, QUESTION).text == without.ask(Media.from_bytes(path.read_bytes(), "video"), QUESTION).text
        )
        assert client.ask(path, QUESTION, start_sec=2, end_sec=7).source == str(path)

    def test_a_file_that_is_not_there(self, client, local):
        with pytest.raises((MediaNotFoundError, ServiceError)):
            client.ask(f"s3://{local.bucket}/none.mp4", QUESTION, duration_sec=10)
        assert local.usage.pegasus_calls == 0

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"start_sec": 12}, "after the end"),
            ({"start_sec": 5, "end_sec": 3}, "is empty"),
            ({"start_sec": -1}, "expected seconds"),
            ({"end_sec": float("nan")}, "expected seconds"),
            ({"duration_sec": 3}, "at least 4 s"),
            ({"duration_sec": 7300}, "at most 7,200 s"),
            ({"duration_sec": 3700, "model": "1.2"}, "at most 3,600 s"),
            ({"duration_sec": 3000, "end_sec": 1300, "model": "1.2"}, "shorter range"),
        ],
    )
    def test_a_range_that_can_not_be_sent(self, client, local, match, settings, said):
        with pytest.raises(InputError, match=said):
            client.ask(match, QUESTION, max_cost_usd=None, **settings)
        assert local.usage.pegasus_calls == 0

    def test_a_long_range_is_named_in_the_file(self, client, local, video):
        local.synthetic_sec = 3000.0
        answer = client.ask(video, QUESTION, end_sec=1300, duration_sec=3000, max_cost_usd=2, max_tokens=40_000)
        assert (answer.start_sec, answer.end_sec) == (0.0, 1300.0)
        same(client, local)
        # It is not documented that only the window is billed.
        with pytest.raises(BudgetError):
            client.ask(video, QUESTION, end_sec=1300, duration_sec=3000, max_cost_usd=1)

    def test_a_clip_that_is_too_large_is_made_smaller(self, client, local, monkeypatch):
        local.synthetic_sec = None
        noise = np.random.default_rng(0)
        pictures = [noise.integers(0, 255, (96, 160, 3), np.uint8) for _ in range(20)]
        match = local.put(film_of(seconds=8.0, fps=2, pictures=lambda number: pictures[number]), "noise.mp4")
        large = len(client.clip(match, 0.5, 8, width=160))
        monkeypatch.setattr(parts, "WIDTHS", (160, 64, 32))
        monkeypatch.setattr(parts, "INLINE_BYTES", large - 1)
        assert client.ask(match, QUESTION, start_sec=0.5, end_sec=8).text
        monkeypatch.setattr(parts, "INLINE_BYTES", 1000)
        with pytest.raises(InputError, match="even at 32 pixels"):
            client.ask(match, QUESTION, start_sec=0.5, end_sec=8)
        assert local.usage.pegasus_calls == 1
        same(client, local)


class TestTheRequest:
    def test_owner_profile_and_limits_are_always_sent(self, client, local, match):
        client.ask(match, QUESTION)
        client.ask(match, QUESTION, model="1.2", max_tokens=700, temperature=0)
        first, second = local.calls.of("InvokeModel")
        assert first.body == {
            "mediaSource": {"s3Location": {"uri": match, "bucketOwner": local.account_id}},
            "inputPrompt": QUESTION,
            "maxOutputTokens": 2048,
            "temperature": 0.2,
        }
        assert (second.body["maxOutputTokens"], second.body["temperature"]) == (700, 0)
        assert (first.model_id, second.model_id) == (f"us.{PEGASUS['1.5'].model_id}", f"us.{PEGASUS['1.2'].model_id}")

    @pytest.mark.parametrize(
        ("region", "version", "invoked"),
        [
            ("us-west-2", "1.5", "us."),
            ("eu-west-1", "1.5", "global."),
            ("eu-west-1", "1.2", "eu."),
            ("ap-northeast-2", "1.2", ""),
            ("ap-northeast-1", "1.2", "global."),
            ("us-gov-west-1", "1.5", "global."),
        ],
    )
    def test_each_region_has_its_profile(self, region, version, invoked):
        assert PEGASUS[version].invoke_id(region) == f"{invoked}{PEGASUS[version].model_id}"

    @pytest.mark.parametrize(
        "model",
        [
            "twelvelabs.pegasus-1-5-v1:0",
            "global.twelvelabs.pegasus-1-5-v1:0",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.twelvelabs.pegasus-1-5-v1:0",
        ],
    )
    def test_a_model_has_several_names(self, client, local, match, model):
        assert client.ask(match, QUESTION, model=model).model == "twelvelabs.pegasus-1-5-v1:0"

    def test_an_application_profile(self, client, local, match):
        arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mine"
        local.application_profiles = {arn: "twelvelabs.pegasus-1-2-v1:0"}
        assert client.ask(match, QUESTION, model="1.2", invoke_model_id=arn).text
        with pytest.raises(ConfigurationError, match="invoke_model_id"):
            client.ask(match, QUESTION, model=arn)

    def test_own_fields_replace_ours(self, client, local, match):
        extra = {"start_time": 2, "end_time": 6, "temperature": None, "maxOutputTokens": 1024}
        client.ask(match, QUESTION, extra=extra)
        (body,) = bodies(local)
        assert body.keys() == {"mediaSource", "inputPrompt", "start_time", "end_time", "maxOutputTokens"}
        assert body["maxOutputTokens"] == 1024
        # What a request may cost is read from what is sent.
        with pytest.raises(BudgetError):
            client.ask(match, QUESTION, extra={"maxOutputTokens": 90_000}, max_cost_usd=0.5)

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            ({"question": " "}, "not a question"),
            ({"question": 3}, "not a question"),
            ({"model": "3.0"}, "expected '1.5' or '1.2'"),
            ({"model": 1.5}, "expected '1.5' or '1.2'"),
            ({"max_tokens": 100}, "512 to 98,304"),
            ({"max_tokens": 5000, "model": "1.2"}, "1 to 4,096"),
            ({"max_tokens": True, "model": "1.2"}, "1 to 4,096"),
            ({"temperature": 2}, "from 0 to 1"),
            ({"extra": "maxOutputTokens"}, "expected a mapping"),
            ({"max_cost_usd": -1}, "0 or more"),
            ({"json_schema": "object"}, "a JSON Schema as a dict"),
            ({"json_schema": {"prefixItems": []}}, "prefixItems"),
            ({"json_schema": {"properties": {"a": {"format": "x", "type": "date"}}}}, "#/properties/a"),
            ({"json_schema": {"$ref": "https://example.com/schema.json"}}, "$ref"),
            ({"json_schema": {"const": float("nan")}}, "can't be written as JSON"),
        ],
    )
    def test_a_setting_that_is_not_valid(self, client, local, match, settings, said):
        with pytest.raises((InputError, ConfigurationError), match=re.escape(said)):
            client.ask(match, **{"question": QUESTION, **settings})
        assert local.usage.pegasus_calls == 0

    def test_what_numpy_and_others_give(self, client, local, match):
        client.ask(match, np.str_("Who?"), temperature=np.float32(0), max_tokens=np.int64(600), start_sec=np.float64(1))
        client.ask(match, "Who \ud83d\ude00 or \ud800?")
        asked = [body["inputPrompt"] for body in bodies(local)]
        assert asked == ["Who?", "Who \U0001f600 or \ufffd?"]

    def test_a_file_in_another_region(self, client, local):
        local.synthetic_sec = None
        bucket = f"{local.bucket}-far"
        local.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        local.s3.put_object(Bucket=bucket, Key="match.mp4", Body=film(seconds=12.0, fps=10))
        far = f"s3://{bucket}/match.mp4"
        with pytest.raises(ConfigurationError, match="a part of it"):
            client.ask(far, QUESTION)
        assert client.ask(far, QUESTION, start_sec=2, end_sec=8).text


class TestJson:
    @pytest.mark.parametrize("model", ["1.5", "1.2"])
    def test_an_answer_that_fits(self, client, local, match, model):
        answer = client.ask(match, QUESTION, json_schema=SCHEMA, model=model)
        assert json.loads(answer.text) == answer.data and answer.data["title"]
        (body,) = bodies(local)
        sent = body["responseFormat"]["jsonSchema"]
        assert sent["properties"]["title"] == {"type": "string"} and sent["required"] == ["title"]
        assert not {"title", "additionalProperties", "maxItems"} & set(sent) and "$defs" in sent

    @pytest.mark.parametrize(
        ("message", "said"),
        [
            ('{"title": ""}', "minLength"),
            ('{"scenes": []}', "required"),
            ('{"title": "a", "more": 1}', "answer.more must not be there"),
            ('{"title": "a", "scenes": [{"start": "0:01"}]}', "answer.scenes[0].start"),
            ("A goal.", "is not JSON"),
            ('{"title": NaN}', "is not JSON"),
            ("[" * 2000, "is not JSON"),
        ],
    )
    def test_one_that_does_not_is_an_error_and_is_paid(self, client, local, match, message, said):
        local.mutate_answer = lambda answer: {"message": message}
        with pytest.raises(OutputError, match=re.escape(said)):
            client.ask(match, QUESTION, json_schema=SCHEMA, max_tokens=90_000)
        same(client, local)

    def test_a_fence_around_it_does_no_harm(self, client, local, match):
        local.mutate_answer = lambda answer: {"message": '```json\n{"title": "a"}\n```'}
        assert client.ask(match, QUESTION, json_schema=SCHEMA).data == {"title": "a"}


class TestAnAnswerThatIsCutOff:
    def test_it_is_asked_again_with_more_tokens(self, client, local, match):
        local.mutate_answer = lambda answer: {"message": "word " * 3000}
        answer = client.ask(match, QUESTION)
        assert (answer.calls, answer.text) == (2, "word " * 3000)
        assert [body["maxOutputTokens"] for body in bodies(local)] == [2048, 8192]
        assert answer.usd == pytest.approx(local.usage.pegasus_usd)
        same(client, local)

    @pytest.mark.parametrize(
        ("settings", "calls"), [({}, 3), ({"model": "1.2"}, 2), ({"extra": {"maxOutputTokens": 512}}, 1)]
    )
    def test_not_for_ever(self, client, local, match, settings, calls):
        local.mutate_answer = lambda answer: {"message": "word " * 40_000}
        with pytest.raises(OutputError, match="cut off"):
            client.ask(match, QUESTION, **settings)
        assert local.usage.pegasus_calls == calls
        same(client, local)

    def test_not_beyond_the_budget(self, client, local, match):
        local.mutate_answer = lambda answer: {"message": "word " * 3000}
        with pytest.raises(BudgetError, match="as the answer was cut off"):
            client.ask(match, QUESTION, max_cost_usd=0.03)
        assert local.usage.pegasus_calls == 1 and local.usage.pegasus_usd < 0.03

    @pytest.mark.parametrize("finish_reason", [False, True])
    def test_the_reason_has_two_spellings(self, client, local, match, finish_reason):
        local.finish_reason = finish_reason
        assert client.ask(match, QUESTION, model="1.2").stop_reason == "stop"
        local.mutate_answer = lambda answer: {"message": "word " * 9000}
        with pytest.raises(OutputError, match="cut off"):
            client.ask(match, QUESTION, model="1.2")


class TestMoney:
    def test_the_price_is_known_before_the_call(self, client, local, match):
        most = client.ask_price(match, QUESTION)
        assert most == pytest.approx(12 * 0.00049 + 2048 * 7.5e-6)
        with pytest.raises(BudgetError):
            client.ask(match, QUESTION, max_cost_usd=most - 1e-6)
        assert client.ask(match, QUESTION, max_cost_usd=most).usd < most
        assert local.usage.pegasus_calls == 1

    def test_a_file_of_unknown_length_may_be_as_long_as_any(self, client, local, video):
        assert client.ask_price(video, QUESTION) == pytest.approx(7200 * 0.00049 + 2048 * 7.5e-6)
        with pytest.raises(BudgetError):
            client.ask(video, QUESTION)
        assert client.ask(video, QUESTION, duration_sec=18).usd == pytest.approx(local.usage.pegasus_usd)
        assert client.ask(video, QUESTION, max_cost_usd=None).usd is None
        assert client.usage.services["pegasus"].unknown == 1

    def test_several_share_a_budget(self, client, local, match):
        segments = [Segment(match, start, start + 5, "visual", "clip", "3fa9c1d27b041e55") for start in (0.0, 2.0, 4.0)]
        answers = client.ask_each([*segments, "s3://bucket/a.mp3"], QUESTION, max_cost_usd=0.04)
        assert [type(answer) for answer in answers[:2]] == [Answer, Answer] or BudgetError in map(type, answers)
        assert isinstance(answers[3], InputError)
        assert same(client, local).usd <= 0.04


class TestFailures:
    @pytest.mark.parametrize(
        "error", ["ThrottlingException", "ModelNotReadyException", "ServiceQuotaExceededException"]
    )
    def test_what_ran_nothing_is_tried_again(self, client, local, match, error):
        local.faults = [Fault("InvokeModel", error=error, times=2)]
        assert client.ask(match, QUESTION).text
        assert local.usage.pegasus_calls == 1
        same(client, local)

    @pytest.mark.parametrize(
        "way",
        [
            {"error": "InternalServerException"},
            {"error": "ServiceUnavailableException"},
            {"error": "ModelTimeoutException"},
            {"error": "ModelErrorException"},
            {"drop": "after"},
            {"drop": "mid-body"},
        ],
    )
    def test_what_may_be_billed_is_not(self, client, local, match, way):
        local.faults = [Fault("InvokeModel", **way)]
        with pytest.raises(ServiceError, match="may be billed"):
            client.ask(match, QUESTION)
        assert local.calls["InvokeModel"] == 1
        usage = client.usage.services["pegasus"]
        assert (usage.calls, usage.unknown, usage.usd) == (1, 1, 0)

    @pytest.mark.parametrize("error", ["AccessDeniedException", "ValidationException"])
    def test_a_refusal_is_not_counted(self, client, local, match, error):
        local.faults = [Fault("InvokeModel", error=error)]
        with pytest.raises(ServiceError, match=error) as caught:
            client.ask(match, QUESTION)
        assert "may be billed" not in str(caught.value)
        assert client.usage.services["pegasus"].calls == 0

    @pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{}", b'{"message": null}', b"\xff"])
    def test_a_reply_that_can_not_be_read_is_paid(self, client, local, match, body):
        local.faults = [Fault("InvokeModel", body=body)]
        with pytest.raises(OutputError, match="The call is billed"):
            client.ask(match, QUESTION)
        assert client.usage.services["pegasus"].calls == 1

    def test_an_own_client_must_wait_and_not_retry(self, local, connect, match):
        def made(**config):
            return boto3.client(
                "bedrock-runtime",
                region_name=local.region_name,
                endpoint_url=local.client_options["endpoint_url"],
                aws_access_key_id=local.client_options["aws_access_key_id"],
                aws_secret_access_key=local.client_options["aws_secret_access_key"],
                config=Config(**config),
            )

        for config in ({}, {"read_timeout": 900}, {"retries": {"total_max_attempts": 1}}):
            with pytest.raises(ConfigurationError, match="read_timeout=900"):
                connect(bedrock_client=made(**config)).ask(match, QUESTION)
        right = made(read_timeout=900, retries={"total_max_attempts": 1})
        assert connect(bedrock_client=right).ask(match, QUESTION).text

    def test_the_users_config_does_not_shorten_the_wait(self, connect, match):
        client = connect(config=Config(read_timeout=5, retries={"total_max_attempts": 4}))
        config = client._runtime.aws.slow_bedrock.meta.config
        assert (config.read_timeout, config.retries["total_max_attempts"]) == (900, 1)
        assert client._runtime.aws.bedrock.meta.config.read_timeout == 5


class TestStream:
    def test_pieces_are_the_answer(self, client, local, match):
        pieces = list(client.iter_ask(match, QUESTION, start_sec=2, end_sec=8))
        assert len(pieces) > 1 and "".join(pieces) == client.ask(match, QUESTION, start_sec=2, end_sec=8).text
        same(client, local)

    def test_nothing_is_asked_before_the_first_piece(self, client, local, match):
        client.iter_ask(match, QUESTION)
        with pytest.raises(InputError):
            client.iter_ask(match, "")
        with pytest.raises(InputError, match="json_schema"):
            client.iter_ask(match, QUESTION, json_schema={})
        with pytest.raises(BudgetError):
            next(client.iter_ask(match, QUESTION, max_cost_usd=0))
        assert local.usage.pegasus_calls == 0

    def test_one_that_is_cut_off_is_an_error_at_its_end(self, client, local, match):
        local.mutate_answer = lambda answer: {"message": "word " * 3000}
        pieces = []
        with pytest.raises(OutputError, match="cut off"):
            pieces.extend(client.iter_ask(match, QUESTION))
        assert local.usage.pegasus_calls == 1
        same(client, local)

    def test_one_that_is_left_counts_as_unknown(self, client, local, match):
        pieces = client.iter_ask(match, QUESTION)
        next(pieces)
        pieces.close()
        assert client.usage.services["pegasus"].unknown == 1

    @pytest.mark.parametrize(
        "fault",
        [
            {"drop": "mid-body"},
            {"error": "ModelStreamErrorException"},
            {"body": event_stream.chunk({"message": "A ", "stopReason": ""})},
            {
                "body": event_stream.chunk({"message": "A ", "stopReason": ""})
                + event_stream.exception("modelStreamErrorException", "so it is")
            },
        ],
    )
    def test_one_that_breaks_off(self, client, local, match, fault):
        local.faults = [Fault("InvokeModelWithResponseStream", **fault)]
        with pytest.raises(ServiceError, match="may be billed"):
            list(client.iter_ask(match, QUESTION))
        assert client.usage.services["pegasus"].unknown == 1


async def test_asyncio(client, local, match):
    answer = await client.aask(match, QUESTION)
    assert answer == client.ask(match, QUESTION)
    assert await client.aask_price(match, QUESTION) == client.ask_price(match, QUESTION)
    assert "".join([piece async for piece in client.aiter_ask(match, QUESTION)]) == answer.text
    assert [one.text for one in await client.aask_each([match], QUESTION)] == [answer.text]
    same(client, local)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"segments": [{"start_sec": 1, "end_sec": 2, "description": "a  b"}]}, [(1, 2, "a b")]),
        ({"segments": [{"start_time": 1, "end_time": 2, "metadata": {"description": "a"}}]}, [(1, 2, "a")]),
        (
            {"segments": {"segments": [{"start_time": "00:01", "end_time": "1:00:02.5", "description": "a"}]}},
            [(1, 3602.5, "a")],
        ),
        ({"segments": [{"start_sec": 2, "end_sec": 1, "description": "a"}, {"end_sec": 1}, "a", None]}, []),
        ({"segments": []}, []),
    ],
)
def test_segments_are_read_in_each_form_that_was_seen(body, found):
    reply = read_reply(json.dumps({**body, "stopReason": "stop"}).encode(), {})
    assert [(one.start_sec, one.end_sec, one.text) for one in reply.segments] == found
    assert not reply.why_unreadable


def test_definitions_that_failed_are_an_error():
    body = {"segments": [], "definition_errors": [{"id": "segments", "error": "no"}]}
    with pytest.raises(OutputError, match="definitions failed"):
        read_reply(json.dumps(body).encode(), {}).check("a.mp4")
