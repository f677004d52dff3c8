"""What each Marengo version is: IDs per region, dimension, limits, options, lifecycle. Data only.

Source of each constant: AWS's user guide pages "TwelveLabs Marengo Embed 3.0" and "... 2.7" and TwelveLabs'
"Create embeddings" page, read in November 2026. A new version of Marengo is a new row in ``MODELS``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

from bedrock_marengo.errors import ConfigurationError

__all__ = [
    "KINDS",
    "MODELS",
    "UNTIMED_TRACKS",
    "Kind",
    "KindRules",
    "Model",
    "SegmentationRule",
    "find_model",
    "kinds_in_words",
]

Kind = Literal["video", "audio", "image"]

MB = 1024**2
GB = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class KindRules:
    """What a kind of media is and how it is embedded, whatever the model."""

    suffixes: tuple[str, ...]
    magic: tuple[tuple[int, bytes], ...]
    """(offset, bytes there): how files of this kind begin; ``formats.py`` knows more."""
    timed: bool
    """Whether it has a duration: segments, a range, clips. Otherwise it is one segment, from 0.0 to 0.0."""
    synchronous: bool
    """Whether InvokeModel embeds it; otherwise a job does."""
    captions: bool
    """Whether captions belong to it."""
    frames: bool
    """Whether there are pictures in it."""
    track: str | None
    """The track of its rows that name no embedding option; None if every row must name one."""
    cut: Literal["dynamic", "even"] | None
    """How the service cuts it when no segmentation is asked for; None: not at all."""
    size_limit: Literal["media_bytes", "image_bytes"]
    """Which field of ``Model`` limits its size."""
    price: Literal["video_sec", "audio_sec", "image"]
    """Which field of ``Prices`` is its price: for a second if it is ``timed``, otherwise for each."""


# Suffixes and first bytes: the containers that Marengo's pages name.
KINDS: Mapping[Kind, KindRules] = {
    "video": KindRules(
        suffixes=(".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"),
        magic=(
            *((4, b"ftyp"), (0, b"\x1aE\xdf\xa3"), (8, b"AVI "), (0, b"FLV\x01")),
            # QuickTime before it had "ftyp"; MPEG program streams and video streams.
            *((4, b"moov"), (4, b"mdat"), (4, b"wide"), (0, b"\0\0\x01\xba"), (0, b"\0\0\x01\xb3")),
        ),
        timed=True,
        synchronous=False,
        captions=True,
        frames=True,
        track=None,
        cut="dynamic",
        size_limit="media_bytes",
        price="video_sec",
    ),
    "audio": KindRules(
        suffixes=(".mp3", ".wav", ".m4a", ".aac", ".flac", ".ogg", ".opus", ".wma"),
        magic=(*((4, b"ftypM4A"), (4, b"ftypM4B"), (8, b"WAVE"), (0, b"ID3"), (0, b"fLaC"), (0, b"OggS")),),
        timed=True,
        synchronous=False,
        captions=True,
        frames=False,
        track="audio",
        cut="even",
        size_limit="media_bytes",
        price="audio_sec",
    ),
    "image": KindRules(
        suffixes=(".jpg", ".jpeg", ".png"),
        magic=((0, b"\xff\xd8\xff"), (0, b"\x89PNG\r\n\x1a\n")),
        timed=False,
        synchronous=True,
        captions=False,
        frames=True,
        track="image",
        cut=None,
        size_limit="image_bytes",
        price="image",
    ),
}
"""What may be done with each kind of media. A new kind is a new row."""

UNTIMED_TRACKS: Mapping[str, Kind] = {
    rules.track: kind for kind, rules in KINDS.items() if rules.track and not rules.timed
}
"""Track -> the kind whose files have their one vector there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentationRule:
    """One way to cut media: the request's field, its range in seconds, and the kinds it exists for."""

    field: str
    min_sec: float
    max_sec: float
    default_sec: float
    whole: bool
    kinds: tuple[Kind, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A Marengo version on Bedrock. Sizes in bytes, lengths in seconds."""

    version: str
    model_id: str
    dimension: int
    sync_inputs: tuple[str, ...]
    async_inputs: tuple[str, ...]
    nested: bool
    """Whether a body is ``{"inputType": k, k: {...}}`` or flat."""
    options: Mapping[str, tuple[str, ...]]
    """Embedding options by kind; all of them is the service's default."""
    scopes: tuple[str, ...]
    fused: bool
    range_end: Literal["endSec", "lengthSec"]
    segmentation: Mapping[str, SegmentationRule]
    text_tokens: int
    text_truncate: bool
    """Whether a request can ask for an error instead of a cut text (``textTruncate``)."""
    image_bytes: int
    media_bytes: int
    media_sec: float
    multi_input_images: int = 0
    invoke_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Region -> the IDs that InvokeModel accepts there, ours first. StartAsyncInvoke takes ``model_id``."""
    end_of_life: Mapping[str, date] = field(default_factory=dict)
    """Region -> the day AWS ends the model there, where it is Legacy until then; ``*`` for all regions.

    From AWS's model cards and lifecycle pages, read in November 2026. For advice only: the service decides when it
    refuses a call.
    """

    def ends_on(self, region: str | None) -> date | None:
        """The day AWS ends the model in a region (None: in all regions); None if AWS has announced no day."""
        return self.end_of_life.get(region or "*", self.end_of_life.get("*"))

    @property
    def active_regions(self) -> tuple[str, ...]:
        """The regions that the model has no end of life in."""
        return tuple(region for region in self.invoke_ids if self.ends_on(region) is None)

    def invoke_id(self, region: str) -> str:
        """The ID that InvokeModel takes in a region.

        Raises:
            ConfigurationError: Marengo is not available there, as far as we know.
        """
        self.check_region(region)
        return self.invoke_ids[region][0]

    def kind_of_option(self, option: str) -> Kind:
        """The kind of file that a segment of an embedding option is read as."""
        return next((kind for kind, rules in KINDS.items() if rules.track == option), "video")

    def check_region(self, region: str) -> None:
        """Refuse a region without this model.

        Raises:
            ConfigurationError: Marengo is not available there, as far as we know.
        """
        if region not in self.invoke_ids:
            raise ConfigurationError(
                f"Marengo {self.version} is not available in {region}, as far as we know. Use one of "
                f"{', '.join(self.invoke_ids)}; if AWS has added {region}, set {{invoke_model_id}}.",
                setting="region_name",
                remedy={"invoke_model_id": ...},
            )


def _ids(base: str) -> dict[str, str]:
    return {prefix: f"{prefix}.{base}" for prefix in ("us", "eu", "apac")}


_BASE_3_0 = "twelvelabs.marengo-embed-3-0-v1:0"
_BASE_2_7 = "twelvelabs.marengo-embed-2-7-v1:0"

MODELS: Mapping[str, Model] = {
    "3.0": Model(
        version="3.0",
        model_id=_BASE_3_0,
        dimension=512,
        sync_inputs=("text", "image", "text_image", "multi_input"),
        async_inputs=("text", "image", "text_image", "multi_input", "video", "audio"),
        nested=True,
        options={"video": ("visual", "audio", "transcription"), "audio": ("audio", "transcription")},
        scopes=("clip", "asset"),
        fused=True,
        range_end="endSec",
        segmentation={
            "dynamic": SegmentationRule(
                field="minDurationSec", min_sec=1, max_sec=5, default_sec=4, whole=True, kinds=("video",)
            ),
            "fixed": SegmentationRule(
                field="durationSec",
                min_sec=1,
                max_sec=10,
                default_sec=6,
                whole=True,
                kinds=("video", "audio"),
            ),
        },
        text_tokens=500,
        text_truncate=False,
        image_bytes=5 * MB,
        media_bytes=6 * GB,
        media_sec=4 * 3600,
        multi_input_images=10,
        invoke_ids={
            "us-east-1": (_BASE_3_0, _ids(_BASE_3_0)["us"]),
            "eu-west-1": (_ids(_BASE_3_0)["eu"],),
            "ap-northeast-2": (_BASE_3_0, _ids(_BASE_3_0)["apac"]),
        },
        end_of_life={"ap-northeast-2": date(2027, 3, 22)},
    ),
    "2.7": Model(
        version="2.7",
        model_id=_BASE_2_7,
        dimension=1024,
        sync_inputs=("text", "image"),
        async_inputs=("text", "image", "video", "audio"),
        nested=False,
        options={"video": ("visual-text", "visual-image", "audio"), "audio": ("audio",)},
        scopes=("clip",),
        fused=False,
        range_end="lengthSec",
        segmentation={
            "dynamic": SegmentationRule(
                field="minClipSec", min_sec=1, max_sec=5, default_sec=4, whole=True, kinds=("video",)
            ),
            "fixed": SegmentationRule(
                field="useFixedLengthSec",
                min_sec=2,
                max_sec=10,
                default_sec=6,
                whole=False,
                kinds=("video", "audio"),
            ),
        },
        text_tokens=77,
        text_truncate=True,
        image_bytes=5 * MB,
        media_bytes=2 * GB,
        media_sec=2 * 3600,
        invoke_ids={
            "us-east-1": (_ids(_BASE_2_7)["us"],),
            "eu-west-1": (_ids(_BASE_2_7)["eu"],),
            "ap-northeast-2": (_ids(_BASE_2_7)["apac"],),
        },
        end_of_life={"*": date(2026, 11, 30)},
    ),
}


def find_model(name: str) -> tuple[Model, str | None]:
    """The model that a user names, and the ID to invoke it by if the name says one.

    Args:
        name: "3.0", "2.7", a model ID, an inference profile's ID, or the ARN of either.

    Returns:
        The model, and None where the region decides which ID InvokeModel gets.

    Raises:
        ConfigurationError: The name is not that of a known Marengo model.
    """
    if not isinstance(name, str):
        raise ConfigurationError(
            f"expected a name, such as {' or '.join(map(repr, MODELS))}.", setting="model", value=name
        )
    if name in MODELS:
        return MODELS[name], None
    last = name.rsplit("/", 1)[-1]
    for model in MODELS.values():
        if last == model.model_id:
            return model, None
        if last.endswith("." + model.model_id):
            return model, name
    if ":application-inference-profile/" in name:
        raise ConfigurationError(
            "an application inference profile does not identify its model. Set the version and the profile "
            "separately: {model}, {invoke_model_id}.",
            setting="model",
            value=name,
            remedy={"model": "3.0", "invoke_model_id": name},
        )
    known = ", ".join([*MODELS, *(model.model_id for model in MODELS.values())])
    raise ConfigurationError(
        f"this is not a known Marengo model. Known: {known}, their profile IDs and ARNs.", setting="model", value=name
    )


def kinds_in_words(template: str = "{!r}") -> str:
    """The kinds for a message: ``'video', 'audio' or 'image'``."""
    *first, last = (template.format(kind) for kind in KINDS)
    return f"{', '.join(first)} or {last}"
