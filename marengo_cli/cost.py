"""``marengo cost``: what embedding costs, for existing media or for a number of hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Column

from bedrock_marengo import InputError, MarengoClient, Plan, Prices
from bedrock_marengo.contract.inputs import SourceLike
from bedrock_marengo.embedding.plan import IN_FLIGHT
from marengo_cli.terminal import dollars, gigabytes, length, print_json, print_table, say, waiting

__all__ = [
    "SOURCE",
    "Line",
    "amounts",
    "is_whole",
    "plan_lines",
    "plan_report",
    "planned",
    "run",
    "show_lines",
    "show_plan",
]

SOURCE = (
    "These prices come from litellm's test data, not from the AWS price page; that of Amazon Transcribe comes from "
    "public code. Those of Marengo 2.7 may have risen since 2026-08-29 (extended access). Check them, and set yours "
    "with --price."
)

_UNITS = {
    "video": ("video_sec", "per second"),
    "audio": ("audio_sec", "per second"),
    "image": ("image", "each"),
    "text": ("text", "each"),
    "copies": ("copied_gb", "per GB"),
    "transcribe": ("transcribe_sec", "per second"),
    "pegasus": ("pegasus_sec", "per second, and for tokens"),
}
"""What is paid for -> its price in ``Prices``, and the unit."""


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of cost: the amount, and US dollars."""

    kind: str
    amount: str
    usd: float

    def price(self, prices: Prices) -> str:
        """Its price in words."""
        name, unit = _UNITS[self.kind]
        return f"{getattr(prices, name):.6f}".rstrip("0").rstrip(".") + f" {unit}"


def run(
    plan: Plan | None, asked: Iterable[Line], prices: Prices, *, assume_duration_sec: float | None, as_json: bool
) -> int:
    """Print what a plan's media and further amounts cost; 1 if some media are not in the sum.

    Raises:
        InputError: There is neither.
    """
    lines = [*(plan_lines(plan) if plan else []), *asked]
    if not lines and plan is None:
        raise InputError(
            "Nothing to calculate: pass sources, such as s3://bucket/videos/, or amounts, such as --video-hours 1000."
        )
    if as_json:
        print_json(_report(plan, lines, prices))
    else:
        if plan:
            show_plan(plan, assume_duration_sec)
        show_lines(lines, prices)
        say(SOURCE)
    return 0 if plan is None or is_whole(plan, assume_duration_sec) else 1


def planned(client: MarengoClient, sources: Sequence[SourceLike], **settings: Any) -> Plan:
    """The plan of embedding media; starts nothing.

    Raises:
        bedrock_marengo.MarengoError: A setting is not valid, or AWS refused the listing.
    """
    with waiting("Listing media and finished work"):
        return client.plan(sources, **settings)


def is_whole(plan: Plan, assume_duration_sec: float | None) -> bool:
    """Whether all media are in a plan's sums."""
    return not plan.refused and (not plan.unknown or assume_duration_sec is not None)


def amounts(prices: Prices, *, video_hours: float, audio_hours: float, images: int, texts: int) -> list[Line]:
    """Lines for amounts without media."""
    asked = (
        ("video", video_hours, "hours", 3600 * prices.video_sec),
        ("audio", audio_hours, "hours", 3600 * prices.audio_sec),
        ("image", images, "images", prices.image),
        ("text", texts, "texts", prices.text),
    )
    return [Line(kind, f"{_number(count)} {unit}", count * usd) for kind, count, unit, usd in asked if count]


def plan_lines(plan: Plan) -> list[Line]:
    """Lines for what a plan would start, and copy."""
    lines = [
        Line(kind, f"{count:,} file{'s' * (count != 1)}", plan.usd.get(kind, 0.0))
        for kind, count in plan.started.items()
    ]
    if plan.staged:
        lines.append(Line("copies", gigabytes(plan.staged_bytes), plan.usd.get("copies", 0.0)))
    lines += [
        Line(service, f"{count:,} file{'s' * (count != 1)}", plan.usd.get(service, 0.0))
        for service, count in plan.words.items()
    ]
    return lines


def show_lines(lines: Iterable[Line], prices: Prices, *, stderr: bool = False) -> None:
    """A table of what is paid for, with its sum."""
    lines = list(lines)
    if not lines:
        return
    rows = [[line.kind, line.amount, line.price(prices), dollars(line.usd)] for line in lines]
    total = ["total", "", "", dollars(sum(line.usd for line in lines))]
    right = [Column(heading, justify="right") for heading in ("amount", "USD for", "USD")]
    print_table(["", *right], [*rows, total], stderr=stderr)


def show_plan(plan: Plan, assume_duration_sec: float | None, *, stderr: bool = False) -> None:
    """A table of what embedding would do; empty rows are left out."""
    taken = "not in the sums" if assume_duration_sec is None else f"assumed as {assume_duration_sec:g} s each"
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in plan.started.items())
    names = ", ".join(plan.unknown_names) + (" ..." if plan.unknown > len(plan.unknown_names) else "")
    rows = (
        ("to start", f"{sum(plan.started.values()):,}" + (f" ({kinds})" if kinds else "")),
        ("to join", f"{plan.joined:,} (started before)" * bool(plan.joined)),
        ("to reuse", f"{plan.reused:,} (done before)" * bool(plan.reused)),
        ("twice", f"{plan.repeated:,} that are listed again" * bool(plan.repeated)),
        ("to upload", f"{plan.uploaded:,} ({gigabytes(plan.uploaded_bytes)})" * bool(plan.uploaded)),
        ("to copy", f"{plan.staged:,} ({gigabytes(plan.staged_bytes)})" * bool(plan.staged)),
        ("length", length(plan.media_sec) * bool(plan.media_sec)),
        ("no length", f"{plan.unknown:,}, {taken}: {names}" * bool(plan.unknown)),
        ("vectors", f"about {plan.vectors:,}" * bool(plan.vectors)),
        ("time", f"about {length(plan.days * 86400)}, {plan.jobs_at_once} jobs at once" * bool(plan.days)),
        ("left out", ", ".join(f"{count:,} {why}" for why, count in plan.skipped.items())),
        ("refused", f"{plan.refused:,}" * bool(plan.refused)),
        ("no words", f"{plan.wordless:,}" * bool(plan.wordless)),
        ("note", IN_FLIGHT * ("pegasus" in plan.words)),
        *(("", refusal) for refusal in plan.refusals),
    )
    print_table(["", ""], [row for row in rows if row[1]], stderr=stderr)


def plan_report(plan: Plan) -> dict[str, Any]:
    """A plan for programs."""
    return {**asdict(plan), "total_usd": plan.total_usd, "days": plan.days}


def _number(count: float) -> str:
    return f"{count:,.2f}".removesuffix("00").removesuffix(".")


def _report(plan: Plan | None, lines: Iterable[Line], prices: Prices) -> Mapping[str, Any]:
    lines = list(lines)
    return {
        "total_usd": sum(line.usd for line in lines),
        "lines": [asdict(line) for line in lines],
        "prices": asdict(prices),
        "prices_source": SOURCE,
        "plan": plan_report(plan) if plan else None,
    }
