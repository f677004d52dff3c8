"""``marengo forget``: removes what was created for media; the media themselves stay."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rich.table import Column

from bedrock_marengo import DeletionReport, MarengoClient, MarengoError, Media
from bedrock_marengo.contract.inputs import MediaLike, SourceLike
from bedrock_marengo.errors import visible
from marengo_cli.spelling import rendered
from marengo_cli.terminal import agreed, apart, gigabytes, print_json, print_table, say, waiting

__all__ = ["run"]

AT_ONCE = 16
KINDS = ("outputs", "requests", "uploads", "copies", "others")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one file."""

    name: str
    receipt: DeletionReport | None = None
    error: MarengoError | None = None


def run(client: MarengoClient, sources: Iterable[SourceLike], *, dry_run: bool, yes: bool, as_json: bool) -> int:
    """List, show, ask, remove: 1 if not all could be listed or removed, 2 if the answer was no.

    Raises:
        bedrock_marengo.MarengoError: A prefix or list can't be read.
    """
    media = list(_media(client, sources))
    with waiting("Listing what was created"):
        outcomes = _each(partial(client.forget, dry_run=True), media)
    there = [one for one in outcomes if one.receipt and one.receipt.uris]
    if there and not dry_run:
        if not yes:
            _show(outcomes, stderr=True)
            if not agreed(f"Delete {_count(there):,} objects?", "pass --yes, or --dry-run to only list them."):
                say("Nothing was deleted.", err=True)
                return 2
        outcomes = _each(client.forget, media)
    if as_json:
        print_json(_report(outcomes, dry_run))
    else:
        _show(outcomes)
        say(_summary(client, outcomes))
    return 1 if any(one.error for one in outcomes) else 0


def _media(client: MarengoClient, sources: Iterable[SourceLike]) -> Iterator[MediaLike]:
    """Single media as they are, even if deleted; from prefixes, folders and lists what exists."""
    for source in sources:
        listing = client.list_media([source])
        if listing.known_total is None:
            yield from listing
        else:
            yield source  # type: ignore[misc]


def _each(forget: Callable[[MediaLike], DeletionReport], media: Iterable[MediaLike]) -> list[_Outcome]:
    def one(file: MediaLike) -> _Outcome:
        name = file.name if isinstance(file, Media) else str(file)
        try:
            return _Outcome(name, forget(file))
        except MarengoError as error:
            return _Outcome(name, error=error)

    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="marengo-forget") as threads:
        return list(threads.map(one, media))


def _show(outcomes: Iterable[_Outcome], *, stderr: bool = False) -> None:
    outcomes = list(outcomes)
    there = [(one.name, one.receipt) for one in outcomes if one.receipt and one.receipt.uris]
    kinds = [kind for kind in KINDS if any(getattr(receipt, kind) for _, receipt in there)]
    rows = [
        [name, *(f"{getattr(receipt, kind):,}" for kind in kinds), gigabytes(receipt.bytes)]
        for name, (_, receipt) in zip(apart([name for name, _ in there]), there, strict=True)
    ]
    if rows:
        numbers = [Column(kind, justify="right", no_wrap=True) for kind in (*kinds, "size")]
        print_table([Column("created for", overflow="fold"), *numbers], rows, stderr=stderr)
    for one in outcomes:
        if one.error:
            say(f"failed: {visible(one.name)}: {rendered(one.error)}", err=True)


def _summary(client: MarengoClient, outcomes: Iterable[_Outcome]) -> str:
    receipts = [one.receipt for one in outcomes if one.receipt]
    removed = [receipt for receipt in receipts if receipt.uris]
    if not removed:
        return f"Nothing was created for these sources under {client.output_s3_uri}."
    verb = "Would delete" if removed[0].dry_run else "Deleted"
    running = sum(receipt.unfinished for receipt in receipts)
    late = f" {running:,} jobs have no output yet: run this again when they are finished." if running else ""
    return f"{verb} {sum(len(receipt.uris) for receipt in removed):,} objects. The media files themselves stay.{late}"


def _count(outcomes: Iterable[_Outcome]) -> int:
    return sum(len(one.receipt.uris) for one in outcomes if one.receipt)


def _report(outcomes: Iterable[_Outcome], dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "media": [
            {"source": one.name, "error": str(one.error) if one.error else None, **_fields(one.receipt)}
            for one in outcomes
        ],
    }


def _fields(receipt: DeletionReport | None) -> dict[str, Any]:
    if receipt is None:
        return {}
    return {name: value for name, value in asdict(receipt).items() if name not in ("dry_run", "segments")}
