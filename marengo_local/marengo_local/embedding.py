"""Turns a validated request into vectors: with the content model, or generated from a hash."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar

import numpy as np

from marengo_local.contract import (
    Model,
    check_duration,
    check_image,
    check_image_bytes,
    fields,
    inline_bytes,
    media_sources,
    refused,
    tokens,
)
from marengo_local.decoding import NotDecoded, embed_media
from marengo_local.output import OutputRow, Vector, response_json
from marengo_local.storage import Storage, spooled

if TYPE_CHECKING:
    from marengo_local.content import ContentModel

__all__ = ["Embedder", "MediaTask", "cached", "digest"]

Result = TypeVar("Result")


@dataclass(frozen=True)
class MediaTask:
    """A request for a video or audio file, in one form for both versions of Marengo."""

    kind: str
    options: tuple[str, ...]
    scopes: tuple[str, ...]
    separate: bool
    fused: bool
    start_sec: float
    end_sec: float | None
    fixed_sec: float | None
    min_clip_sec: float


class Embedder:
    """Embeds the input of requests. `synthetic_sec` returns the length of synthetic media, or None to decode files."""

    def __init__(self, storage: Storage, synthetic_sec: Callable[[], float | None]) -> None:
        self._storage = storage
        self._synthetic_sec = synthetic_sec

    def text_response(self, model: Model, text: str) -> bytes:
        """The response body of InvokeModel for a text."""
        synthetic = self._synthetic_sec() is not None
        return _text_response(model.dimension, tokens.cut(text, model.max_text_tokens), synthetic)

    def rows(self, model: Model, body: Mapping[str, Any]) -> list[OutputRow]:
        """The rows of output.json for any input."""
        given = fields(model, body)
        if body["inputType"] not in model.media_options:
            return [OutputRow(self.vector(model, body))]
        task = _TASK_PARSERS[model.version](model, body["inputType"], given)
        synthetic_sec = self._synthetic_sec()
        if synthetic_sec is not None:
            return _synthetic_rows(model, task, self._source_id(model, given["mediaSource"]), synthetic_sec)
        with self._open(model, given["mediaSource"]) as media:
            key = (model.dimension, digest(media), task)
            return cached(key, lambda: _content_rows(model, task, media))

    def vector(self, model: Model, body: Mapping[str, Any]) -> Vector:
        """The vector of a text, an image, or a combination of both."""
        given = fields(model, body)
        text = tokens.cut(given["inputText"], model.max_text_tokens) if given.get("inputText") else None
        images = [(source.get("name"), self._image(model, source)) for source in media_sources(given)]
        kind = body["inputType"]
        digests = tuple((name, hashlib.sha256(data).hexdigest()) for name, data in images)
        if self._synthetic_sec() is not None:
            return _random_vector(model.dimension, kind, text, digests)
        return cached((kind, model.dimension, text, digests), lambda: _content_vector(model, kind, text, images))

    def _image(self, model: Model, source: Mapping[str, Any]) -> bytes:
        if "base64String" in source:
            return inline_bytes(source)
        uri = source["s3Location"]["uri"]
        check_image_bytes(model, self._storage.describe(uri)[1])
        with self._storage.open(uri) as file:
            return file.read()

    def _open(self, model: Model, source: Mapping[str, Any]) -> BinaryIO:
        if "base64String" in source:
            return spooled([inline_bytes(source)])
        uri = source["s3Location"]["uri"]
        size = self._storage.describe(uri)[1]
        if size > model.max_media_bytes:
            raise refused(f"{uri} has {size} bytes; the maximum is {model.max_media_bytes}.")
        return self._storage.open(uri)

    def _source_id(self, model: Model, source: Mapping[str, Any]) -> str:
        if "base64String" in source:
            return hashlib.sha256(inline_bytes(source)).hexdigest()
        return f"{source['s3Location']['uri']} {self._storage.describe(source['s3Location']['uri'])[0]}"


def digest(media: BinaryIO) -> bytes:
    """The SHA-256 of an open file."""
    sha256 = hashlib.sha256()
    while piece := media.read(1024 * 1024):
        sha256.update(piece)
    media.seek(0)
    return sha256.digest()


def _task_3_0(model: Model, kind: str, given: Mapping[str, Any]) -> MediaTask:
    segmentation = given.get("segmentation", {})
    fixed = segmentation.get("fixed", {}).get("durationSec", 6) if "fixed" in segmentation else None
    types = given.get("embeddingType", ["separate_embedding"])
    return MediaTask(
        kind=kind,
        options=tuple(given.get("embeddingOption", model.media_options[kind])),
        scopes=tuple(given.get("embeddingScope", ("clip", "asset"))),
        separate="separate_embedding" in types,
        fused="fused_embedding" in types,
        start_sec=float(given.get("startSec", 0)),
        end_sec=float(given["endSec"]) if "endSec" in given else None,
        fixed_sec=fixed,
        min_clip_sec=float(segmentation.get("dynamic", {}).get("minDurationSec", 4)),
    )


def _task_2_7(model: Model, kind: str, given: Mapping[str, Any]) -> MediaTask:
    start_sec = float(given.get("startSec", 0))
    asked = given.get("embeddingOption", model.media_options[kind])
    return MediaTask(
        kind=kind,
        options=tuple(option for option in asked if option in model.media_options[kind]),
        scopes=("clip",),
        separate=True,
        fused=False,
        start_sec=start_sec,
        end_sec=start_sec + given["lengthSec"] if "lengthSec" in given else None,
        fixed_sec=given.get("useFixedLengthSec"),
        min_clip_sec=float(given.get("minClipSec", 4)),
    )


_TASK_PARSERS: Final = {"3.0": _task_3_0, "2.7": _task_2_7}


def _content_rows(model: Model, task: MediaTask, media: BinaryIO) -> list[OutputRow]:
    asked = asdict(task)
    kind = asked.pop("kind")
    try:
        duration_sec, rows = embed_media(media, kind, model.dimension, model.max_media_sec, asked)
    except NotDecoded as error:
        if error.duration_sec is not None:
            _check_range(model, task, error.duration_sec)
        raise refused(f"The {kind} could not be decoded: {error}") from error
    _check_range(model, task, duration_sec)
    return rows


def _check_range(model: Model, task: MediaTask, duration_sec: float) -> None:
    check_duration(model, task.kind, duration_sec)
    end_sec = duration_sec if task.end_sec is None else task.end_sec
    # A client may have rounded the duration.
    if end_sec > duration_sec + 0.05 or task.start_sec >= duration_sec:
        raise refused(
            f"The range {task.start_sec:g} to {end_sec:g} s goes beyond the {task.kind}, "
            f"which lasts {duration_sec:.2f} s."
        )


def _content_vector(model: Model, kind: str, text: str | None, images: list[tuple[str | None, bytes]]) -> Vector:
    from marengo_local.content import UndecodableMedia

    content = _content(model.dimension)
    embed: Mapping[str, Callable[[], Vector]] = {
        "text": lambda: content.text(text or ""),
        "image": lambda: content.image(images[0][1]),
        "text_image": lambda: content.text_image(text or "", images[0][1]),
        "multi_input": lambda: content.multi_input(text, images),
    }
    try:
        for _, data in images:
            check_image(*content.image_outline(data))
        return embed[kind]()
    except UndecodableMedia as error:
        raise refused(f"The image could not be decoded: {error}") from error


@cache
def _content(dimension: int) -> ContentModel:
    from marengo_local.content import ContentModel

    return ContentModel(dimension)


@lru_cache(maxsize=8_192)
def _text_response(dimension: int, text: str, synthetic: bool) -> bytes:
    return response_json(_random_vector(dimension, "text", text, ()) if synthetic else _content(dimension).text(text))


def _synthetic_rows(model: Model, task: MediaTask, source: str, duration_sec: float) -> list[OutputRow]:
    """Rows for a file that is not decoded; each source and option gets its own vectors."""
    end_sec = min(duration_sec, task.end_sec or math.inf)
    length_sec = task.fixed_sec or (6.0 if task.kind == "video" else 10.0)
    count = max(1, math.ceil((end_sec - task.start_sec) / length_sec - 1e-9))
    starts = [task.start_sec + number * length_sec for number in range(count)]
    clips = [("clip", start, min(start + length_sec, end_sec)) for start in starts]
    spans = [span for span in (*clips, ("asset", task.start_sec, end_sec)) if span[0] in task.scopes]
    options = (*(task.options if task.separate else ()), *(("fused",) if task.fused else ()))
    return [
        OutputRow(_random_vector(model.dimension, source, option, span), option, *span)
        for option in options
        for span in spans
    ]


def _random_vector(dimension: int, *seed: Any) -> Vector:
    # With the dimension, so that the vectors of two versions have nothing in common.
    digest = hashlib.sha256(repr((dimension, *seed)).encode()).digest()
    vector = np.random.default_rng(int.from_bytes(digest[:8])).standard_normal(dimension, dtype=np.float32)
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


_CACHE: Final[OrderedDict[Hashable, Any]] = OrderedDict()
_CACHE_SIZE: Final = 256
_CACHE_LOCK: Final = threading.Lock()


def cached(key: Hashable, compute: Callable[[], Result]) -> Result:
    """The result for the same content and parameters, computed once in this process."""
    with _CACHE_LOCK:
        if key in _CACHE:
            _CACHE.move_to_end(key)
            found: Result = _CACHE[key]
            return found
    result = compute()
    with _CACHE_LOCK:
        _CACHE[key] = result
        if len(_CACHE) > _CACHE_SIZE:
            _CACHE.popitem(last=False)
    return result
