"""The calls that cost: questions to Pegasus, and descriptions. Each is priced and charged before it is made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bedrock_marengo.agents.answers import ToolAnswer, fitting_count, time_text, video_id
from bedrock_marengo.agents.archive import Row
from bedrock_marengo.agents.plain_text import NOTE, clock_time, cut, fenced, one_line, quoted
from bedrock_marengo.agents.spending import SpendingLimit
from bedrock_marengo.aws.cancellation import cancel_scope
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.embedding.job_costs import JobCosts
from bedrock_marengo.errors import BudgetError, InputError, OutputError
from bedrock_marengo.words.descriptions import Descriptions
from bedrock_marengo.words.pegasus import Pegasus, PegasusSource
from bedrock_marengo.words.pegasus_calls import may_be_billed
from bedrock_marengo.words.sources import WordsFile

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["PaidCalls", "Watched"]

_WHOLE = Pegasus(per="video")
_DESCRIPTION = 500
"""Bytes of one description in an answer. Ours."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A file, or a moment of it, that the store holds.

    Attributes:
        media: the file.
        start_sec: where the moment begins; None for the start of the file.
        end_sec: where it ends; None for the end of the file.
        row: the moment as the store has it; None for a whole file.
    """

    media: Media
    start_sec: float | None
    end_sec: float | None
    row: Row | None

    def within(self, start_sec: float | None, end_sec: float | None) -> Watched:
        """Another range of the same file."""
        return Watched(self.media, start_sec, end_sec, self.row)

    @property
    def title(self) -> str:
        """The file, and the range if it is not the whole."""
        name = quoted_name(self.media)
        if self.start_sec is None or self.end_sec is None:
            return name
        fields = {"start_sec": self.start_sec, "end_sec": self.end_sec}
        return f"{name}, {time_text({**fields, 'start': clock_time(self.start_sec), 'end': clock_time(self.end_sec)})}"


class PaidCalls:
    """Questions and descriptions, within a budget.

    Args:
        client: asks.
        spending: what the calls may cost.
        max_bytes: of an answer.
    """

    def __init__(self, client: MarengoClient, spending: SpendingLimit, max_bytes: int) -> None:
        self._client = client
        self._spending = spending
        self._max_bytes = max_bytes

    def estimate(self, watched: Watched, action: str, *, is_offered: bool) -> ToolAnswer:
        """The most that a call would cost, and whether it may be made."""
        usd = self._ask_price(watched, "?") if action == "ask" else self._kept(watched)[1]
        left = self._spending.left_usd
        allowed = is_offered and usd <= left + 1e-9
        title = watched.title if action == "ask" else quoted_name(watched.media)
        note = f"The next call may cost up to {left:.4f}." if is_offered else f"There is no tool {action}_video here."
        return ToolAnswer(
            text=f"{title}: at most {usd:.4f} US dollars. {note}",
            data={"usd": usd, "left_usd": left, "is_allowed": allowed, "action": action},
        )

    def ask(self, watched: Watched, question: str, allowed_prefixes: Sequence[str] | None) -> ToolAnswer:
        """Ask once. An answer that is cut off is not asked for again."""
        price = self._ask_price(watched, question)
        self._spending.charge(price)
        usd = 0.0
        try:
            answer = self._client.ask(
                watched.media,
                question,
                start_sec=watched.start_sec,
                end_sec=watched.end_sec,
                max_cost_usd=price,
                allowed_prefixes=allowed_prefixes,
            )
            usd = price if answer.usd is None else answer.usd
        except BaseException as error:
            usd = _billed(error, price)
            raise _unless_cut_off(error) from None
        finally:
            self._spending.settle(price, usd)
        shown = cut(one_line(answer.text), self._max_bytes - 1_000)
        text = "\n".join([NOTE, f"About {watched.title}. {self._cost(usd)}", fenced(shown)])
        data = {"answer": shown, "usd": usd, "left_usd": self._spending.left_usd}
        return ToolAnswer(text=text, data={**data, **_range_of(watched), "video": video_id(watched.media.uri or "")})

    def describe(
        self, watched: Watched, cursor: int, within: tuple[float | None, float | None] = (None, None)
    ) -> ToolAnswer:
        """Descriptions with times of the whole file, kept or asked for now; those within a time range are shown."""
        found, price = self._kept(watched)
        usd = 0.0
        if found is None:
            found, usd = self._made(watched, price)
        start_sec, end_sec = within
        parts = [
            {
                "start_sec": each.start_sec,
                "end_sec": each.end_sec,
                "start": clock_time(each.start_sec),
                "end": clock_time(each.end_sec),
                "text": cut(one_line(each.text), _DESCRIPTION),
            }
            for each in found.found
            if (start_sec is None or each.end_sec > start_sec) and (end_sec is None or each.start_sec < end_sec)
        ][cursor:]
        return self._described(watched, parts, cursor, usd)

    def _described(self, watched: Watched, parts: list[dict[str, Any]], cursor: int, usd: float) -> ToolAnswer:
        lines = [f"{time_text(part)}: {fenced(part['text'])}" for part in parts]
        kept = fitting_count(lines, parts, self._max_bytes) if parts else 0
        following = cursor + kept if kept < len(parts) else None
        more = f"{len(parts) - kept:,} more: ask with cursor={following}." if following else ""
        heads = [NOTE, f"{quoted_name(watched.media)}. {self._cost(usd)}"]
        data = {"descriptions": parts[:kept], "usd": usd, "left_usd": self._spending.left_usd}
        return ToolAnswer(
            text="\n".join([*heads, *lines[:kept], *([more] if more else [])]),
            data={**data, "video": video_id(watched.media.uri or ""), "more": more, "cursor": following},
        )

    def _kept(self, watched: Watched) -> tuple[Descriptions | None, float]:
        """The descriptions that were paid for before, and what they would cost."""
        with self._opened(watched, None) as (source, file):
            if (found := source.find(file.source)) is not None:
                return found, 0.0
            price = source.price(file.costs.length_of(watched.media, file.source))
        if price is None:
            raise InputError(
                f"The length of {quoted_name(watched.media)} can't be read, so what it costs is unknown: nothing was "
                "called. Ask about a moment of it with ask_video."
            )
        return None, price

    def _made(self, watched: Watched, price: float) -> tuple[Descriptions, float]:
        """The descriptions, asked for now, and what they cost: nothing if another process made them meanwhile."""
        self._spending.charge(price)
        budget = None
        try:
            with self._opened(watched, price) as (source, file):
                assert isinstance(file.costs, JobCosts)  # noqa: S101  of this client
                budget = file.costs.budget
                found = source.make(file)
            return found, budget.spent_usd if budget else price
        except BaseException as error:
            raise _unless_cut_off(error) from None
        finally:
            self._spending.settle(price, budget.spent_usd if budget else 0.0)

    @contextmanager
    def _opened(self, watched: Watched, max_cost_usd: float | None) -> Iterator[tuple[PegasusSource, WordsFile]]:
        """Pegasus as a source of words, and the file as it is now."""
        run, token = self._client.open_words(descriptions=_WHOLE, max_cost_usd=max_cost_usd)
        assert run is not None  # noqa: S101  there is a source
        with ExitStack() as ended, cancel_scope(token):
            for executor in run.executors.values():
                ended.enter_context(executor)
            [source] = run.sources
            assert isinstance(source, PegasusSource)  # noqa: S101  of these settings
            if not source.takes(watched.media):
                raise InputError(f"{quoted_name(watched.media)} is not a video: only videos can be described.")
            identity = self._client.locate(watched.media)
            media = Media(watched.media.kind, uri=identity.uri, size=identity.size, etag=identity.etag)
            yield source, WordsFile(media=media, source=identity, costs=run.costs, is_whole=False)

    def _cost(self, usd: float) -> str:
        cost = f"It cost {usd:.4f} US dollars" if usd else "It cost nothing: it was there already"
        return f"{cost}; the next call may cost up to {self._spending.left_usd:.4f}."

    def _ask_price(self, watched: Watched, question: str) -> float:
        return self._client.ask_price(watched.media, question, start_sec=watched.start_sec, end_sec=watched.end_sec)


def quoted_name(media: Media) -> str:
    """The name of a file, in quotes."""
    return quoted((media.uri or "").rpartition("/")[2])


def _range_of(watched: Watched) -> dict[str, float | None]:
    return {"start_sec": watched.start_sec, "end_sec": watched.end_sec}


def _billed(error: BaseException, price: float) -> float:
    """What a call that failed may have cost, in US dollars."""
    if isinstance(error, BudgetError):
        # After a first answer that was cut off, a second one would be over its price.
        return error.spent_usd
    return price if may_be_billed(error) else 0.0


def _unless_cut_off(error: BaseException) -> BaseException:
    if isinstance(error, BudgetError) and error.spent_usd > 0:
        return OutputError(
            f"The answer was too long and was cut off, so it was discarded. It cost {error.spent_usd:.4f} US "
            "dollars. Ask for less: a shorter range, or a question with a short answer."
        )
    return error
