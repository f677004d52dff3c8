"""Options that commands share, and what they mean to the core."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from bedrock_marengo import InputError, Manifest, Prices, Segmentation
from bedrock_marengo.contract.formats import image_flaw_by_name, kind_of_name
from bedrock_marengo.contract.inputs import SourceLike, split_s3_uri
from bedrock_marengo.contract.paths import reject_other_stores

if TYPE_CHECKING:
    from bedrock_marengo import MarengoClient

__all__ = [
    "AsJson",
    "AssumeDurationSec",
    "BucketOwner",
    "CacheFolder",
    "Connection",
    "DryRun",
    "Embedding",
    "EndSec",
    "EndpointUrl",
    "Fused",
    "FusedVectors",
    "Interactive",
    "InvokeModelId",
    "Local",
    "MmrLambda",
    "Model",
    "NoCache",
    "Options",
    "OutputS3Uri",
    "Price",
    "Profile",
    "Region",
    "S3EndpointUrl",
    "Scopes",
    "SegmentationOption",
    "Stage",
    "StartSec",
    "Verbose",
    "Yes",
    "bundled",
    "connect",
    "names_in",
    "numbers_in",
    "prices_of",
    "sources_of",
]


class Fused(StrEnum):
    """Whether there are fused vectors too, or only those."""

    ALSO = "also"
    ONLY = "only"


_AWS = "AWS"
_EMBEDDING = "What to embed (use the same options to find finished files)"

# How to reach AWS.

Region = Annotated[
    str | None, typer.Option("--region", metavar="REGION", help="Default: boto3's configuration.", rich_help_panel=_AWS)
]
Profile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Profile in ~/.aws/config.", rich_help_panel=_AWS)
]
Model = Annotated[
    str,
    typer.Option(
        "--model", metavar="MODEL", help='"3.0", "2.7", a model ID, a profile ID or an ARN.', rich_help_panel=_AWS
    ),
]
OutputS3Uri = Annotated[
    str | None,
    typer.Option(
        "--output-s3-uri",
        metavar="S3_URI",
        envvar="MARENGO_OUTPUT_S3_URI",
        help="S3 prefix for outputs and uploads.",
        rich_help_panel=_AWS,
    ),
]
BucketOwner = Annotated[
    str | None,
    typer.Option(
        "--bucket-owner",
        metavar="ACCOUNT",
        envvar="MARENGO_BUCKET_OWNER",
        help="Account that owns the buckets. Default: your own.",
        rich_help_panel=_AWS,
    ),
]
EndpointUrl = Annotated[
    str | None, typer.Option("--endpoint-url", metavar="URL", help="Bedrock's endpoint.", rich_help_panel=_AWS)
]
S3EndpointUrl = Annotated[
    str | None, typer.Option("--s3-endpoint-url", metavar="URL", help="S3's endpoint.", rich_help_panel=_AWS)
]
InvokeModelId = Annotated[
    str | None,
    typer.Option(
        "--invoke-model-id",
        metavar="ID",
        help="Model ID for InvokeModel instead of the region's default, such as an inference profile ARN.",
        rich_help_panel=_AWS,
    ),
]
Stage = Annotated[
    str | None,
    typer.Option(
        "--staging-s3-uri",
        metavar="S3_URI",
        help="S3 prefix in the model's region. Files from other regions are copied there while their jobs run.",
        rich_help_panel=_AWS,
    ),
]
Local = Annotated[
    bool,
    typer.Option(
        "--local",
        help="Use a stand-in for AWS, for this command only: local files, no account, no cost, not the real Marengo.",
    ),
]

# How to search.

CacheFolder = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="With --local: where vectors are kept. Default: the platform's cache."),
]
NoCache = Annotated[bool, typer.Option("--no-cache", help="With --local: keep no vectors, and use none.")]
Interactive = Annotated[
    bool, typer.Option("--interactive", "-i", help="Ask for queries, one after another: all words are sources.")
]
MmrLambda = Annotated[
    float | None,
    typer.Option("--mmr-lambda", metavar="0.5", help="Vary the results: 1 is relevance alone, 0 variety alone."),
]

# What is embedded.

Options = Annotated[
    str | None,
    typer.Option(
        "--options", metavar="visual,audio", help="Embedding options. Default: all.", rich_help_panel=_EMBEDDING
    ),
]
Scopes = Annotated[
    str, typer.Option("--scopes", metavar="clip,asset", help="Clips, whole files or both.", rich_help_panel=_EMBEDDING)
]
SegmentationOption = Annotated[
    str | None,
    typer.Option(
        "--segmentation",
        metavar="fixed:6|dynamic:4",
        help="Segments of N seconds (fixed:N), or shots of at least N seconds (dynamic:N). Default: Bedrock's.",
        rich_help_panel=_EMBEDDING,
    ),
]
FusedVectors = Annotated[
    Fused | None,
    typer.Option(
        "--fused",
        help="One vector that combines all options: in addition to the separate ones, or instead of them.",
        rich_help_panel=_EMBEDDING,
    ),
]
StartSec = Annotated[
    float | None,
    typer.Option("--start-sec", metavar="SECONDS", help="Where to begin in each file.", rich_help_panel=_EMBEDDING),
]
EndSec = Annotated[
    float | None,
    typer.Option("--end-sec", metavar="SECONDS", help="Where to end in each file.", rich_help_panel=_EMBEDDING),
]

# What it costs, and what is shown.

Price = Annotated[
    list[str] | None,
    typer.Option(
        "--price",
        metavar="NAME=USD",
        help=f"Your own price, for one of {', '.join(f.name for f in fields(Prices))}.",
    ),
]
AssumeDurationSec = Annotated[
    float | None,
    typer.Option("--assume-duration-sec", metavar="SECONDS", help="Length to assume for files of unknown length."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Log to stderr, and show the traceback of errors. -vv logs more.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """The options that say how to reach AWS."""

    region: Region = None
    profile: Profile = None
    output_s3_uri: OutputS3Uri = None
    bucket_owner: BucketOwner = None
    endpoint_url: EndpointUrl = None
    s3_endpoint_url: S3EndpointUrl = None
    invoke_model_id: InvokeModelId = None
    staging_s3_uri: Stage = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """The options that say what is embedded; their defaults are those of the loaders."""

    options: Options = None
    scopes: Scopes = "clip"
    segmentation: SegmentationOption = None
    fused: FusedVectors = None
    start_sec: StartSec = None
    end_sec: EndSec = None

    @property
    def settings(self) -> dict[str, Any]:
        """The same for ``MarengoClient``.

        Raises:
            InputError: A segmentation that is not valid.
        """
        return {
            "options": names_in(self.options) if self.options else None,
            "scopes": names_in(self.scopes),
            "segmentation": _segmentation_of(self.segmentation) if self.segmentation else None,
            "fused": {None: False, Fused.ALSO: True, Fused.ONLY: "only"}[self.fused],
            "start_sec": self.start_sec,
            "end_sec": self.end_sec,
        }

    @property
    def typed(self) -> list[str]:
        """The same as words of a command line, without the defaults."""
        given = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}
        return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", f"{value}")]


def bundled(command: Callable[..., None]) -> Callable[..., None]:
    """A command for typer: parameters of type ``Connection`` or ``Embedding`` become their options."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()
    bundles: dict[str, Any] = {p.name: p.annotation for p in parameters if is_dataclass(p.annotation)}

    @functools.wraps(command)
    def run(**values: Any) -> None:
        for name, bundle in bundles.items():
            values[name] = bundle(**{f.name: values.pop(f.name) for f in fields(bundle)})
        command(**values)

    shown = (option for p in parameters for option in (_expanded(p.annotation) if p.name in bundles else [p]))
    signature = inspect.Signature([option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in shown])
    run.__signature__ = signature  # type: ignore[attr-defined]
    return run


def connect(connection: Connection | None = None, *, model: str = "3.0", **settings: Any) -> MarengoClient:
    """The client for the shared options; ``settings`` are further settings of ``MarengoClient``.

    Raises:
        bedrock_marengo.InputError: A prefix that is not an S3 URI.
        bedrock_marengo.ConfigurationError: A setting that is not valid.
    """
    from bedrock_marengo import MarengoClient

    c = connection or Connection()
    return MarengoClient(
        model,
        region_name=c.region or None,
        profile_name=c.profile or None,
        output_s3_uri=c.output_s3_uri or None,
        bucket_owner=c.bucket_owner or None,
        endpoint_url=c.endpoint_url or None,
        s3_endpoint_url=c.s3_endpoint_url or None,
        invoke_model_id=c.invoke_model_id or None,
        staging_s3_uri=c.staging_s3_uri or None,
        **settings,
    )


def sources_of(words: Iterable[str], *, any_key: bool = False) -> list[SourceLike]:
    """Media, folders, prefixes and lists of media as typed: on a command line a string that isn't s3:// is a path.

    Args:
        words: as typed.
        any_key: also accept keys whose suffix doesn't identify a media type.

    Raises:
        InputError: There is no such file, or its media type is unknown.
    """
    return [_source_of(word, any_key) for word in words]


def names_in(words: str) -> list[str]:
    """``visual, audio`` -> ["visual", "audio"]."""
    return [name for word in words.split(",") if (name := word.strip())]


def numbers_in(words: Iterable[str], option: str) -> dict[str, float]:
    """``["visual=0.8"]`` -> {"visual": 0.8}.

    Raises:
        InputError: A word of another form.
    """
    numbers = {}
    for word in words:
        name, _, number = word.partition("=")
        try:
            numbers[name.strip()] = float(number)
        except ValueError:
            raise InputError(f"{option} {word!r}: expected NAME=NUMBER, such as {name or 'name'}=1.") from None
    return numbers


def prices_of(words: Iterable[str] | None) -> Prices:
    """The table of prices with the user's own in it.

    Raises:
        InputError: There is no such price, or it is negative or not finite.
    """
    own, known = numbers_in(words or (), "--price"), [f.name for f in fields(Prices)]
    for name, usd in own.items():
        if name not in known or not 0 <= usd < float("inf"):
            raise InputError(f"--price {name}={usd:g}: expected US dollars, 0 or more, for one of {', '.join(known)}.")
    return replace(Prices(), **own)


def _expanded(bundle: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(bundle, include_extras=True)
    return [
        inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=hints[f.name])
        for f in fields(bundle)
    ]


def _source_of(word: str, any_key: bool) -> SourceLike:
    if word.endswith((".csv", ".csv.gz", ".json")):
        return Manifest(word if word.startswith("s3://") else _path_of(word))
    if not word.startswith("s3://"):
        reject_other_stores(word)
        return _path_of(word)
    _, key = split_s3_uri(word)
    if not any_key and (why := image_flaw_by_name(key)) is not None:
        raise InputError(f"{word!r} {why}")
    if not (any_key or not key or key.endswith("/") or kind_of_name(key)):
        raise InputError(
            f"The suffix of {word!r} doesn't identify a media type. For all files under a prefix, end it with a slash."
        )
    return word


def _path_of(word: str) -> Path:
    path = Path(word)
    if not path.exists():
        raise InputError(
            f"{word!r}: there is no such file or folder. For media on S3, pass s3://bucket/key or s3://bucket/prefix/."
        )
    return path


def _segmentation_of(word: str) -> Segmentation:
    method, _, seconds = word.partition(":")
    try:
        number = float(seconds)
    except ValueError:
        method, number = "", 0.0
    if method not in ("fixed", "dynamic"):
        raise InputError(f"--segmentation {word!r}: expected fixed:SECONDS or dynamic:SECONDS, such as fixed:6.")
    try:
        return Segmentation(method, number)  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"--segmentation {word!r}: {error}") from None
