"""TwelveLabs Pegasus as a source of words: what users set, and descriptions of files, each paid for once."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bedrock_marengo import instrumentation
from bedrock_marengo.aws.cancellation import cancel_scope
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.aws.parallel import in_order
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.contract.moments import FileRange
from bedrock_marengo.contract.payloads import Body
from bedrock_marengo.errors import ConfigurationError, InputError, MarengoError, OutputError, ServiceError
from bedrock_marengo.media.containers import has_av
from bedrock_marengo.s3.claims import claimed
from bedrock_marengo.s3.object_version import SourceIdentity
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.validation import is_int, short_repr
from bedrock_marengo.words.asking import MORE, TRIES, Asker, check_call
from bedrock_marengo.words.descriptions import Description, Descriptions, clips_of
from bedrock_marengo.words.parts import HAIR_SEC, LEAST_SEC, MARGIN_SEC
from bedrock_marengo.words.parts import Part as SentPart
from bedrock_marengo.words.pegasus_calls import AT_ONCE
from bedrock_marengo.words.pegasus_contract import (
    MIN_SEC,
    PegasusModel,
    Reply,
    find_pegasus,
    general_body,
    most_tokens,
    segments_body,
    with_extra,
)
from bedrock_marengo.words.record import RecordFolder, WordsRecord, iter_records, words_fingerprint
from bedrock_marengo.words.sources import Part, Parts, Service, WordsFile

__all__ = ["Pegasus", "PegasusSource", "iter_described"]

PROMPT = (
    "Describe in one or two plain sentences what is seen: who or what is there, what happens, and where. Name text "
    "that can be read in the picture. No introduction, no times."
)
TOKENS: Mapping[str, int] = {"video": 8192, "segment": 512}
"""The limits of an answer about a whole video, and about one clip. Ours: 0.06 and 0.004 USD at most."""
FILES_AT_ONCE = 64
"""Most of these wait for the segments of their file."""
_PER = ("video", "segment")
_CLIPS = "clips/"
_CLAIM = "claim.json"


@dataclass(frozen=True, slots=True)
class Pegasus:
    """Have TwelveLabs Pegasus describe what is seen in videos: pass it as ``descriptions=``.

    The descriptions are kept under ``output_s3_uri`` and found again, so each version of a file is paid for once. A
    call has no token of its own: one that is in flight when the process dies may be paid for twice.

    Args:
        model: "1.5" or "1.2", the ID of an inference profile, or an ARN.
        prompt: what to say of each segment or clip.
        per: "video" asks once for a whole video, of up to 2 hours, and gets segments with times, which are joined to
            Marengo's by overlap: Pegasus 1.5. "segment" sends a clip for each of Marengo's segments, cut with PyAV
            (extra ``media``), of any video. Segments of less than 4 s share a clip. Default: "video" for 1.5.
        max_tokens: the most tokens of an answer. Default: 8,192 about a video, 512 about a clip. An answer that is cut
            off is thrown away and asked for again with more, twice at most; each is a call that is billed.
        temperature: 0 to 1. Default: the service's, 0.2.
        extra: fields for the request as the service names them. They replace ours; None leaves a field out.
        invoke_model_id: the ID that InvokeModel uses instead of the region's default.
        calls_at_once: the most calls in flight.

    Raises:
        ConfigurationError: A value is not valid, or the version can't describe a whole video.
        InputError: ``extra`` is not a mapping.
    """

    model: str = "1.5"
    prompt: str = PROMPT
    per: Literal["video", "segment"] | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Any] | None = None
    invoke_model_id: str | None = None
    calls_at_once: int = AT_ONCE

    def __post_init__(self) -> None:
        version, _ = find_pegasus(self.model)
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise ConfigurationError("expected a text that is not empty.", setting="prompt", value=self.prompt)
        if self.per not in (None, *_PER):
            raise ConfigurationError("expected 'video' or 'segment'.", setting="per", value=self.per)
        if self.per == "video" and not version.timed:
            raise ConfigurationError(
                f"Pegasus {version.version} can't return segments with times: use {{per}} or {{model}}.",
                setting="per",
                value=self.per,
                remedy={"per": "segment", "model": "1.5"},
            )
        check_call(version, self.max_tokens, self.temperature, self.extra)
        if not is_int(self.calls_at_once):
            raise ConfigurationError(
                "expected a whole number, 1 or more.", setting="calls_at_once", value=self.calls_at_once
            )

    def __hash__(self) -> int:
        return hash(json.dumps(self.canonical(), sort_keys=True))

    @property
    def version(self) -> PegasusModel:
        """What ``model`` names."""
        return find_pegasus(self.model)[0]

    @property
    def way(self) -> Literal["video", "segment"]:
        """``per``, or its default for the version."""
        return self.per or ("video" if self.version.timed else "segment")

    def canonical(self) -> dict[str, Any]:
        """What changes the words: model, prompt, way, temperature and the user's own fields."""
        extra = None if self.extra is None else json.loads(json.dumps(self.extra, sort_keys=True, default=short_repr))
        named = {"model": self.version.model_id, "prompt": self.prompt, "per": self.way}
        return {**named, "temperature": self.temperature, "extra": extra}

    def open(self, parts: Parts) -> PegasusSource:
        """The source for one client in one process."""
        return PegasusSource(self, parts)


class PegasusSource:
    """What is seen in files, by Pegasus.

    Args:
        settings: the user's.
        parts: the client's.
    """

    part: Part = "seen"
    service: Service = "pegasus"
    at_once = FILES_AT_ONCE

    def __init__(self, settings: Pegasus, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._model = settings.version
        self._invoke_id = settings.invoke_model_id or find_pegasus(settings.model)[1]
        self._asker = Asker.of(
            parts.aws,
            parts.objects,
            parts.limiter,
            parts.output_s3_uri,
            parts.prices,
            at_once=settings.calls_at_once,
        )

    # What it takes, what it costs.

    def takes(self, media: Media) -> bool:
        """Whether a file is a video.

        Raises:
            InputError: Clips can't be cut, because PyAV is not installed.
        """
        if media.kind != "video":
            return False
        if self._settings.way == "segment" and not has_av():
            raise InputError(
                f"Clips of {media.name} can't be cut: pip install 'bedrock-marengo[media]', or use per='video' of "
                "Pegasus 1.5. Nothing was started for its words."
            )
        return True

    def fingerprint(self, source: SourceIdentity) -> str:
        """64 hex digits over the file's version and the settings."""
        return words_fingerprint(self.service, self._settings.canonical(), source)

    def price(self, length_sec: float | None) -> float | None:
        """US dollars at most, without answers that are cut off and asked for again; None if the length is unknown."""
        if length_sec is None:
            return None
        is_video = self._settings.way == "video"
        # Ranges have at least 4 s, but for a last one, and each clip may be longer than its range.
        clips = 1 if is_video else math.floor(length_sec / (MIN_SEC - HAIR_SEC)) + 1
        seconds = length_sec if is_video else length_sec + LEAST_SEC + clips * (LEAST_SEC - MIN_SEC + MARGIN_SEC)
        body = self._body(self._tokens)
        return self._asker.usd(seconds, body, clips * most_tokens(self._model, body))

    @property
    def _tokens(self) -> int:
        return int(self._settings.max_tokens or 0) or TOKENS[self._settings.way]

    def _body(self, tokens: int) -> Body:
        own = self._settings
        how: dict[str, Any] = {"max_tokens": tokens, "temperature": own.temperature}
        body = segments_body(self._model, own.prompt, **how) if own.way == "video" else general_body(own.prompt, **how)
        return with_extra(body, own.extra)

    # The words.

    def is_final(self, source: SourceIdentity) -> bool:
        """Whether our record holds the descriptions of the whole file."""
        return self.find(source) is not None

    def find(self, source: SourceIdentity) -> Descriptions | None:
        """The descriptions of the whole file; None if there are none yet, or only of a part of it."""
        found = self._folder(source).read()
        done = found[0].done if found else None
        return _read(done) if done and done.get("whole") else None

    def make(self, file: WordsFile) -> Descriptions:
        """The descriptions of a file: found, or asked for now, by one process at a time.

        Raises:
            BudgetError: They would cost too much. What was asked before is kept.
            ServiceError: AWS refused, or an answer was lost.
            OutputError: The answer about a whole video can't be used.
        """
        token = self._parts.limiter.token()
        with cancel_scope(token):
            folder = self._folder(file.source)
            # Before the claim: others need not wait for this process's job.
            clips = clips_of(file.segments.result()) if self._settings.way == "segment" else None
            if not file.force and (done := _complete(folder, clips)) is not None:
                return done
            with claimed(self._parts.objects, folder.prefix + _CLAIM, token):
                if not file.force and (done := _complete(folder, clips)) is not None:
                    return done
                found = self._video(file) if clips is None else self._clips(file, folder, clips)
                self._keep(folder, file, found)
                return found

    def _folder(self, source: SourceIdentity) -> RecordFolder:
        parts = self._parts
        return RecordFolder(parts.objects, parts.output_s3_uri, source, self.fingerprint(source))

    def _keep(self, folder: RecordFolder, file: WordsFile, found: Descriptions) -> None:
        """Write the record, and delete the answers that it holds now."""
        before = folder.read()
        is_whole = self._settings.way == "video" or file.is_whole
        record = WordsRecord(
            service=self.service,
            fingerprint=self.fingerprint(file.source),
            uri=file.source.uri,
            source=file.source.canonical(),
            settings=self._settings.canonical(),
            done={"whole": is_whole, "descriptions": found.as_rows()},
        )
        if folder.write(record, before[1] if before else None) is not None:
            objects = self._parts.objects
            # If they may not be deleted, they stay: what they say is in the record.
            with contextlib.suppress(ServiceError):
                objects.delete_many([item.uri for item in objects.list(folder.prefix + _CLIPS)])

    def _video(self, file: WordsFile) -> Descriptions:
        """One call for the whole video."""
        part = self._asker.sender.part(FileRange(_on_s3(file)), self._model, _length(file))
        reply = self._ask(part, file)
        reply.check(part.name)
        return Descriptions(Description(one.start_sec, one.end_sec, one.text) for one in reply.segments)

    def _clips(self, file: WordsFile, folder: RecordFolder, clips: list[tuple[float, float]]) -> Descriptions:
        """A call for each clip that is not described yet; each answer is kept as it comes."""
        known = [] if file.force else _known(self._parts.objects, folder)
        there = Descriptions(known)
        left = [clip for clip in clips if there.lacks(*clip)]
        length = _length(file) if left else None
        token = self._parts.limiter.token()

        def describe(clip: tuple[float, float]) -> Description:
            found = Description(*clip, self._clip_text(file, *clip, length))
            name = f"{folder.prefix}{_CLIPS}{round(clip[0] * 1000)}-{round(clip[1] * 1000)}.json"
            self._parts.objects.put(name, msgspec.json.encode(found))
            return found

        with CancellableExecutor(self._settings.calls_at_once, "marengo-pegasus", token) as executor:
            made = list(in_order(executor, describe, left, ahead=2 * self._settings.calls_at_once))
        return Descriptions([*known, *made])

    def _clip_text(self, file: WordsFile, start_sec: float, end_sec: float, length: float | None) -> str:
        """What is seen in a clip; "" if that can't be had, which is not asked again."""
        media = _on_s3(file)
        try:
            part = self._asker.sender.part(FileRange(media, start_sec, end_sec), self._model, length)
            reply = self._ask(part, file)
            reply.check(part.name)
        except MarengoError as error:
            if not _is_final(error):
                raise
            instrumentation.emit("clip undescribed", source=media.name, start_sec=start_sec, error=error)
            return ""
        return " ".join(reply.text.split())

    def _ask(self, part: SentPart, file: WordsFile) -> Reply:
        """One answer that is not cut off; the next try has more tokens."""
        tokens, sent, model = self._tokens, None, self._model
        for _ in range(TRIES):
            body = self._body(tokens)
            reply, _, sent = self._asker.call(part, body, model, self._invoke_id, file.costs, sent=sent)
            if not reply.is_cut:
                return reply
            tokens = min(tokens * MORE, model.max_tokens)
            if most_tokens(model, self._body(tokens)) == most_tokens(model, body):
                break
        raise OutputError(
            f"Pegasus' answer about {part.name} was cut off at {most_tokens(model, body):,} tokens, so it was thrown "
            "away. Ask for less in prompt, or use per='segment'."
        )


def iter_described(objects: S3Objects, output_s3_uri: str, source_uri: str) -> Iterator[Descriptions]:
    """All descriptions of a source that are kept, with any settings. Raises as ``iter_records``."""
    for record in iter_records(objects, output_s3_uri, source_uri):
        if record.service == PegasusSource.service and record.done:
            yield _read(record.done)


def _on_s3(file: WordsFile) -> Media:
    return Media(file.media.kind, uri=file.source.uri, size=file.source.size, etag=file.source.etag)


def _length(file: WordsFile) -> float | None:
    return file.costs.length_of(file.media, file.source) or file.costs.assume_duration_sec


def _is_final(error: MarengoError) -> bool:
    """Whether an error is about one clip, and would be the same again."""
    is_refused = (
        isinstance(error, ServiceError) and error.code == "ValidationException" and "Unprocessable" in str(error)
    )
    return isinstance(error, InputError | OutputError) or is_refused


def _complete(folder: RecordFolder, clips: list[tuple[float, float]] | None) -> Descriptions | None:
    """What the record holds, if nothing is missing."""
    found = folder.read()
    if found is None or not found[0].done:
        return None
    done = _read(found[0].done)
    return None if clips is not None and any(done.lacks(*clip) for clip in clips) else done


def _known(objects: Any, folder: RecordFolder) -> list[Description]:
    """The descriptions that earlier runs have paid for."""
    found = folder.read()
    rows = list(_read(found[0].done).found) if found and found[0].done else []
    for item in objects.list(folder.prefix + _CLIPS):
        try:
            rows.append(msgspec.json.decode(objects.get(item.uri)[0], type=Description))
        except msgspec.DecodeError:
            # Not ours: it is asked for.
            continue
    return list({(row.start_sec, row.end_sec): row for row in rows}.values())


def _read(done: Mapping[str, Any]) -> Descriptions:
    try:
        return Descriptions.of_rows(done.get("descriptions"))
    except msgspec.ValidationError as error:
        raise OutputError(
            f"A words.json of Pegasus can't be read: {error}. Describe the file again, with force=True."
        ) from None
