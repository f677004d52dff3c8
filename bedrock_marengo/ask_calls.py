"""Calls that ask Pegasus about a file or a moment of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, Iterable, Mapping, Sequence
from typing import Any

from bedrock_marengo.async_calls import async_twin, one_by_one
from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.aws.executor import CancellableExecutor
from bedrock_marengo.aws.parallel import in_order
from bedrock_marengo.contract.moments import FileRange, check_allowed_prefixes, is_allowed, range_of
from bedrock_marengo.embedding.job_costs import JobCosts
from bedrock_marengo.embedding.pricing import Budget
from bedrock_marengo.errors import InputError, MarengoError
from bedrock_marengo.runtime import ClientBase
from bedrock_marengo.settings import check_run
from bedrock_marengo.validation import require_many
from bedrock_marengo.words.asking import Answer, Question
from bedrock_marengo.words.pegasus_calls import AT_ONCE

__all__ = ["MAX_COST_USD", "AskCalls"]

MAX_COST_USD = 1.0
"""What a question may cost unless another sum is set: about 30 minutes of video. Ours."""


class AskCalls(ClientBase):
    """The part of ``MarengoClient`` that asks Pegasus."""

    def ask(
        self,
        file: Any,
        question: str,
        *,
        start_sec: float | None = None,
        end_sec: float | None = None,
        json_schema: Mapping[str, Any] | None = None,
        max_cost_usd: float | None = MAX_COST_USD,
        model: str = "1.5",
        max_tokens: int | None = None,
        temperature: float | None = None,
        extra: Mapping[str, Any] | None = None,
        invoke_model_id: str | None = None,
        duration_sec: float | None = None,
        allowed_prefixes: Sequence[str] | None = None,
    ) -> Answer:
        """Ask TwelveLabs Pegasus about a video, or about a moment of it.

        A moment is cut with PyAV (extra ``media``) and sent inside the request. A whole file is read by Pegasus from
        S3, where a local file is uploaded first. **Each call is billed**: for the seconds of video that are sent, and
        for the tokens of the answer. A call can't be found again: if this program ends or the connection breaks while
        it runs, it may be billed, and asking again is billed again. An answer that is cut off is thrown away and asked
        for again with more tokens, twice at most and within ``max_cost_usd``.

        Args:
            file: ``s3://bucket/key``, a ``pathlib.Path`` or ``Media``; a ``Segment`` or its URI; a search result; a
                Document or node of LangChain or LlamaIndex whose first line is a segment's URI. Videos only.
            question: the question, or what to do: "Who scores?", "Summarize the video in three sentences."
            start_sec: where to begin, in seconds. Default: the start of the segment, or of the file.
            end_sec: where to end. Default: the end of the segment, or of the file. A range of less than 4 s is
                widened, and one of more than 20 minutes is not cut: it is named to Pegasus 1.5 in the file on S3.
            json_schema: answer in JSON that fits this JSON Schema, as ``.data``.
            max_cost_usd: refuse a call that may cost more, before it is made; None for no limit.
            model: "1.5" (videos up to 2 hours), "1.2" (up to 1 hour), the ID of an inference profile, or an ARN.
            max_tokens: the most tokens of the answer, from 512 for 1.5. Default: 2,048.
            temperature: 0 to 1. Default: the service's, 0.2.
            extra: fields for the request as the service names them. They replace ours; None leaves a field out.
            invoke_model_id: the ID that InvokeModel uses instead of the region's default, such as that of an
                application inference profile.
            duration_sec: the length of the file, if PyAV can't read it.
            allowed_prefixes: read only from these S3 prefixes and objects. Set it if others can write to your store: a
                forged segment could name any object that your credentials can read.

        Raises:
            InputError: The file, the range, the question or the schema can't be sent. Nothing is billed.
            BudgetError: It may cost more than ``max_cost_usd``. Nothing is billed.
            OutputError: The answer is cut off, is not JSON or does not fit the schema. Its call is billed.
            ServiceError: AWS refused, or the answer was lost. The message says if it may be billed.

        Examples:
            >>> client.ask("s3://bucket/match.mp4", "Who scores?", start_sec=20, end_sec=35).text  # doctest: +SKIP
        """
        asked = Question(
            text=question,
            json_schema=json_schema,
            model=model,
            invoke_model_id=invoke_model_id,
            max_tokens=max_tokens,
            temperature=temperature,
            extra=extra,
        )
        costs = self._question_costs(max_cost_usd)
        wanted = _wanted(file, start_sec, end_sec, allowed_prefixes)
        return self._answer(wanted, asked, costs, duration_sec)

    def ask_each(
        self,
        /,
        files: Iterable[Any],
        question: str,
        *,
        max_cost_usd: float | None = MAX_COST_USD,
        allowed_prefixes: Sequence[str] | None = None,
        **settings: Any,
    ) -> list[Answer | MarengoError]:
        """Ask one question about each of several files or moments, at most 5 at once.

        Args:
            files: as for ``ask``, each.
            question: as for ``ask``.
            max_cost_usd: what all of them may cost together; None for no limit.
            allowed_prefixes: as for ``ask``.
            settings: ``json_schema``, ``model``, ``invoke_model_id``, ``max_tokens``, ``temperature`` and ``extra``, as
                for ``ask``.

        Returns:
            The answer about each, in order, or the error that it failed with.

        Raises:
            InputError: The question, the schema or a prefix can't be used.
            ConfigurationError: Another setting is not valid.
        """
        asked, costs = Question(text=question, **settings), self._question_costs(max_cost_usd)
        check_allowed_prefixes(allowed_prefixes)

        def ask_one(file: Any) -> Answer | MarengoError:
            try:
                return self._answer(_wanted(file, None, None, allowed_prefixes), asked, costs)
            except MarengoError as error:
                return error

        token = CancelToken(self._runtime.limiter.token())
        with CancellableExecutor(AT_ONCE, "marengo-ask", token) as executor:
            items = list(require_many(files, "ask_each", "files"))
            return list(in_order(executor, ask_one, items, ahead=len(items) + 1))

    def ask_price(
        self,
        /,
        file: Any,
        question: str,
        *,
        start_sec: float | None = None,
        end_sec: float | None = None,
        duration_sec: float | None = None,
        **settings: Any,
    ) -> float:
        """The most that the first call of ``ask`` costs, in US dollars. Reads the file's length; nothing is billed.

        Args:
            file: as for ``ask``.
            question: as for ``ask``.
            start_sec: as for ``ask``.
            end_sec: as for ``ask``.
            duration_sec: as for ``ask``. A file of unknown length counts as the longest that the model accepts.
            settings: those of ``ask`` that are about the call.

        Raises:
            InputError: The file, the range, the question or the schema can't be sent.
            ServiceError: AWS refused to return the bytes.
        """
        asked = Question(text=question, **settings)
        sender = self._runtime.asker.sender
        part = sender.part(_wanted(file, start_sec, end_sec), asked.version, duration_sec)
        return self._runtime.asker.most_usd(part, asked.body(asked.tokens), asked.version)

    def iter_ask(
        self,
        file: Any,
        question: str,
        *,
        start_sec: float | None = None,
        end_sec: float | None = None,
        max_cost_usd: float | None = MAX_COST_USD,
        duration_sec: float | None = None,
        **settings: Any,
    ) -> Generator[str, None, None]:
        """``ask``, with the text of the answer in pieces as they come. The call is made when the first piece is taken.

        An answer that is cut off raises ``OutputError`` after its last piece. It is not asked for again.

        Args:
            file: as for ``ask``.
            question: as for ``ask``.
            start_sec: as for ``ask``.
            end_sec: as for ``ask``.
            max_cost_usd: as for ``ask``.
            duration_sec: as for ``ask``.
            settings: ``model``, ``invoke_model_id``, ``max_tokens``, ``temperature``, ``extra`` and
                ``allowed_prefixes``, as for ``ask``.

        Raises:
            InputError: As ``ask``, at once; its other errors come with the first piece.
        """
        return self._pieces(file, question, start_sec, end_sec, max_cost_usd, duration_sec, **settings)

    aask = async_twin(ask, "jobs")
    aask_each = async_twin(ask_each, "jobs")
    aask_price = async_twin(ask_price)

    def aiter_ask(self, file: Any, question: str, **settings: Any) -> AsyncGenerator[str, None]:
        """``iter_ask`` for asyncio: ``async for piece in client.aiter_ask(...)``."""
        token = CancelToken(self._runtime.limiter.cancel_token)
        pieces = self.iter_ask(file, question, **settings)
        return one_by_one(pieces, lambda: self._runtime.pool("jobs"), lambda: self._runtime.pool("async"), token)

    def _pieces(
        self,
        file: Any,
        question: str,
        start_sec: float | None,
        end_sec: float | None,
        max_cost_usd: float | None,
        duration_sec: float | None,
        allowed_prefixes: Sequence[str] | None = None,
        **settings: Any,
    ) -> Generator[str, None, None]:
        if "json_schema" in settings:
            raise InputError("iter_ask has no json_schema: a part of a JSON is no answer. Use ask().")
        asked, costs = Question(text=question, **settings), self._question_costs(max_cost_usd)
        wanted = _wanted(file, start_sec, end_sec, allowed_prefixes)

        def pieces() -> Generator[str, None, None]:
            asker = self._runtime.asker
            yield from asker.iter_ask(asker.sender.part(wanted, asked.version, duration_sec), asked, costs)

        return pieces()

    def _answer(self, wanted: FileRange, asked: Question, costs: JobCosts, duration_sec: float | None = None) -> Answer:
        asker = self._runtime.asker
        return asker.ask(asker.sender.part(wanted, asked.version, duration_sec), asked, costs)

    def _question_costs(self, max_cost_usd: float | None) -> JobCosts:
        check_run(max_cost_usd=max_cost_usd)
        return self._runtime.costs(None if max_cost_usd is None else Budget(max_cost_usd, self._usage.prices))


def _wanted(
    file: Any, start_sec: float | None, end_sec: float | None, allowed_prefixes: Sequence[str] | None = None
) -> FileRange:
    """The part of a file that is asked about: as given, else that of the segment.

    Raises:
        InputError: It is no file, or one that may not be read.
    """
    check_allowed_prefixes(allowed_prefixes)
    media, start, end = range_of(file)
    if media.uri is not None and not is_allowed(media.uri, allowed_prefixes):
        raise InputError(f"{media.name} is not under any of allowed_prefixes, so it is not read.")
    return FileRange(media, start if start_sec is None else start_sec, end if end_sec is None else end_sec)
