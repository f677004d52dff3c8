"""``marengo embed``: plan, ask, embed with a progress bar, and report what became of the media."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, fields
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bedrock_marengo import BudgetError, ConfigurationError, InputError, MarengoClient, MediaResult, Plan, Usage
from bedrock_marengo import Progress as Step
from bedrock_marengo.contract.inputs import SourceLike
from bedrock_marengo.errors import visible
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.settings import check_run
from marengo_cli.cost import SOURCE, is_whole, plan_lines, plan_report, planned, show_lines, show_plan
from marengo_cli.spelling import rendered
from marengo_cli.terminal import agreed, console, dollars, length, print_json, print_table, say

__all__ = ["Limits", "Outcome", "check_failed", "embedded", "run", "show_failed"]

SHOWN = 20
"""Failures that are shown with their reasons; --json has all."""
NAMED = 3
"""Files with the same reason that are named."""
LINE_SEC = 60.0
"""Between lines of progress if there is no terminal for a bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What may be spent without asking, and at all. US dollars and seconds.

    Raises:
        bedrock_marengo.InputError: ``ask_above_usd`` is negative or NaN.
        bedrock_marengo.ConfigurationError: Another is not valid.
    """

    ask_above_usd: float = 100.0
    max_cost_usd: float | None = None
    assume_duration_sec: float | None = None
    yes: bool = False

    def __post_init__(self) -> None:
        check_run(max_cost_usd=self.max_cost_usd, assume_duration_sec=self.assume_duration_sec)
        # Nothing is more than NaN, so no one would be asked.
        if not self.ask_above_usd >= 0:
            raise InputError(f"--ask-above-usd {self.ask_above_usd:g}: expected US dollars, 0 or more.")

    def most(self, plan: Plan) -> float:
        """The most that a run may cost; infinite if a length is unknown."""
        planned = float("inf") if plan.unknown and self.assume_duration_sec is None else plan.total_usd
        return planned if self.max_cost_usd is None else min(planned, self.max_cost_usd)

    def budget(self, *, asked: bool) -> float | None:
        """Where the run must stop: what no one agreed to is not spent, even if media were added after the plan."""
        return self.max_cost_usd if asked or self.yes or self.max_cost_usd is not None else self.ask_above_usd


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What became of the media of a run.

    Attributes:
        keep: whether to keep ``media``.
        wordless: files whose words are missing.
        counts: media by "started", "joined", "reused", "left" (the budget was used up) and "failed".
        segments: of the media that were started or joined.
        failed: the media that failed or were not started.
        media: an entry for each file, for programs.
    """

    keep: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    segments: int = 0
    wordless: int = 0
    failed: list[MediaResult] = field(default_factory=list)
    media: list[dict[str, Any]] = field(default_factory=list)
    _steps: dict[str, str] = field(default_factory=dict)

    def tell(self, step: Step) -> None:
        """Called by the threads that embed."""
        if step.stage in ("started", "joined", "reused"):
            self._steps[step.name] = step.stage

    def note(self, done: MediaResult) -> None:
        """A file has ended, with or without an error."""
        name = done.name
        became = self._steps.pop(name, "reused")
        if done.error:
            became = "left" if _is_left(done) else "failed"
            self.failed.append(done)
        self.counts[became] += 1
        self.wordless += bool(done.words.errors)
        # Segments that are not read yet were embedded before.
        segments = len(done.segments) if done.read is None and done.segments else None
        self.segments += segments or 0
        if self.keep:
            why = done.error or next(iter(done.words.errors.values()), None)
            error = str(why) if why else None
            self.media.append({"source": name, "uri": done.uri, "became": became, "segments": segments, "error": error})


def run(
    client: MarengoClient,
    sources: Sequence[SourceLike],
    settings: Mapping[str, Any],
    limits: Limits,
    *,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Plan, ask, embed: 1 if media failed or were not started, 2 if the answer was no.

    Raises:
        bedrock_marengo.MarengoError: It can't begin.
    """
    plan = planned(client, sources, assume_duration_sec=limits.assume_duration_sec, **settings)
    if dry_run:
        _show_planned(client, plan, limits, as_json)
        return 0 if is_whole(plan, limits.assume_duration_sec) else 1
    show_plan(plan, limits.assume_duration_sec, stderr=True)
    if not _is_free(client):
        show_lines(plan_lines(plan), client.usage.prices, stderr=True)
    if plan.total_usd:
        say(SOURCE, err=True)
    ask = limits.most(plan) > limits.ask_above_usd and not limits.yes
    if ask and not agreed(
        _question(plan, limits), f"pass --yes, or --max-cost-usd with at most {limits.ask_above_usd:g}."
    ):
        say("Nothing was started.", err=True)
        return 2
    spending = {"max_cost_usd": limits.budget(asked=ask), "assume_duration_sec": limits.assume_duration_sec}
    outcome = Outcome(keep=as_json)
    for _ in embedded(client, sources, outcome, total=_total(plan), **settings, **spending):
        pass
    check_failed(outcome.failed, outcome.counts.total())
    if as_json:
        print_json(_report(client, plan, outcome))
    else:
        _show_outcome(client, outcome)
        show_failed(outcome.failed)
    return 1 if outcome.failed or outcome.wordless else 0


def embedded(
    client: MarengoClient,
    sources: Sequence[SourceLike] | MediaListing,
    outcome: Outcome,
    *,
    total: int | None = None,
    **settings: Any,
) -> Iterator[MediaResult]:
    """Embed with a progress bar on stderr; each file is counted in ``outcome`` and yielded as it ends."""
    results = client.embed_many(sources, on_progress=outcome.tell, **settings)
    with _Bar(total, client.usage, outcome) as bar, closing(results):
        for done in results:
            outcome.note(done)
            bar.count()
            yield done


def check_failed(failed: Sequence[MediaResult], ended: int) -> None:
    """A setting that is wrong for every file is one mistake, not a failure of each.

    Args:
        failed: the media that failed.
        ended: how many there were in all.

    Raises:
        bedrock_marengo.ConfigurationError: All files failed with such an error.
    """
    errors = [done.error for done in failed if isinstance(done.error, ConfigurationError)]
    if errors and len(errors) == ended:
        raise errors[0]


def show_failed(failed: Sequence[MediaResult]) -> None:
    """Media that failed, with their reasons, on stderr; equal reasons once."""
    left, reasons = [], defaultdict[str, list[str]](list)
    for done in failed:
        if _is_left(done):
            left.append(done)
        else:
            reasons[rendered(done.error or "")].append(done.name)
    for reason, names in list(reasons.items())[:SHOWN]:
        more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
        say(f"failed: {', '.join(map(visible, sorted(names)[:NAMED]))}{more}: {reason}", err=True)
    if len(reasons) > SHOWN:
        say(f"... and more, for {len(reasons) - SHOWN:,} other reasons; --json shows all.", err=True)
    if left:
        say(f"Files not started: {len(left):,}. The first: {rendered(left[0].error or '')}", err=True)


class _Bar:
    """Media done, what failed, what was spent; one line per minute if there is no terminal."""

    def __init__(self, total: int | None, usage: Usage, outcome: Outcome) -> None:
        self._usage = usage
        self._outcome = outcome
        self._total = total
        self._console = console(stderr=True)
        self._said = time.monotonic()
        columns = (
            TextColumn("embedding"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
        )
        shown = self._console.is_terminal
        self._progress = Progress(*columns, console=self._console, transient=True, disable=not shown, expand=True)
        self._task = self._progress.add_task("", total=total, said="")

    def __enter__(self) -> _Bar:
        self._progress.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def count(self) -> None:
        """One file has ended."""
        said = "  ".join(
            [length(self._usage.media_sec), *([f"{dollars(self._usage.usd)} USD"] if self._usage.usd else [])]
        )
        if failed := len(self._outcome.failed):
            said = f"{failed:,} failed  {said}"
        self._progress.update(self._task, advance=1, said=said)
        if not self._console.is_terminal and time.monotonic() - self._said >= LINE_SEC:
            self._said = time.monotonic()
            total = f" of {self._total:,}" if self._total is not None else ""
            say(f"{self._outcome.counts.total():,}{total} files  {said}", err=True)


def _show_planned(client: MarengoClient, plan: Plan, limits: Limits, as_json: bool) -> None:
    if as_json:
        print_json({"plan": plan_report(plan)})
        return
    show_plan(plan, limits.assume_duration_sec)
    show_lines(plan_lines(plan), client.usage.prices)
    say(SOURCE)


def _question(plan: Plan, limits: Limits) -> str:
    started = sum(plan.started.values())
    if plan.unknown and limits.assume_duration_sec is None:
        return (
            f"Files to embed: {started:,}. The length and cost of {plan.unknown:,} are unknown, the others cost about "
            f"{dollars(plan.total_usd)} USD. Continue?"
        )
    return f"Files to embed: {started:,}, for about {dollars(plan.total_usd)} USD. Continue?"


def _is_left(done: MediaResult) -> bool:
    return isinstance(done.error, BudgetError) and done.error.exhausted


def _total(plan: Plan) -> int:
    return sum(plan.started.values()) + plan.joined + plan.reused + plan.repeated + plan.refused


def _show_outcome(client: MarengoClient, outcome: Outcome) -> None:
    counts, usage = outcome.counts, client.usage
    jobs = usage.unknown + sum(service.unknown for service in usage.services.values())
    unknown = f", and {jobs:,} jobs of unknown length" if jobs else ""
    shown = {
        "embedded": counts["started"],
        "joined": counts["joined"],
        "done before": counts["reused"],
        "not started": counts["left"],
        "failed": counts["failed"],
        "new segments": outcome.segments,
        "without words": outcome.wordless,
    }
    rows = [(what, f"{count:,}") for what, count in shown.items() if count]
    amount = f"{length(usage.media_sec)} of media, {usage.images:,} images{unknown}"
    paid = ("length", amount) if _is_free(client) else ("cost", f"{dollars(usage.usd)} USD for {amount}")
    print_table(["", ""], [*rows, paid])


def _is_free(client: MarengoClient) -> bool:
    """Whether nothing costs anything, as with the stand-in: then no cost is shown."""
    return not any(getattr(client.usage.prices, price.name) for price in fields(client.usage.prices))


def _report(client: MarengoClient, plan: Plan, outcome: Outcome) -> dict[str, Any]:
    usage = client.usage
    return {
        "plan": plan_report(plan),
        "counts": dict(outcome.counts),
        "segments": outcome.segments,
        "media_sec": usage.media_sec,
        "usd": usage.usd,
        "media": outcome.media,
    }
