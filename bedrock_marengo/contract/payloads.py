"""(model, input) -> request body. Refuses what the service would refuse, before any call that costs."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from bedrock_marengo.contract.inputs import Segmentation, split_s3_uri
from bedrock_marengo.contract.models import KINDS, Kind, Model
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import is_number, reject_unknown, short_repr, valid_unicode

__all__ = ["BUCKET", "MediaRequest", "encode", "image", "inline", "multi_input", "s3_location", "text", "text_image"]

BODY_BYTES = 25_000_000
"""The whole body of InvokeModel, from botocore's service model and AWS's user guide."""

Location = dict[str, Any]
Body = dict[str, Any]

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
"""From botocore's service model of StartAsyncInvoke."""
_PLACEHOLDER = re.compile(r"<@([^<>]*)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaRequest:
    """The request for one video, audio file or image: checked once, then a body and a canonical form.

    What is left out (None) is left to the service. Options of other kinds are dropped, so that one setting works for
    a mixed bucket; an option that no kind has is refused.
    """

    model: Model
    kind: Kind
    options: Sequence[str] | None = None
    scopes: Sequence[str] | None = None
    segmentation: Segmentation | None = None
    start_sec: float | None = None
    end_sec: float | None = None
    fused: bool | Literal["only"] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", self._checked_options())
        object.__setattr__(self, "scopes", self._checked_scopes())
        if not KINDS[self.kind].timed:
            return
        self._check_fused()
        self._check_segmentation()
        self._check_range()

    def body(self, location: Location) -> Body:
        """The request's body: what was asked and nothing else."""
        if not KINDS[self.kind].timed:
            return _wrap(self.model, self.kind, {"mediaSource": location})
        fields: Body = {"mediaSource": location}
        if self.start_sec is not None:
            fields["startSec"] = float(self.start_sec)
        if self.end_sec is not None:
            start = self.start_sec or 0.0 if self.model.range_end == "lengthSec" else 0.0
            fields[self.model.range_end] = float(self.end_sec - start)
        fields |= self._segmentation_fields()
        if self.options is not None and len(self.model.options[self.kind]) > 1:
            fields["embeddingOption"] = list(self.options)
        if self.fused:
            fields["embeddingType"] = [
                *(["separate_embedding"] if self.fused is True else []),
                "fused_embedding",
            ]
        if self.scopes is not None and len(self.model.scopes) > 1:
            fields["embeddingScope"] = list(self.scopes)
        return _wrap(self.model, self.kind, fields)

    def canonical(self) -> dict[str, Any]:
        """Every option after defaults: equal requests have an equal canonical form. Part of the fingerprint."""
        rules = KINDS[self.kind]
        if not rules.timed:
            return {"kind": self.kind}
        cut = self.segmentation
        if cut is None and rules.cut == "dynamic":
            cut = Segmentation.dynamic(self.model.segmentation["dynamic"].default_sec)
        return {
            "kind": self.kind,
            "options": list(self.options or self.model.options[self.kind]),
            "scopes": list(self.scopes or self.model.scopes),
            "segmentation": {"method": cut.method, "seconds": cut.seconds} if cut else {"method": "even"},
            "start_sec": float(self.start_sec or 0.0),
            "end_sec": None if self.end_sec is None else float(self.end_sec),
            "fused": self.fused,
        }

    def _checked_options(self) -> tuple[str, ...] | None:
        if self.options is None:
            return None
        asked = _names(self.options, "options")
        known = dict.fromkeys(option for options in self.model.options.values() for option in options)
        for option in asked:
            if option not in known:
                hint = " For fused vectors set {fused}." if option == "fused" and self.model.fused else ""
                raise InputError(
                    f"Marengo {self.model.version} has no option {option!r}. Expected one or more of "
                    f"{', '.join(known)}.{hint}",
                    setting="options",
                    remedy={"fused": True} if hint else None,
                )
        if not KINDS[self.kind].timed:
            return None
        options = tuple(option for option in self.model.options[self.kind] if option in asked)
        if not options:
            raise InputError(
                f"options={list(asked)} do not apply to {self.kind}: Marengo {self.model.version} expects "
                f"{', '.join(self.model.options[self.kind])}.",
                setting="options",
            )
        return options

    def _checked_scopes(self) -> tuple[str, ...] | None:
        if self.scopes is None:
            return None
        asked = _names(self.scopes, "scopes")
        for scope in asked:
            if scope not in self.model.scopes:
                raise InputError(
                    f"Marengo {self.model.version} has no scope {scope!r}. Expected one or more of "
                    f"{', '.join(self.model.scopes)}.",
                    setting="scopes",
                )
        return tuple(scope for scope in self.model.scopes if scope in asked)

    def _check_fused(self) -> None:
        # By identity: 1 == True, but would be another fingerprint.
        if not isinstance(self.fused, bool) and self.fused != "only":
            raise InputError("expected False, True or 'only'.", setting="fused", value=self.fused)
        if not self.fused:
            return
        if not self.model.fused:
            raise InputError(
                f"Marengo {self.model.version} has no fused vectors: fuse the ranks instead, or use {{model}}.",
                setting="fused",
                value=self.fused,
                remedy={"model": "3.0"},
            )
        if len(self.options or self.model.options[self.kind]) < 2:
            raise InputError(
                f"fused vectors need two options or more, but {self.kind} has only {', '.join(self.options or ())}.",
                setting="fused",
                value=self.fused,
            )

    def _check_segmentation(self) -> None:
        if self.segmentation is None:
            return
        if not isinstance(self.segmentation, Segmentation):
            raise InputError(
                "expected Segmentation.fixed(6) or Segmentation.dynamic(4).",
                setting="segmentation",
                value=self.segmentation,
            )
        rule = self.model.segmentation[self.segmentation.method]
        seconds, name = self.segmentation.seconds, f"Segmentation.{self.segmentation.method}"
        if self.kind not in rule.kinds:
            raise InputError(
                f"{name} is for {', '.join(rule.kinds)}, not for {self.kind}: use Segmentation.fixed.",
                setting="segmentation",
            )
        if not rule.min_sec <= seconds <= rule.max_sec or (rule.whole and seconds != int(seconds)):
            whole = " (whole number)" if rule.whole else ""
            raise InputError(
                f"{name}({seconds:g}): Marengo {self.model.version} expects {rule.min_sec:g} to {rule.max_sec:g} "
                f"seconds{whole}.",
                setting="segmentation",
            )

    def _check_range(self) -> None:
        for name, value in (("start_sec", self.start_sec), ("end_sec", self.end_sec)):
            if value is None:
                continue
            if not (is_number(value) and 0 <= value <= self.model.media_sec):
                raise InputError(f"expected 0 to {self.model.media_sec:g} seconds.", setting=name, value=value)
            object.__setattr__(self, name, float(value))
        if self.end_sec is None:
            return
        start = self.start_sec or 0.0
        least = self.segmentation.seconds if self.segmentation else self.model.segmentation["dynamic"].default_sec
        if self.end_sec < start + least:
            raise InputError(
                f"the range from {{start_sec}} is shorter than one segment ({least:g} s): widen the range or request "
                "shorter segments.",
                setting="end_sec",
                value=self.end_sec,
                remedy={"start_sec": start},
            )

    def _segmentation_fields(self) -> Body:
        cut = self.segmentation
        if cut is None:
            return {}
        rule = self.model.segmentation[cut.method]
        value = int(cut.seconds) if rule.whole else cut.seconds
        if self.model.nested:
            return {"segmentation": {"method": cut.method, cut.method: {rule.field: value}}}
        least = self.model.segmentation["dynamic"]
        if cut.method == "fixed" and self.kind in least.kinds and value < least.default_sec:
            # useFixedLengthSec must not be below minClipSec, which is 4 by default.
            return {rule.field: value, least.field: int(value)}
        return {rule.field: value}


def text(model: Model, words: str, *, truncate: Literal["end", "error"] = "end") -> Body:
    """A text's body. Lone surrogates, which UTF-8 can't encode, become U+FFFD.

    Raises:
        InputError: The text is empty or not a string.
    """
    fields: Body = {"inputText": _checked_text(words)}
    if truncate == "error" and model.text_truncate:
        fields["textTruncate"] = "none"
    return _wrap(model, "text", fields)


def image(model: Model, location: Location) -> Body:
    """An image's body."""
    return _wrap(model, "image", {"mediaSource": location})


def text_image(model: Model, words: str, location: Location) -> Body:
    """The body of a text and an image as one vector. 3.0."""
    _check_input(model, "text_image")
    return _wrap(model, "text_image", {"inputText": _checked_text(words), "mediaSource": location})


def multi_input(model: Model, words: str | None, locations: Mapping[str, Location] | Sequence[Location]) -> Body:
    """The body of several images, with a text that may place them by ``<@name>``, as one vector. 3.0.

    Raises:
        InputError: No image, too many, or a placeholder without an image of its name.
    """
    _check_input(model, "multi_input")
    if not 1 <= len(locations) <= model.multi_input_images:
        raise InputError(f"multi_input: expected 1 to {model.multi_input_images} images, got {len(locations)}.")
    named = isinstance(locations, Mapping)
    names = list(locations) if isinstance(locations, Mapping) else [None] * len(locations)
    for name in names if named else ():
        if not isinstance(name, str) or not name or re.search(r"[<>@]", name):
            raise InputError(f"{name!r} can't be an image's name: use a word without < > @, as in <@dog>.")
    placed = _PLACEHOLDER.findall(words) if isinstance(words, str) else []
    for name in placed:
        if name not in names:
            has = ", ".join(map(str, names)) if named else "none; pass a mapping of name to image"
            raise InputError(f"The text has <@{name}>, but no image has that name. Names: {has}.")
    for name in names if named and words is not None else ():
        if name not in placed:
            raise InputError(
                f"The text does not mention the image {name!r}: write <@{name}> in it, or pass a plain list."
            )
    values = locations.values() if isinstance(locations, Mapping) else locations
    # A name that no text places is refused by the service.
    sources = [
        ({"name": name} if name in placed else {}) | {"mediaType": "image"} | location
        for name, location in zip(names, values, strict=True)
    ]
    fields: Body = {"mediaSources": sources}
    if words is not None:
        fields = {"inputText": _checked_text(words), **fields}
    return _wrap(model, "multi_input", fields)


def inline(data: bytes) -> Location:
    """Media inside the body."""
    return {"base64String": base64.b64encode(data).decode("ascii")}


def s3_location(uri: str, bucket_owner: str) -> Location:
    """Media on S3: the URI raw, and the account that owns the bucket (Bedrock refuses requests without it).

    Raises:
        InputError: A bucket name that Bedrock does not accept, or a URI without a key.
    """
    bucket, key = split_s3_uri(uri)
    if not BUCKET.fullmatch(bucket) or not key:
        raise InputError(
            f"{short_repr(uri)} is not accepted by Bedrock: expected s3://bucket/key, with a bucket of 3 to 63 "
            "lower-case letters, digits, dots and hyphens. Copy media from older buckets to such a bucket."
        )
    return {"s3Location": {"uri": uri, "bucketOwner": bucket_owner}}


def encode(body: Body) -> bytes:
    """The body as bytes.

    Raises:
        InputError: Over the limit of InvokeModel, or a name that is not valid Unicode.
    """
    try:
        data = msgspec.json.encode(body)
    except UnicodeEncodeError:
        raise InputError("A name contains a lone surrogate, which JSON can't encode: rename it.") from None
    if len(data) > BODY_BYTES:
        raise InputError(
            f"The request has {len(data):,} bytes: InvokeModel accepts at most {BODY_BYTES:,}. Put the images on S3 "
            "and pass Media.from_s3(...), or send fewer or smaller images."
        )
    return data


def _wrap(model: Model, kind: str, fields: Body) -> Body:
    return {"inputType": kind, kind: fields} if model.nested else {"inputType": kind, **fields}


def _check_input(model: Model, kind: str) -> None:
    if kind not in model.sync_inputs:
        raise InputError(
            f"Marengo {model.version} has no {kind}: use {{model}}, or embed the text and the image separately.",
            remedy={"model": "3.0"},
        )


def _checked_text(words: str) -> str:
    if not isinstance(words, str):
        raise InputError(
            f"A text must be a string, not {type(words).__name__}: use image=, audio= or video= for media."
        )
    # numpy's strings can't be sent.
    words = str.__str__(words)
    if not words.strip():
        raise InputError("The text is empty, so it has no vector: leave it out, or pass at least one word.")
    return valid_unicode(words)


def _names(values: Sequence[str], field: str) -> tuple[str, ...]:
    # A string is a sequence of letters, but options="visual" means one option.
    many = isinstance(values, Iterable) and not isinstance(values, Mapping)
    names = (values,) if isinstance(values, str) else tuple(values) if many else ()
    if not names or not all(isinstance(name, str) for name in names):
        raise InputError("expected a list of names (strings); leave it out for all.", setting=field, value=values)
    return names


REQUEST_SETTINGS = ("options", "scopes", "segmentation", "start_sec", "end_sec", "fused")
"""The fields of ``MediaRequest`` that a user sets."""


def requests_by_kind(model: Model, where: str, settings: Mapping[str, Any]) -> Callable[[Kind], MediaRequest]:
    """The request for each kind of file.

    Raises:
        InputError: A setting that is valid for no kind. One that is valid for some is refused for files of the others,
            when their request is made.
    """
    reject_unknown(settings, REQUEST_SETTINGS, where)
    request = functools.cache(lambda kind: MediaRequest(model=model, kind=kind, **settings))
    refused: list[InputError] = []
    for kind in (kind for kind, rules in KINDS.items() if rules.timed):
        try:
            request(kind)
        except InputError as error:
            refused.append(error)
        else:
            return request
    raise refused[-1]
