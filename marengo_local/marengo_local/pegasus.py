"""TwelveLabs Pegasus on Bedrock: InvokeModel and its stream, answered from the stand-in's own content model."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np

from marengo_local.answers import answer_json, answer_text, segments
from marengo_local.contract import inline_bytes, refused, tokens
from marengo_local.contract.pegasus import PegasusModel, check_pegasus, check_video, unprocessable
from marengo_local.decoding import NotDecoded, describe_video
from marengo_local.embedding import cached, digest
from marengo_local.event_stream import EVENT_STREAM, chunk
from marengo_local.knobs import Knobs
from marengo_local.output import Vector
from marengo_local.storage import Storage, spooled
from marengo_local.usage import Usage

__all__ = ["Answer", "Pegasus"]

_DIMENSION: Final = 512
_SYNTHETIC_SCENE_SEC: Final = 6.0
_SYNTHETIC_NAMES: Final = ("dog", "car", "boat", "piano", "tree", "bicycle", "castle", "soccer ball", "lamp", "horse")
_SYNTHETIC_LOOKS: Final = ("red", "green", "blue", "white", "yellow", "brown", "grey")
# Characters of a chunk of the stream.
_PIECE: Final = 24
_UNNAMED_OUTPUT_TOKENS: Final = 4_096


class Answer(NamedTuple):
    """The body and the headers of a response."""

    body: bytes
    headers: Mapping[str, str] = {}


class Video(NamedTuple):
    """What is seen in a part of a video: its scenes, and a visual vector for each, or none for synthetic media."""

    duration_sec: float
    scenes: list[dict[str, Any]]
    vectors: list[Vector]


class Pegasus:
    """Answers requests, and counts what they cost. Calls take as long as decoding does: run them on a thread."""

    def __init__(self, knobs: Knobs, storage: Storage, usage: Usage) -> None:
        self._knobs = knobs
        self._storage = storage
        self._usage = usage

    def invoke(self, model: PegasusModel, body: Any, *, stream: bool) -> Answer:
        """The response, or the complete event stream; raises ServiceError."""
        check_pegasus(model, body)
        if stream and body.get("analysis_mode") == "time_based_metadata":
            raise refused("Streaming is not supported for the analysis_mode time_based_metadata.")
        video = self._video(model, body)
        answer = _answer(video, body)
        if self._knobs.mutate_answer is not None:
            answer = self._knobs.mutate_answer(answer)
        limit = body.get("maxOutputTokens", min(model.max_output_tokens, _UNNAMED_OUTPUT_TOKENS))
        answer, count, reason = _cut(answer, limit)
        start_sec = body.get("start_time", 0.0)
        billed_sec = min(video.duration_sec, body.get("end_time", math.inf)) - start_sec
        self._usage.add_pegasus(billed_sec * len(body.get("segment_definitions", [None])), count)
        key = "finishReason" if model.version == "1.2" and self._knobs.finish_reason else "stopReason"
        if stream:
            return _stream(answer["message"], key, reason, count)
        headers = {"X-Amzn-Bedrock-Input-Token-Count": "0", "X-Amzn-Bedrock-Output-Token-Count": str(count)}
        return Answer(json.dumps({**answer, key: reason}).encode(), headers)

    def _video(self, model: PegasusModel, body: Mapping[str, Any]) -> Video:
        source = body["mediaSource"]
        start_sec, end_sec = float(body.get("start_time", 0.0)), body.get("end_time")
        with self._open(model, source) as file:
            key = digest(file)
            if self._knobs.synthetic_sec is not None:
                check_video(model, body, self._knobs.synthetic_sec)
                return _synthetic(key, self._knobs.synthetic_sec, start_sec, end_sec)
            try:
                video = cached(("pegasus", key, start_sec, end_sec), lambda: _seen(model, file, start_sec, end_sec))
            except NotDecoded as error:
                if error.duration_sec is not None:
                    check_video(model, body, error.duration_sec)
                raise unprocessable() from error
        check_video(model, body, video.duration_sec)
        return video

    def _open(self, model: PegasusModel, source: Mapping[str, Any]) -> BinaryIO:
        if "base64String" in source:
            return spooled([inline_bytes(source)])
        uri = source["s3Location"]["uri"]
        self._storage.check_bucket(uri, source["s3Location"]["bucketOwner"])
        size = self._storage.describe(uri)[1]
        if size > model.max_media_bytes:
            raise refused(f"{uri} has {size} bytes; the maximum is {model.max_media_bytes}.")
        return self._storage.open(uri)


def _seen(model: PegasusModel, file: BinaryIO, start_sec: float, end_sec: float | None) -> Video:
    window = {"start_sec": start_sec, "end_sec": end_sec}
    duration_sec, scenes, rows = describe_video(file, _DIMENSION, model.max_media_sec, window)
    return Video(duration_sec, scenes, [row.vector for row in rows])


def _synthetic(seed: bytes, duration_sec: float, start_sec: float, end_sec: float | None) -> Video:
    """Scenes of a file that is not decoded: the same bytes always show the same."""
    last_sec = min(duration_sec, math.inf if end_sec is None else end_sec)
    count = max(1, math.ceil((last_sec - start_sec) / _SYNTHETIC_SCENE_SEC - 1e-9))
    edges = [*(start_sec + place * _SYNTHETIC_SCENE_SEC for place in range(count)), last_sec]
    scenes = []
    for place in range(count):
        drawn = hashlib.sha256(seed + str(edges[place]).encode()).digest()
        name = _SYNTHETIC_NAMES[drawn[0] % len(_SYNTHETIC_NAMES)]
        look = _SYNTHETIC_LOOKS[drawn[1] % len(_SYNTHETIC_LOOKS)]
        times = {"start_sec": edges[place], "end_sec": edges[place + 1]}
        scenes.append({**times, "names": [name], "looks": [look], "sounds": []})
    return Video(duration_sec, scenes, [])


def _answer(video: Video, body: Mapping[str, Any]) -> dict[str, Any]:
    if "segment_definitions" in body:
        lengths = body.get("min_segment_duration", 0.0), body.get("max_segment_duration", math.inf)
        found = segments(body["segment_definitions"], video.scenes, *lengths)
        return {"segments": found, "definition_errors": []}
    if "responseFormat" in body:
        value = answer_json(body["responseFormat"]["jsonSchema"], video.scenes)
        return {"message": json.dumps(value, ensure_ascii=False)}
    prompt = body["inputPrompt"] if "inputPrompt" in body else body["prompt_v2"]["input_text"]
    return {"message": answer_text(video.scenes, _best(prompt, video.vectors))}


def _best(prompt: str, vectors: list[Vector]) -> int:
    """The number of the scene that suits a prompt best."""
    if not vectors:
        return 0
    from marengo_local.content import ContentModel

    return int(np.argmax(np.stack(vectors) @ ContentModel(_DIMENSION).text(prompt)))


def _cut(answer: dict[str, Any], limit: int) -> tuple[dict[str, Any], int, str]:
    """The answer within its limit, its tokens, and why it ends. A message is cut wherever it is, even in JSON."""
    if "message" in answer:
        message = tokens.cut(answer["message"], limit)
        reason = "stop" if message == answer["message"] else "length"
        return {**answer, "message": message}, tokens.count(message), reason
    kept: list[Any] = []
    count = 0
    for segment in answer["segments"]:
        size = tokens.count(json.dumps(segment))
        if count + size > limit:
            return {**answer, "segments": kept}, count, "length"
        kept.append(segment)
        count += size
    return answer, count, "stop"


def _stream(message: str, key: str, reason: str, count: int) -> Answer:
    """Chunks without a reason, then one without text."""
    pieces = [message[place : place + _PIECE] for place in range(0, len(message), _PIECE)]
    metrics = {"inputTokenCount": 0, "outputTokenCount": count, "invocationLatency": 1, "firstByteLatency": 1}
    last = {"message": "", key: reason, "amazon-bedrock-invocationMetrics": metrics}
    events = [chunk({"message": piece, key: ""}) for piece in pieces] + [chunk(last)]
    headers = {"Content-Type": EVENT_STREAM, "X-Amzn-Bedrock-Content-Type": "application/json"}
    return Answer(b"".join(events), headers)
