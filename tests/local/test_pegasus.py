"""Pegasus, as a bare boto3 client meets it."""

import base64
import json
from importlib.resources import files

import jsonschema
import pytest
from botocore.exceptions import ClientError, EventStreamError
from urllib3.exceptions import ProtocolError

from marengo_local import Fault, event_stream
from marengo_local.contract.pegasus import PEGASUS_MODELS, resolve_pegasus
from marengo_local.errors import ServiceError

P15, P12 = "us.twelvelabs.pegasus-1-5-v1:0", "us.twelvelabs.pegasus-1-2-v1:0"
CLIP = files("marengo_local") / "reel" / "grand_prix_1906.mp4"
UNPROCESSABLE = "Unprocessable video"
SUMMARY = {"id": "scenes", "description": "What happens", "fields": [{"name": "summary", "type": "string"}]}


@pytest.fixture
def source(local, bedrock):
    return bedrock.s3_source(local.put(b"a video", "match.mp4"))


@pytest.fixture
def ask(bedrock, source):
    def ask(model_id=P15, **body):
        general = {} if {"inputPrompt", "prompt_v2"} & set(body) else {"inputPrompt": "What happens?"}
        return bedrock.invoke({"mediaSource": source, **general, **body}, model_id)

    return ask


@pytest.fixture
def segment(bedrock, source):
    def segment(*definitions, **body):
        asked = {"analysis_mode": "time_based_metadata", "segment_definitions": definitions or (SUMMARY,)}
        return bedrock.invoke({"mediaSource": source, **asked, **body}, P15)

    return segment


@pytest.fixture
def stream(bedrock, source):
    def stream(model_id=P15, **body):
        body = {"mediaSource": source, "inputPrompt": "What happens?", **body}
        response = bedrock.client.invoke_model_with_response_stream(modelId=model_id, body=json.dumps(body))
        return [json.loads(event["chunk"]["bytes"]) for event in response["body"]]

    return stream


def refused(call, *args, **body):
    with pytest.raises(ClientError) as caught:
        call(*args, **body)
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    return caught.value.response["Error"]["Message"]


class TestWhoIsAsked:
    @pytest.mark.parametrize(
        ("model_id", "said"),
        [
            (P15, None),
            ("global.twelvelabs.pegasus-1-5-v1:0", None),
            ("twelvelabs.pegasus-1-5-v1:0", "on-demand throughput isn’t supported"),
            ("eu.twelvelabs.pegasus-1-5-v1:0", "identifier is invalid"),
            ("twelvelabs.pegasus-1-2-v1:0", None),
            (P12, None),
            ("arn:aws:bedrock:us-east-1::foundation-model/twelvelabs.pegasus-1-5-v1:0", "on-demand throughput"),
            ("arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.twelvelabs.pegasus-1-5-v1:0", None),
            ("arn:aws:bedrock:eu-west-1::foundation-model/twelvelabs.pegasus-1-2-v1:0", "identifier is invalid"),
            ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mine", None),
        ],
    )
    def test_which_ids_are_called(self, local, ask, stream, model_id, said):
        profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/mine"
        local.application_profiles = {profile: "twelvelabs.pegasus-1-5-v1:0"}
        for call in (ask, stream):
            if said is None:
                call(model_id)
            else:
                assert said in refused(call, model_id)

    def test_marengo_does_not_stream(self, bedrock):
        body = json.dumps({"inputType": "text", "text": {"inputText": "a dog"}})
        call = bedrock.client.invoke_model_with_response_stream
        assert "unsupported for streaming" in refused(call, modelId="twelvelabs.marengo-embed-3-0-v1:0", body=body)

    def test_there_are_no_asynchronous_calls(self, bedrock, source):
        assert refused(bedrock.start, {"inputPrompt": "?", "mediaSource": source}, P15)


@pytest.mark.parametrize(
    ("region", "prefixes"),
    [
        ("us-east-1", {"1.5": {"us", "global"}, "1.2": {"", "us", "global"}}),
        ("eu-west-1", {"1.5": {"global"}, "1.2": {"eu", "global"}}),
        ("ap-northeast-2", {"1.5": {"global"}, "1.2": {"", "apac", "global"}}),
    ],
)
def test_each_region_has_its_profiles(region, prefixes):
    for model in PEGASUS_MODELS:
        for prefix in ("", "us", "eu", "apac", "global"):
            identifier = f"{prefix}.{model.model_id}".lstrip(".")
            where = {"region": region, "account_id": "123456789012", "application_profiles": {}}
            if prefix in prefixes[model.version]:
                assert resolve_pegasus(identifier, **where) is model
            else:
                with pytest.raises(ServiceError):
                    resolve_pegasus(identifier, **where)


class TestRequests:
    @pytest.mark.parametrize(
        ("model_id", "body", "said"),
        [
            (P15, {"temperature": 1.1}, "#/temperature"),
            (P15, {"maxOutputTokens": 511}, "#/maxOutputTokens"),
            (P15, {"maxOutputTokens": 98_305}, "#/maxOutputTokens"),
            (P12, {"maxOutputTokens": 4_097}, "#/maxOutputTokens"),
            (P15, {"inputPrompt": ""}, "#/inputPrompt"),
            (P12, {"inputPrompt": "word " * 2_001}, "2001 tokens; the maximum is 2000"),
            (P15, {"inputPrompt": "a", "prompt_v2": {"input_text": "a"}}, "exactly one of"),
            (P12, {"prompt_v2": {"input_text": "a"}}, "required key [inputPrompt]"),
            (P15, {"analysis_mode": "segments"}, "#/analysis_mode"),
            (P12, {"analysis_mode": "general"}, "extraneous key [analysis_mode]"),
            (P12, {"analysis_mode": "time_based_metadata"}, "#/analysis_mode"),
            (P15, {"segment_definitions": [SUMMARY]}, "extraneous key"),
            (P15, {"max_tokens": 512}, "extraneous key [max_tokens]"),
            (P15, {"start_time": 4, "end_time": 4.5}, "at least 1 s after"),
            (P15, {"start_time": 12}, "within the video, which lasts 12.00 s"),
            (P15, {"end_time": 13}, "within the video"),
            (P12, {"start_time": 1}, "extraneous key"),
            (P15, {"prompt_v2": {"input_text": "Is <@her> there?"}}, "['her']"),
            (P15, {"mediaSource": {"base64String": "no base64!"}}, "not valid base64"),
            (P15, {"mediaSource": {"url": "https://example.com/a.mp4"}}, "#/mediaSource"),
        ],
    )
    def test_a_body_that_breaks_the_contract_is_refused(self, ask, model_id, body, said):
        assert said in refused(ask, model_id, **body)

    @pytest.mark.parametrize(
        ("location", "said"),
        [
            ({}, "required key [bucketOwner]"),
            ({"bucketOwner": "210987654321"}, "not owned by the account 210987654321"),
            ({"bucketOwner": "123456789012", "uri": "s3://no-such-bucket/a.mp4"}, "does not exist"),
            ({"bucketOwner": "123456789012", "uri": "{bucket}/no.mp4"}, "Could not read"),
            ({"bucketOwner": "123456789012", "uri": "s3://in-dublin/a.mp4"}, "it must be in us-east-1"),
        ],
    )
    def test_a_location_must_be_owned_near_and_there(self, local, ask, location, said):
        if "in-dublin" not in {bucket["Name"] for bucket in local.s3.list_buckets()["Buckets"]}:
            place = {"LocationConstraint": "eu-west-1"}
            local.s3.create_bucket(Bucket="in-dublin", CreateBucketConfiguration=place)
        uri = location.get("uri", "{bucket}/match.mp4").format(bucket=f"s3://{local.bucket}")
        assert said in refused(ask, mediaSource={"s3Location": {**location, "uri": uri}})

    @pytest.mark.parametrize(
        ("model_id", "length_sec", "said"),
        [
            (P15, 3.9, UNPROCESSABLE),
            (P12, 3.9, UNPROCESSABLE),
            (P15, 4.0, None),
            (P12, 3_600.0, None),
            (P12, 3_601.0, "maximum is 3600 s"),
            (P15, 7_200.0, None),
            (P15, 7_201.0, "maximum is 7200 s"),
        ],
    )
    def test_a_video_has_a_least_and_a_greatest_length(self, local, ask, model_id, length_sec, said):
        local.synthetic_sec = length_sec
        if said is None:
            ask(model_id)
        else:
            assert said in refused(ask, model_id)

    def test_what_is_refused_is_free(self, local, ask):
        refused(ask, temperature=2)
        assert local.usage.pegasus_calls == 0


def properties(**fields):
    return {"type": "object", "properties": fields, "required": list(fields)}


SCENES = {"type": "array", "items": properties(startSec={"type": "number"}, what={"type": "string"})}


class TestJson:
    @pytest.mark.parametrize(
        "schema",
        [
            properties(answer={"type": "string"}, sure={"type": "boolean"}, count={"type": "integer", "maximum": 1}),
            properties(title={"type": "string"}, description={"type": "string"}, scenes=SCENES),
            properties(kind={"enum": ["goal", "other"]}, tags={"type": "array", "items": {"type": "string"}}),
            properties(note={"anyOf": [{"type": "null"}, {"type": "string"}]}, nothing={"type": "null"}),
            {**properties(first={"$ref": "#/$defs/scene"}), "$defs": {"scene": properties(end={"type": "integer"})}},
            {
                "$ref": "#/$defs/tree",
                "$defs": {"tree": properties(of={"type": "array", "items": {"$ref": "#/$defs/tree"}})},
            },
            {"type": ["string", "null"]},
            {"type": "array", "minItems": 1, "items": {"type": "number"}},
            {},
        ],
    )
    @pytest.mark.parametrize("model_id", [P15, P12])
    def test_the_message_is_json_that_is_valid(self, ask, model_id, schema):
        answer = ask(model_id, responseFormat={"jsonSchema": schema})
        jsonschema.validate(json.loads(answer["message"]), schema)

    @pytest.mark.parametrize(
        "schema",
        [
            {**properties(answer={"type": "string"}), "additionalProperties": False},
            properties(answer={"type": "string", "maxLength": 10}),
            properties(answers={"type": "array", "items": properties(a={"type": "string", "title": "A"})}),
            {"type": "array", "minItems": 2, "items": {"type": "string"}},
            {"$schema": "https://json-schema.org/draft/2020-12/schema"},
            {"oneOf": [{"type": "string"}]},
            {"name": "answer", "schema": {"type": "object"}},
            {"type": "strin"},
            {"$ref": "#/$defs/missing"},
            {"$ref": "http://127.0.0.1:1/schema.json"},
            {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}},
        ],
    )
    def test_a_schema_that_is_not_taken_makes_the_video_unprocessable(self, ask, schema):
        assert refused(ask, responseFormat={"jsonSchema": schema}) == UNPROCESSABLE

    def test_a_limit_cuts_in_the_middle(self, ask):
        schema = properties(scenes=SCENES)
        answer = ask(P12, responseFormat={"jsonSchema": schema}, maxOutputTokens=20)
        assert answer["stopReason"] == "length"
        with pytest.raises(ValueError):
            json.loads(answer["message"])
        assert ask(P12, responseFormat={"jsonSchema": schema})["stopReason"] == "stop"


class TestSegments:
    def test_each_definition_has_segments_over_the_whole_video(self, segment):
        kinds = ("string", "boolean", "number", "integer")
        fields = [
            *({"name": kind, "type": kind} for kind in kinds),
            {"name": "tags", "type": "array", "items": {"type": "string"}},
            {"name": "mood", "type": "string", "enum": ["calm", "tense"]},
            {"name": "begins", "type": "timestamp", "format": "hh:mm:ss"},
            {"name": "end_at", "type": "timestamp", "format": "hh:mm:ss.fff"},
        ]
        answer = segment(SUMMARY, {"id": "plays", "description": "Plays", "fields": fields})
        assert (answer["definition_errors"], answer["stopReason"]) == ([], "stop")
        times = [(s["definition_id"], s["start_sec"], s["end_sec"]) for s in answer["segments"]]
        assert times == [(name, start, start + 6.0) for name in ("scenes", "plays") for start in (0.0, 6.0)]
        last = answer["segments"][-1]
        assert [type(last[kind]) for kind in kinds] == [str, bool, float, int]
        assert (last["mood"], last["begins"], last["end_at"]) == ("calm", "00:00:06", "00:00:12.000")
        assert last["tags"] and all(isinstance(tag, str) for tag in last["tags"])
        assert isinstance(answer["segments"][0]["summary"], str)

    @pytest.mark.parametrize(
        ("lengths", "edges"),
        [
            ({}, [0, 6, 12]),
            ({"max_segment_duration": 4}, [0, 3, 6, 9, 12]),
            ({"min_segment_duration": 7}, [0, 12]),
            ({"start_time": 2, "end_time": 9.5}, [2, 8, 9.5]),
        ],
    )
    def test_segments_are_as_long_as_asked(self, segment, lengths, edges):
        found = segment(**lengths)["segments"]
        assert [found[0]["start_sec"], *(s["end_sec"] for s in found)] == edges

    @pytest.mark.parametrize(
        ("definition", "said"),
        [
            ({"id": "a"}, "required key [description]"),
            ({**SUMMARY, "fields": [{"name": "start_time", "type": "string"}]}, "reserved"),
            ({**SUMMARY, "fields": [{"name": "a", "type": "time_array"}]}, "#/segment_definitions/0/fields/0/type"),
            ({**SUMMARY, "fields": [{"name": "a", "type": "array"}]}, "required key [items]"),
            ({**SUMMARY, "time_ranges": []}, "extraneous key [time_ranges]"),
        ],
    )
    def test_a_definition_that_breaks_the_contract_is_refused(self, segment, definition, said):
        assert said in refused(segment, definition)

    def test_what_is_between_definitions_is_checked_too(self, segment):
        assert "unique" in refused(segment, SUMMARY, SUMMARY)
        assert "at least min" in refused(segment, min_segment_duration=5, max_segment_duration=4)
        assert "expected maximum item count: 20" in refused(segment, *({**SUMMARY, "id": str(n)} for n in range(21)))
        assert "extraneous key [inputPrompt]" in refused(segment, inputPrompt="a")


class TestStream:
    def test_chunks_have_no_reason_and_the_last_has_the_count(self, local, ask, stream):
        chunks = stream()
        assert {chunk["stopReason"] for chunk in chunks[:-1]} == {""}
        assert "".join(chunk["message"] for chunk in chunks) == ask()["message"]
        last = chunks[-1]
        assert (last["message"], last["stopReason"]) == ("", "stop")
        metrics = last["amazon-bedrock-invocationMetrics"]
        assert metrics["inputTokenCount"] == 0
        assert metrics["outputTokenCount"] * 2 == local.usage.pegasus_output_tokens

    def test_a_limit_ends_it(self, stream):
        chunks = stream(P12, maxOutputTokens=5)
        assert (chunks[-1]["stopReason"], chunks[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"]) == (
            "length",
            5,
        )

    def test_segments_are_not_streamed(self, bedrock, source):
        body = {"analysis_mode": "time_based_metadata", "mediaSource": source, "segment_definitions": [SUMMARY]}
        call = bedrock.client.invoke_model_with_response_stream
        assert "not supported" in refused(call, modelId=P15, body=json.dumps(body))

    def test_it_breaks_off_or_ends_with_an_error(self, local, stream):
        local.faults = [Fault("InvokeModelWithResponseStream", drop="mid-body")]
        with pytest.raises(ProtocolError):
            stream()
        broken = event_stream.chunk({"message": "A ", "stopReason": ""})
        broken += event_stream.exception("modelStreamErrorException", "so it is")
        local.faults = [Fault("InvokeModelWithResponseStream", body=broken)]
        with pytest.raises(EventStreamError, match=r"modelStreamErrorException.*so it is"):
            stream()
        local.faults = [Fault("InvokeModelWithResponseStream", error="ModelStreamErrorException")]
        with pytest.raises(ClientError, match="ModelStreamErrorException"):
            stream()


class TestAnswers:
    def test_the_same_bytes_show_the_same(self, local, bedrock, ask):
        again = bedrock.s3_source(local.put(b"a video", "again.mp4"))
        other = bedrock.s3_source(local.put(b"another video", "other.mp4"))
        inline = {"base64String": base64.b64encode(b"a video").decode()}
        first = ask()["message"]
        assert first == ask(mediaSource=again)["message"] == ask(mediaSource=inline)["message"]
        assert first != ask(mediaSource=other)["message"]

    @pytest.mark.parametrize(
        ("model_id", "finish_reason", "key"),
        [(P15, True, "stopReason"), (P12, False, "stopReason"), (P12, True, "finishReason")],
    )
    def test_the_reason_has_two_spellings(self, local, ask, stream, model_id, finish_reason, key):
        local.finish_reason = finish_reason
        assert ask(model_id)[key] == stream(model_id)[-1][key] == "stop"

    def test_an_answer_can_be_changed(self, local, ask, segment):
        local.mutate_answer = lambda answer: {**answer, "message": "```json\n{}\n```"}
        assert ask()["message"] == "```json\n{}\n```"
        local.mutate_answer = lambda answer: {**answer, "message": "word " * 600}
        assert ask(maxOutputTokens=512)["stopReason"] == "length"
        errors = [{"id": "scenes", "error": "no"}]
        local.mutate_answer = lambda answer: {**answer, "segments": [], "definition_errors": errors}
        assert segment()["definition_errors"] == errors

    def test_seconds_and_tokens_are_counted(self, local, bedrock, source, ask, segment):
        body = {"mediaSource": source, "inputPrompt": "What happens?"}
        headers = bedrock.client.invoke_model(modelId=P15, body=json.dumps(body))["ResponseMetadata"]["HTTPHeaders"]
        tokens = int(headers["x-amzn-bedrock-output-token-count"])
        assert headers["x-amzn-bedrock-input-token-count"] == "0"
        usage = local.usage
        assert (usage.pegasus_calls, usage.pegasus_sec, usage.pegasus_output_tokens) == (1, 12.0, tokens)
        assert usage.pegasus_usd == pytest.approx(12 * 0.00049 + tokens * 7.5e-6)
        ask(start_time=2, end_time=5)
        segment(SUMMARY, {**SUMMARY, "id": "more"})
        assert usage.pegasus_sec == 12.0 + 3.0 + 24.0

    def test_a_reply_that_is_lost_is_counted(self, local, ask):
        local.faults = [Fault("InvokeModel", drop="after", when=lambda call: "pegasus" in call.model_id)]
        with pytest.raises(Exception, match="Connection was closed"):
            ask()
        assert local.usage.pegasus_calls == 1

    @pytest.mark.parametrize("inline", [True, False])
    def test_a_real_clip_shows_what_it_shows(self, local, bedrock, ask, inline):
        local.synthetic_sec = None
        data = CLIP.read_bytes()
        clip = {"base64String": base64.b64encode(data).decode()} if inline else bedrock.s3_source(local.put(data, "a"))
        message = ask(mediaSource=clip)["message"]
        assert "black and white" in message and "with motion" in message

    def test_a_real_window_shows_what_is_in_it(self, local, bedrock, ask):
        local.synthetic_sec = None
        source = bedrock.s3_source(local.put(CLIP.read_bytes(), "a.mp4"))
        schema = properties(scenes=SCENES)
        answer = ask(mediaSource=source, start_time=2, end_time=5, responseFormat={"jsonSchema": schema})
        assert [scene["startSec"] for scene in json.loads(answer["message"])["scenes"]] == [2.0]
        assert local.usage.pegasus_sec == 3.0
        assert "within the video, which lasts 8.00 s" in refused(ask, mediaSource=source, start_time=10)

    @pytest.mark.parametrize("data", [b"not a video", (files("marengo_local") / "reel" / "cat.jpg").read_bytes()])
    def test_what_is_no_video_is_unprocessable(self, local, bedrock, ask, data):
        local.synthetic_sec = None
        assert refused(ask, mediaSource=bedrock.s3_source(local.put(data, "a.mp4"))) == UNPROCESSABLE
