"""``marengo captions``: plan, ask, transcribe media without captions, and write .vtt files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from bedrock_marengo import BudgetError, MarengoClient, MarengoError, MediaResult, Plan, Transcribe
from bedrock_marengo.contract.inputs import SourceLike, split_s3_uri
from bedrock_marengo.errors import visible
from marengo_cli.cost import SOURCE, is_whole, plan_lines, plan_report, show_lines
from marengo_cli.embed import Limits, check_failed, show_failed
from marengo_cli.terminal import agreed, dollars, print_json, print_table, say, waiting

__all__ = ["Captions"]


class Captions:
    """Captions for the media of one command.

    Args:
        client: transcribes and writes.
        sources: the media.
        transcribe: language.
        output: where to write: a folder, or an S3 prefix; None is next to each file.
        force: pay again for what is done.

    Raises:
        bedrock_marengo.InputError: ``output`` begins with s3:// and is not an S3 URI.
    """

    def __init__(
        self,
        client: MarengoClient,
        sources: Sequence[SourceLike],
        transcribe: Transcribe,
        *,
        output: str | None,
        force: bool,
    ) -> None:
        self._client = client
        self._sources = sources
        self._transcribe = transcribe
        self._force = force
        self._output: Path | str | None = output
        if output is not None and output.startswith("s3://"):
            split_s3_uri(output)
        elif output is not None:
            self._output = Path(output)

    def run(self, limits: Limits, *, dry_run: bool, as_json: bool) -> int:
        """Plan, ask, transcribe, write: 1 if media failed or were not started, 2 if the answer was no."""
        assumed = limits.assume_duration_sec
        with waiting("Listing media and finished work"):
            plan = self._client.plan(
                self._sources,
                transcripts=self._transcribe,
                embed=False,
                assume_duration_sec=assumed,
                force=self._force,
            )
        if dry_run and as_json:
            print_json({"plan": plan_report(plan)})
        else:
            self._show(plan, stderr=not dry_run)
        if dry_run:
            return 0 if is_whole(plan, assumed) and not plan.wordless else 1
        ask = limits.most(plan) > limits.ask_above_usd and not limits.yes
        if ask and not agreed(
            _question(plan, assumed), f"pass --yes, or --max-cost-usd with at most {limits.ask_above_usd:g}."
        ):
            say("Nothing was started.", err=True)
            return 2
        return self._write(limits.budget(asked=ask), assumed, plan, as_json=as_json)

    def _write(self, budget: float | None, assumed: float | None, plan: Plan, *, as_json: bool) -> int:
        counts: Counter[str] = Counter()
        failed: list[MediaResult] = []
        media: list[dict[str, Any]] = []
        results = self._client.transcribe_many(
            self._sources, self._transcribe, force=self._force, max_cost_usd=budget, assume_duration_sec=assumed
        )
        with closing(results):
            for done in results:
                became, written = self._place(done)
                if done.error is not None:
                    failed.append(done)
                elif written is not None:
                    say(visible(written), err=as_json)
                counts[became] += 1
                error = str(done.error) if done.error else None
                media.append({"source": done.name, "became": became, "captions": written, "error": error})
        check_failed(failed, counts.total())
        if as_json:
            print_json({"plan": plan_report(plan), "counts": counts, "usd": self._client.usage.usd, "media": media})
        else:
            unknown = self._client.usage.services["transcribe"].unknown
            also = f", and {unknown:,} jobs of unknown length" if unknown else ""
            rows = [(what, f"{count:,}") for what, count in counts.items()]
            print_table(["", ""], [*rows, ("cost", f"{dollars(self._client.usage.usd)} USD{also}")])
            show_failed(failed)
        return 1 if failed else 0

    def _place(self, done: MediaResult) -> tuple[str, str | None]:
        """What became of a file, and where its captions are."""
        said = done.words.said
        if done.error is None and said is not None:
            try:
                if not said.words(0.0, float("inf")):
                    return "nothing said", None
                written = self._client.write_captions(done.media or done.source, said, output=self._output)
            except MarengoError as error:
                done.error = error
            else:
                return ("written", written) if written else ("there already", None)
        if isinstance(done.error, BudgetError) and done.error.exhausted:
            return "not started", None
        return ("failed" if done.error else "left out", None)

    def _show(self, plan: Plan, *, stderr: bool) -> None:
        count = plan.words.get("transcribe", 0)
        rows = (
            ("to transcribe", f"{count:,}"),
            ("captions or transcripts there", f"{plan.reused - count - plan.wordless:,}"),
            ("no length", f"{plan.unknown:,}" * bool(plan.unknown)),
            ("no words", f"{plan.wordless:,}" * bool(plan.wordless)),
            ("refused", f"{plan.refused:,}" * bool(plan.refused)),
            *(("", visible(refusal)) for refusal in plan.refusals),
        )
        print_table(["", ""], [row for row in rows if row[1]], stderr=stderr)
        show_lines(plan_lines(plan), self._client.usage.prices, stderr=stderr)
        if plan.total_usd:
            say(SOURCE, err=stderr)


def _question(plan: Plan, assumed: float | None) -> str:
    count = plan.words.get("transcribe", 0)
    if plan.unknown and assumed is None:
        return (
            f"Files to transcribe: {count:,}. The length and cost of {plan.unknown:,} are unknown, the others cost "
            f"about {dollars(plan.total_usd)} USD. Continue?"
        )
    return f"Files to transcribe: {count:,}, for about {dollars(plan.total_usd)} USD. Continue?"
