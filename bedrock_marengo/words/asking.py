"""A question to Pegasus: what it costs at most, the call, and the answer. Each call is charged first, then counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract.payloads import Body
from bedrock_marengo.contract.prices import Prices
from bedrock_marengo.errors import ConfigurationError, InputError, OutputError
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.validation import is_int, is_number, short_repr, valid_unicode
from bedrock_marengo.words.answer_schema import check_schema, read_json, schema_to_send
from bedrock_marengo.words.parts import Part, PartSender, Sent
from bedrock_marengo.words.pegasus_calls import AT_ONCE, PegasusCalls, may_be_billed
from bedrock_marengo.words.pegasus_contract import (
    PegasusModel,
    Reply,
    find_pegasus,
    general_body,
    most_tokens,
    times_billed,
    with_extra,
)
from bedrock_marengo.words.sources import Charges

__all__ = ["MAX_TOKENS", "Answer", "Asker", "Question", "check_call"]

MAX_TOKENS = 2048
"""Ours: about 1,500 words, for 0.015 USD at most."""
TRIES = 3
MORE = 4
"""So many calls for an answer that is cut off, each with so many times the tokens of the one before. Ours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What Pegasus answered. ``str(answer)`` is its text.

    Attributes:
        text: the answer; with ``json_schema``, its JSON.
        data: with ``json_schema``, the value, which fits the schema; otherwise None.
        usd: US dollars by the client's prices, answers that were cut off included; None if the length of the file is
            unknown.
        stop_reason: "stop"; "" if the service did not say.
        input_tokens: as the service counted them, which may be 0; None if it didn't.
        output_tokens: the same.
        calls: how many calls it took: an answer that is cut off is asked for again with more tokens.
        model: the base ID of the model.
        source: the file: its S3 URI or its path.
        start_sec: start of what was sent, in seconds from the file's start. A clip has at least 4 seconds.
        end_sec: its end; None for a whole file of unknown length.
    """

    text: str
    data: Any = None
    usd: float | None = None
    stop_reason: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    calls: int = 1
    model: str
    source: str
    start_sec: float = 0.0
    end_sec: float | None = None

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked, checked before any call; ``MarengoClient.ask`` documents it.

    Raises:
        InputError: The question or the schema can't be sent.
        ConfigurationError: Another setting is not valid.
    """

    text: str
    json_schema: Mapping[str, Any] | None = None
    model: str = "1.5"
    invoke_model_id: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Any] | None = None
    version: PegasusModel = field(init=False)

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise InputError(f"{short_repr(self.text)} is not a question: pass a text that is not empty.")
        # numpy's strings and numbers can't be sent.
        object.__setattr__(self, "text", valid_unicode(str.__str__(self.text)))
        version, invoke_id = find_pegasus(self.model)
        object.__setattr__(self, "version", version)
        object.__setattr__(self, "invoke_model_id", self.invoke_model_id or invoke_id)
        check_call(version, self.max_tokens, self.temperature, self.extra)
        if self.json_schema is not None:
            check_schema(self.json_schema)

    @property
    def tokens(self) -> int:
        """The limit of the first call."""
        return int(self.max_tokens or MAX_TOKENS)

    def body(self, tokens: int) -> Body:
        """The request, without its video."""
        schema = None if self.json_schema is None else schema_to_send(self.json_schema)
        body = general_body(self.text, max_tokens=tokens, temperature=self.temperature, schema=schema)
        return with_extra(body, self.extra)


def check_call(model: PegasusModel, max_tokens: Any, temperature: Any, extra: Any) -> None:
    """Refuse settings of a call that the model does not have.

    Raises:
        ConfigurationError: The first of them.
        InputError: ``extra`` is not a mapping.
    """
    least, most = model.min_tokens, model.max_tokens
    if max_tokens is not None and not (is_int(max_tokens, least) and max_tokens <= most):
        raise ConfigurationError(
            f"expected {least:,} to {most:,} tokens (whole number) for Pegasus {model.version}.",
            setting="max_tokens",
            value=max_tokens,
        )
    if temperature is not None and not (is_number(temperature) and 0 <= temperature <= 1):
        raise ConfigurationError("expected a number from 0 to 1.", setting="temperature", value=temperature)
    with_extra({}, extra)


class Asker:
    """Asks Pegasus about parts of files.

    Args:
        calls: InvokeModel.
        sender: makes parts ready to be sent.
        prices: the client's.
    """

    def __init__(self, calls: PegasusCalls, sender: PartSender, prices: Prices) -> None:
        self._calls = calls
        self.sender = sender
        self._prices = prices

    @classmethod
    def of(
        cls,
        aws: Aws,
        objects: S3Objects,
        limiter: RetryLimiter,
        output_s3_uri: str | None,
        prices: Prices,
        *,
        at_once: int = AT_ONCE,
    ) -> Asker:
        """One with its own limit of calls in flight; ``limiter`` cancels those that wait."""
        calls = PegasusCalls(aws, objects, RetryLimiter(at_once, parent=limiter))
        return cls(calls, PartSender(objects, calls, output_s3_uri), prices)

    def most_usd(self, part: Part, body: Body, model: PegasusModel) -> float:
        """The most that one call costs, before anything is cut or uploaded."""
        return self.usd(part.most_sec, body, most_tokens(model, body))

    def ask(self, part: Part, question: Question, charges: Charges) -> Answer:
        """The answer. One that is cut off is thrown away and asked for again with more tokens, within the budget.

        Raises:
            BudgetError: It would cost too much. Nothing was sent for it.
            OutputError: The answer can't be used. Its call is billed.
            ServiceError: AWS refused, or the answer was lost.
            InputError: The file can't be sent.
        """
        sent, spent, version = None, 0.0, question.version
        tokens, what = question.tokens, part.name
        for calls in range(1, TRIES + 1):
            body = question.body(tokens)
            reply, usd, sent = self.call(part, body, version, question.invoke_model_id, charges, sent=sent, what=what)
            spent += usd or 0.0
            reply.check(part.name)
            if not reply.is_cut:
                found = self._answer(reply, part, question, calls)
                return replace(found, usd=None if usd is None else spent)
            tokens = min(tokens * MORE, version.max_tokens)
            if most_tokens(version, question.body(tokens)) == most_tokens(version, body):
                break
            what = f"Asking again, with {tokens:,} tokens as the answer was cut off, about {part.name}"
        raise _cut_off(part.name, most_tokens(version, body), spent)

    def iter_ask(self, part: Part, question: Question, charges: Charges) -> Iterator[str]:
        """The answer's text in pieces, as they come. Raises as ``ask``; one that is cut off is an error at its end."""
        version, body = question.version, question.body(question.tokens)
        charged = charges.charge(part.name, self.most_usd(part, body, version))
        reply, sent = None, None
        try:
            sent = self.sender.prepare(part, version)
            for piece in self._calls.stream(version, question.invoke_model_id, _whole(body, sent), part.name):
                if isinstance(piece, Reply):
                    reply = piece
                else:
                    yield piece
        except BaseException as error:
            # Of an answer that is left or broken off, no one knows how many tokens are billed.
            if sent is not None and may_be_billed(error):
                charges.called("pegasus")
            else:
                charges.refund(charged)
            raise
        assert reply is not None  # noqa: S101  a stream ends with one
        self._count(reply, sent, body, version, charges, charged)
        if reply.is_cut:
            raise _cut_off(part.name, most_tokens(version, body), None)

    def call(
        self,
        part: Part,
        body: Body,
        model: PegasusModel,
        invoke_id: str | None,
        charges: Charges,
        *,
        sent: Sent | None = None,
        what: str | None = None,
    ) -> tuple[Reply, float | None, Sent]:
        """One call: charged, sent, counted.

        Args:
            part: what it is about.
            body: the request without its video.
            model: the version that is asked.
            invoke_id: what InvokeModel gets; None if the region decides it.
            charges: what pays.
            sent: the part as it was sent before.
            what: what is not done if it costs too much; the part's name by default.

        Returns:
            The reply, which may be cut off or unreadable; US dollars, None if the length is unknown; the part as sent.

        Raises:
            BudgetError: It would cost too much. Nothing was sent.
            ServiceError: AWS refused, or the answer was lost: then it stays charged, and counts as unknown.
            InputError: The file can't be sent.
        """
        charged = charges.charge(what or part.name, self.most_usd(part, body, model))
        is_sent = False
        try:
            sent = sent or self.sender.prepare(part, model)
            is_sent = True
            reply = self._calls.invoke(model, invoke_id, _whole(body, sent), part.name)
        except BaseException as error:
            if is_sent and may_be_billed(error):
                charges.called("pegasus")
            else:
                charges.refund(charged)
            raise
        return reply, self._count(reply, sent, body, model, charges, charged), sent

    def _count(
        self, reply: Reply, sent: Sent, body: Body, model: PegasusModel, charges: Charges, charged: float
    ) -> float | None:
        """Count a call that was answered, and give back what it did not cost: US dollars; None if that is unknown."""
        charges.called("pegasus")
        if sent.billed_sec is None:
            return None
        tokens = most_tokens(model, body) if reply.output_tokens is None else reply.output_tokens
        usd = self.usd(sent.billed_sec, body, tokens)
        charges.priced("pegasus", sent.billed_sec * times_billed(body), usd)
        charges.refund(max(0.0, charged - usd))
        return usd

    def usd(self, seconds: float, body: Body, tokens: int) -> float:
        """US dollars for so many seconds of video and tokens of answers."""
        prices = self._prices
        return seconds * times_billed(body) * prices.pegasus_sec + tokens * prices.pegasus_output_token

    def _answer(self, reply: Reply, part: Part, question: Question, calls: int) -> Answer:
        schema = question.json_schema
        return Answer(
            text=reply.text,
            data=None if schema is None else read_json(reply.text, schema, part.name),
            stop_reason=reply.stop_reason,
            input_tokens=reply.input_tokens,
            output_tokens=reply.output_tokens,
            calls=calls,
            model=question.version.model_id,
            source=part.media.name,
            start_sec=part.start_sec,
            end_sec=part.end_sec,
        )


def _whole(body: Body, sent: Sent) -> Body:
    """A request with its video. The user's own fields come first: they may name another window."""
    return {"mediaSource": sent.location, **sent.window, **body}


def _cut_off(what: str, tokens: int, usd: float | None) -> OutputError:
    cost = "" if usd is None else f" It cost {usd:.4f} USD."
    return OutputError(
        f"Pegasus' answer about {what} was cut off at {tokens:,} tokens, so it was thrown away.{cost} Ask for less, "
        "ask about a shorter range, or set a higher max_tokens."
    )
