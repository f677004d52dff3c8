"""The tools: each takes what a model passes, resolves it against the store, and answers within a size and a budget."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bedrock_marengo.agents.answers import (
    LEAST_MAX_BYTES,
    MAX_BYTES,
    MOST_MAX_BYTES,
    Frame,
    ToolAnswer,
    moment_fields,
    moments_answer,
    page,
    time_text,
    videos_answer,
)
from bedrock_marengo.agents.archive import Archive, Row, caller_loop
from bedrock_marengo.agents.listing import VideoList
from bedrock_marengo.agents.paid import PaidCalls, Watched
from bedrock_marengo.agents.plain_text import NOTE, error_text, fenced, one_line, quoted
from bedrock_marengo.agents.scope import Scope, decoded
from bedrock_marengo.agents.specs import MAX_ID, TOOLS, ToolSpec, check_arguments, check_permissions
from bedrock_marengo.agents.spending import MAX_SESSION_USD, MAX_USD, SpendingLimit
from bedrock_marengo.contract.models import KINDS
from bedrock_marengo.contract.segments import Segment, time_range
from bedrock_marengo.contract.words import Words
from bedrock_marengo.errors import ConfigurationError, InputError, MarengoError
from bedrock_marengo.search.results import SearchResult, results_from
from bedrock_marengo.search.videos import MAX_CLIP_SEC
from bedrock_marengo.validation import is_int, short_repr

__all__ = ["LINK_SEC", "MomentTools"]

LINK_SEC = 300
"""How long a link works, at most; at least 60 seconds. Ours."""
_LEAST_LINK_SEC = 60
_DEPTH = 256
"""Segments a track of one moment, whose words are read."""
_FRAME_WIDTH = 512

_log = logging.getLogger(__name__)


class MomentTools:
    """Tools over one retriever, for a model to call.

    A model can narrow what it reaches, but can't widen it: the retriever's store, filter, sources and times, the
    prefixes and the budget are fixed here. What a model passes is resolved against the store. No path or URL is opened.

    Args:
        archive: the retriever, as its framework's package makes it: ``langchain_marengo.tools.archive_of`` or
            ``llama_index_marengo.tools.archive_of``.
        allow: tools that cost money: "ask" for ``ask_video``, "describe" for ``describe_video``.
        allowed_prefixes: the only S3 prefixes and objects to search, list, read and link; None for all that the store
            holds. Set it if others can write to your store: a forged segment could name any object.
        max_usd: what one call of a tool may cost, in US dollars.
        max_session_usd: what all calls of these tools may cost.
        links: whether answers have presigned URLs, apart from the text and the JSON.
        link_sec: how long they work, 60 to 300 seconds.
        max_bytes: the most bytes of an answer's text, 6,000 to 30,000. The JSON has at most twice as many.

    Raises:
        ConfigurationError: A setting has a wrong value.
        InputError: ``allowed_prefixes`` is not a list of S3 URIs.
    """

    def __init__(
        self,
        archive: Archive,
        *,
        allow: Sequence[str] = (),
        allowed_prefixes: Sequence[str] | None = None,
        max_usd: float = MAX_USD,
        max_session_usd: float = MAX_SESSION_USD,
        links: bool = False,
        link_sec: int = LINK_SEC,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        permissions = check_permissions(allow)
        for setting, value, least, most in (
            ("link_sec", link_sec, _LEAST_LINK_SEC, LINK_SEC),
            ("max_bytes", max_bytes, LEAST_MAX_BYTES, MOST_MAX_BYTES),
        ):
            if not (is_int(value, least) and value <= most):
                raise ConfigurationError(
                    f"expected {least:,} to {most:,} (whole number).", setting=setting, value=value
                )
        self.specs: tuple[ToolSpec, ...] = tuple(
            spec for spec in TOOLS.values() if spec.permission is None or spec.permission in permissions
        )
        """The tools that there are, in the order in which a model should see them."""
        self.spending = SpendingLimit(max_usd, max_session_usd)
        """What was spent on calls that cost: ``.spent_usd``, ``.left_usd``."""
        self._archive = archive
        self._scope = Scope(archive.sources, allowed_prefixes)
        self._videos = VideoList(archive, self._scope, max_bytes)
        self._paid = PaidCalls(archive.client, self.spending, max_bytes)
        self._link_sec = link_sec if links else None
        self._max_bytes = max_bytes

    def call(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """Call a tool. An error is an answer, too: ``is_error``, and words that a model can act on. Raises nothing.

        Args:
            name: of one of ``specs``.
            arguments: as the model passes them.
        """
        try:
            return self.run(name, arguments)
        except Exception as error:
            # The traceback is for the log: the model gets words.
            _log.warning("The tool %s failed: %s", short_repr(name), type(error).__name__, exc_info=error)
            text = error_text(error)
            return ToolAnswer(text=text, data={"error": text}, is_error=True)

    async def acall(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """``call`` for asyncio, on the client's own threads."""
        with caller_loop():
            return await self._archive.client.run_async(self.call, name, arguments)

    def clip(self, moment: str) -> bytes:
        """A moment as a small MP4, of at most ``MAX_CLIP_SEC`` seconds; for a client to play, not for a model.

        Args:
            moment: its id.

        Raises:
            MarengoError: It is not in the archive, has no times, or can't be read or decoded.
        """
        found = self._resolve(moment)
        if not KINDS[found.media.kind].timed or found.start_sec is None or found.end_sec is None:
            raise InputError(f"{short_repr(moment)} has no clip: only moments of videos and audio files have one.")
        end_sec = min(found.end_sec, found.start_sec + MAX_CLIP_SEC)
        return self._archive.client.clip(found.media, found.start_sec, end_sec)

    async def aclip(self, moment: str) -> bytes:
        """``clip`` for asyncio."""
        with caller_loop():
            return await self._archive.client.run_async(self.clip, moment)

    def run(self, name: str, arguments: Mapping[str, Any]) -> ToolAnswer:
        """``call``, with errors as exceptions.

        Raises:
            InputError: There is no such tool, or an argument is wrong. Nothing was called.
            BudgetError: It may cost too much. Nothing was called.
            MarengoError: The call failed.
        """
        spec = next((spec for spec in self.specs if spec.name == name), None)
        if spec is None:
            raise InputError(f"There is no tool {short_repr(name)}. Use {', '.join(spec.name for spec in self.specs)}.")
        given = check_arguments(spec, arguments)
        answer: ToolAnswer = getattr(self, f"_{spec.name}")(**given)
        return answer

    # The tools, by their names.

    def _search_moments(
        self, query: str, limit: int, sources: list[str] | None, start_sec: float | None, end_sec: float | None
    ) -> ToolAnswer:
        start, end = self._times(start_sec, end_sec)
        rows = self._archive.search(
            query, limit=limit + 1, sources=self._scope.narrowed(sources), start_sec=start, end_sec=end
        )
        # A store may ignore filters, and a forged segment may name any file.
        found = [(row, result) for row in rows for result in results_from([row]) if self._may_show(result)]
        shown, most = found[:limit], int(TOOLS["search_moments"].arguments[1].most)
        more = ""
        if len(found) > limit:
            at_most = f"limit={min(2 * limit, most)}, at most {most}" if limit < most else "narrower sources or times"
            more = f"There are more moments: ask with {at_most}."
        fields = [moment_fields(result, row.metadata) for row, result in shown]
        links = self._links(each["id"] for each in fields)
        return moments_answer(fields, [row for row, _ in shown], more, max_bytes=self._max_bytes, links=links)

    def _read_moment(self, moment: str, frames: int, cursor: int) -> ToolAnswer:
        found = self._resolve(moment)
        if found.row is None:
            raise InputError("read_moment needs the id of a moment: search_moments returns them.")
        result = next(iter(results_from([found.row])))
        fields = moment_fields(result, found.row.metadata)
        fields |= {"id": moment}
        rows = self._stored(found.media.uri or "", found.start_sec, found.end_sec, _DEPTH)
        in_order = sorted(results_from(rows), key=lambda each: (each.start_sec, each.end_sec))
        words = one_line(Words.joined(each.words for each in in_order))
        shown, following = page(words, cursor, self._max_bytes - 1_000)
        lines = [NOTE, f"{quoted(fields['file'])}, {time_text(fields)}"]
        no_words = "" if shown else "There are no words here."
        if not shown and not frames and KINDS[found.media.kind].frames:
            no_words += " Call again with frames=4 to see pictures."
        lines.append(no_words or fenced(shown))
        more = f"{len(words) - following:,} more characters: ask with cursor={following}." if following else ""
        pictures, why_not = self._frames(found, frames)
        lines += [line for line in (more, why_not) if line]
        notes = " ".join(line for line in (no_words, why_not) if line)
        data = {**fields, "words": shown, "more": more, "cursor": following or None, "frames": len(pictures)}
        return ToolAnswer(
            text="\n".join(lines),
            data={**data, "note": notes},
            frames=pictures,
            rows=(found.row,),
            links=self._links([moment]),
        )

    def _list_videos(self, cursor: str | None) -> ToolAnswer:
        return videos_answer(*self._videos.page(cursor))

    def _estimate_cost(self, video: str, action: str) -> ToolAnswer:
        is_offered = any(spec.permission == action for spec in self.specs)
        return self._paid.estimate(self._resolve(video), action, is_offered=is_offered)

    def _ask_video(self, video: str, question: str, start_sec: float | None, end_sec: float | None) -> ToolAnswer:
        found = self._resolve(video)
        start, end = self._times(
            found.start_sec if start_sec is None else start_sec, found.end_sec if end_sec is None else end_sec
        )
        return self._paid.ask(found.within(start, end), question, self._scope.allowed_prefixes)

    def _describe_video(self, video: str, cursor: int) -> ToolAnswer:
        return self._paid.describe(self._resolve(video), cursor, self._times(None, None))

    # What they share.

    def _resolve(self, uri: str) -> Watched:
        """The file and time range of an id, once the store has shown that it holds it.

        Raises:
            InputError: The id is of another form, or of nothing that may be read. Both are said in the same way, so
                that no one learns what else there is.
        """
        unknown = InputError(
            f"{short_repr(uri)} is not in this archive. Use an id as search_moments or list_videos returned it; paths "
            "and URLs are not opened."
        )
        segment, times = Segment.find(uri), time_range(uri)
        if segment is not None and times is not None and uri.isprintable() and self._scope.holds(segment.source):
            rows = self._stored(segment.source, segment.start_sec, segment.end_sec, _DEPTH)
            row = next((row for row in rows if Segment.find(row.text) == segment), None)
            if row is None:
                raise unknown
            # The model wrote these times: they may be wider than any moment.
            start, end = times if times[0] == times[1] else self._times(*times)
            own = {"start_sec": start or 0.0, "end_sec": end or 0.0}
            moment = Row(f"{uri}\n{row.text.partition(chr(10))[2]}", {**row.metadata, **own})
            return Watched(next(iter(results_from([row]))).media, start, end, moment)
        try:
            sources = decoded(uri) if segment is None else []
        except InputError:
            raise unknown from None
        for source in sources:
            if not self._scope.holds(source):
                continue
            # A forged segment may say that it is of this file, and have the URI of another one.
            for result in results_from(self._stored(source, None, None, 1)):
                if result.source == source:
                    return Watched(result.media, *self._times(None, None), None)
        raise unknown

    def _stored(self, source: str, start_sec: float | None, end_sec: float | None, depth: int) -> list[Row]:
        """The segments of a source in a time range that the retriever can find."""
        if start_sec is not None and end_sec is not None and end_sec <= start_sec:
            # An image has no times.
            start_sec = end_sec = None
        start, end = self._times(start_sec, end_sec)
        return self._archive.stored(source, start_sec=start, end_sec=end, depth=depth)

    def _times(self, start_sec: float | None, end_sec: float | None) -> tuple[float | None, float | None]:
        """A time range within the retriever's own.

        Raises:
            InputError: Nothing is left.
        """
        starts = [each for each in (start_sec, self._archive.start_sec) if each is not None]
        ends = [each for each in (end_sec, self._archive.end_sec) if each is not None]
        start, end = max(starts, default=None), min(ends, default=None)
        if end is not None and end <= (start or 0):
            raise InputError("end_sec must be after start_sec, and within the times of this archive.")
        return start, end

    def _may_show(self, found: SearchResult) -> bool:
        return (
            self._scope.holds(found.source) and len(found.segment.uri_within(found.start_sec, found.end_sec)) <= MAX_ID
        )

    def _links(self, uris: Iterable[str]) -> dict[str, str]:
        if self._link_sec is None:
            return {}
        return {uri: self._archive.client.playable_url(uri, expires_sec=self._link_sec) for uri in uris}

    def _frames(self, found: Watched, count: int) -> tuple[tuple[Frame, ...], str]:
        """Frames of a moment, or why there are none: its words are worth having without."""
        rules = KINDS[found.media.kind]
        if not count:
            return (), ""
        if not rules.frames:
            return (), f"There are no frames of {found.media.kind}."
        count = count if rules.timed else 1
        start, length = found.start_sec or 0.0, (found.end_sec or 0.0) - (found.start_sec or 0.0)
        times = [start + length * (place + 0.5) / count for place in range(count)]
        try:
            jpegs = self._archive.client.frames(found.media, times, width=_FRAME_WIDTH)
        except MarengoError as error:
            return (), f"There are no frames: {error_text(error)}"
        return tuple(map(Frame, times, jpegs)), ""
