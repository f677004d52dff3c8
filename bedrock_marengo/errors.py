"""Every error a user meets, when it comes, and what to do about it.

The ground floor: imports nothing of the package. ``docs/errors.md`` is made from the classes below.
"""

from __future__ import annotations

import unicodedata
import warnings
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any, ClassVar

__all__ = [
    "BudgetError",
    "ClosedError",
    "ConfigurationError",
    "InputError",
    "JobError",
    "MarengoError",
    "MarengoWarning",
    "MediaFailedError",
    "MediaNotFoundError",
    "NotEmbeddedError",
    "OutputError",
    "SegmentNotFoundError",
    "ServiceError",
    "as_keyword",
    "short_repr",
    "visible",
    "warn_once",
]

Spelling = Callable[[str, Any], str]
"""(setting, value) -> how a front end writes them; the value is ``...`` where any will do."""

_SECRETS = frozenset(
    {"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "session", "config", "bedrock_client"}
)
"""Settings that hold credentials, also those that take an object: a key may have been given by mistake."""
_NAMED = 3
"""Failed files that a message names; ``.failed`` has all."""
_LONG, _SHOWN = 1000, 80
"""Characters over which a string may be media in base64, and over which it is cut."""


class _Message:
    """A message that names settings, so that each front end can write them its own way.

    Args:
        message: what is wrong, the limit, and what to do; ``{name}`` stands for a setting of ``remedy``.
        setting: the setting that was refused, as ``MarengoClient`` calls it.
        value: what it was set to; then both begin the message. No credential and no media are kept.
        remedy: the settings that the message advises to use, with a value that helps, or ``...`` for any.
    """

    setting: str | None = None
    value: Any = None
    remedy: Mapping[str, Any] = {}

    def __init__(
        self, *message: Any, setting: str | None = None, value: Any = ..., remedy: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(*message)
        if setting is not None:
            self.setting, self.value = setting, _kept(setting, value)
        if remedy:
            self.remedy = dict(remedy)

    def render(self, spell: Spelling) -> str:
        """The message with its settings in a front end's spelling."""
        text = super().__str__()
        for name, value in self.remedy.items():
            text = text.replace(f"{{{name}}}", spell(name, value))
        if self.setting is None or self.value is ...:
            return visible(text)
        return visible(f"{spell(self.setting, self.value)}: {text}")

    def __str__(self) -> str:
        return self.render(as_keyword)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class MarengoError(_Message, Exception):
    """The base of all errors of this package.

    Attributes:
        setting: the refused setting, as ``MarengoClient`` calls it; None if the error is not about one.
        value: what it was set to; ``...`` if it was not set.
        remedy: the settings that would help, with a value for each.
    """

    when: ClassVar[str] = "Never raised itself: catch it to catch every error of this package."
    action: ClassVar[str] = "See the classes below."


class InputError(MarengoError, ValueError):
    """An input that Marengo would refuse. Raised before any call that costs."""

    when: ClassVar[str] = "Marengo does not accept a value, file or query. No call was made that costs anything."
    action: ClassVar[str] = "Correct the input. The message names it and gives the limit."


class ConfigurationError(MarengoError, ValueError):
    """A setting is missing or not valid: region, model ID, bucket, owner, output prefix."""

    when: ClassVar[str] = "A setting is missing or invalid, or does not match the AWS account."
    action: ClassVar[str] = "Correct the setting (`error.setting`). `marengo doctor` checks all of them against AWS."


class BudgetError(MarengoError):
    """A job was not started because of its cost. Nothing was paid for it; the next run continues from there.

    Attributes:
        spent_usd: what the run had cost, in US dollars.
        exhausted: True if nothing more is started; False if only this file's cost is unknown.
    """

    when: ClassVar[str] = "The job was not started: it would exceed `max_cost_usd`, or its cost is unknown."
    action: ClassVar[str] = "Run again with a higher budget: finished files are reused. If durations are unknown, "
    action += "set `durations` or `assume_duration_sec`."

    def __init__(
        self, message: str, *, spent_usd: float, exhausted: bool, remedy: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.spent_usd = spent_usd
        self.exhausted = exhausted

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (BudgetError, self.args, self.__dict__)


class ClosedError(MarengoError):
    """The client was closed while the call waited. Nothing is lost: the next run finds what was paid for."""

    when: ClassVar[str] = "The client was closed, or the run was abandoned, while the call waited."
    action: ClassVar[str] = (
        "Run again with an open client. It finds running and finished jobs, and you don't pay for them again."
    )


class MediaNotFoundError(MarengoError, LookupError):
    """A listing proved that the file does not exist."""

    when: ClassVar[str] = "The file, bucket or prefix does not exist, according to an S3 listing."
    action: ClassVar[str] = "Check the URI. Write the key as it is on S3, not percent-encoded."


class NotEmbeddedError(MarengoError, LookupError):
    """The file was not embedded with these options before, and only finished work was asked for."""

    when: ClassVar[str] = "With `only_done=True`: the file has not been embedded with these options."
    action: ClassVar[str] = "Embed it first with the same options, or run without `only_done`."


class MediaFailedError(MarengoError):
    """Several files failed; the others are done.

    Attributes:
        failed: the ``MediaResult`` of each, with ``.source`` and ``.error``.
    """

    when: ClassVar[str] = "Several files of a run failed, after all others were finished."
    action: ClassVar[str] = "Fix the error of each file in `.failed` and run again. Finished files are reused."

    def __init__(self, failed: Sequence[Any]) -> None:
        shown = "; ".join(f"{done.name}: {done.error}" for done in failed[:_NAMED])
        more = f"; and {len(failed) - _NAMED:,} more" if len(failed) > _NAMED else ""
        super().__init__(f"{len(failed):,} files failed: {shown}{more}")
        self.failed = list(failed)

    def __reduce__(self) -> tuple[Any, ...]:
        return MediaFailedError, (self.failed,)


class SegmentNotFoundError(MarengoError, LookupError):
    """A segment's URI has no vector under the client's output prefix."""

    when: ClassVar[str] = "There is no vector for a segment's URI under the client's `output_s3_uri`."
    action: ClassVar[str] = "Use the `output_s3_uri` that the file was embedded with, or embed the file again."


class OutputError(MarengoError):
    """A response or an output.json that can't be used: cut off, not JSON, or of another dimension.

    Attributes:
        is_kept: whether it is whole, but of a form that this version of the package can't read. It stays as it is, and
            no new job is started instead.
    """

    when: ClassVar[str] = (
        "A response or an `output.json` is truncated, is not valid JSON, or has vectors of the wrong dimension."
    )
    action: ClassVar[str] = (
        "Run again. If the error persists, the object was changed on S3: embed again with `force=True`."
    )

    def __init__(self, *message: Any, is_kept: bool = False) -> None:
        super().__init__(*message)
        self.is_kept = is_kept


class JobError(MarengoError):
    """An asynchronous invocation failed, Bedrock no longer knows it, or the wait for it ended.

    Attributes:
        source: URI of the file.
        arn: ARN of the invocation, if one was ever started.
        transient: whether a new attempt may succeed.
        running: whether the job is still running, and only the wait for it ended.
    """

    when: ClassVar[str] = "A job failed, Bedrock no longer knows it, or `timeout_sec` passed while it ran."
    action: ClassVar[str] = "If `.running`, collect it later. If `.transient`, run again. Otherwise correct the file; "
    action += "to pay for a new job, use `force=True`."

    def __init__(
        self,
        message: str,
        *,
        source: str,
        arn: str | None,
        transient: bool = False,
        running: bool = False,
        remedy: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.source = source
        self.arn = arn
        self.transient = transient
        self.running = running

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (JobError, self.args, self.__dict__)


class ServiceError(MarengoError):
    """AWS refused a call, or could not be reached.

    Attributes:
        code: AWS's error code, or the name of botocore's exception.
        operation: the operation that was called.
    """

    when: ClassVar[str] = "AWS refused a call or could not be reached, even after retries."
    action: ClassVar[str] = (
        "Follow the advice in the message (see the codes below), or run `marengo doctor` to find the cause."
    )

    advice_for: ClassVar[Callable[[str, str], tuple[str, Mapping[str, Any]]]] = staticmethod(lambda *_: ("", {}))
    """(code, AWS's message) -> what to do, and its ``remedy``. Set by ``aws/retries.py``, which has the table."""

    def __init__(self, message: str, *, code: str, operation: str, remedy: Mapping[str, Any] | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code
        self.operation = operation

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (ServiceError, self.args, self.__dict__)

    @classmethod
    def of(cls, error: Exception, operation: str, what: str) -> ServiceError:
        """The error for a botocore exception: what was called, what AWS answered, what to do.

        What to do is the error's own ``advice``, which ``aws/credentials.py`` adds, or depends on its code.
        """
        code, said = error_code(error), error_message(error)
        advice, remedy = getattr(error, "advice", None) or cls.advice_for(code, said)
        message = f"{operation} for {what}: {code}: {said}{' | ' * bool(advice)}{advice}"
        return cls(message, code=code, operation=operation, remedy=remedy)


class MarengoWarning(_Message, UserWarning):
    """Something worth knowing that stops nothing: a model near its end of life, a text that may be cut."""


def as_keyword(setting: str, value: Any) -> str:
    """A setting as in Python: ``name=value``, or the name alone if any value will do."""
    return setting if value is ... else f"{setting}={value!r}"


def short_repr(value: object) -> str:
    """A value in a message: strings cut short, and what may hold media or secrets by its type and size alone."""
    return repr(_plain(value))


def visible(text: str) -> str:
    """A text for terminals and logs: control characters, line breaks and marks that reorder a line are escaped.

    Names of files and captions come from others: an escape sequence would be carried out, and a line break begins what
    looks like another message.
    """
    if text.isprintable():
        return text
    return "".join(ascii(char)[1:-1] if _is_control(char) else char for char in text)


def error_code(error: Exception) -> str:
    """AWS's error code; for errors without a response (connection, credentials) the exception's name."""
    # botocore's connection errors carry response = None.
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code") or type(error).__name__)


def error_message(error: Exception) -> str:
    """AWS's message, or the exception's own text."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Message") or error)


def http_status(error: Exception) -> int | None:
    """The HTTP status of AWS's response; None if there was none."""
    response = getattr(error, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status else None


def warn_once(key: str, message: str, *, remedy: Mapping[str, Any] | None = None, stacklevel: int = 5) -> None:
    """Warn once per process for each ``key``, at the line that called the client."""
    # Of threads that warn at the same moment, one finds its own mark: setdefault is atomic.
    mark = object()
    if _warned.setdefault(key, mark) is mark:
        warnings.warn(MarengoWarning(message, remedy=remedy), stacklevel=stacklevel)


_warned: dict[str, object] = {}
_CONTROL = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
"""Categories of Unicode that a terminal acts on or can't encode; and what Persian, Hindi and emoji are written with."""


def _is_control(char: str) -> bool:
    return unicodedata.category(char) in _CONTROL and char not in _JOINERS


class _Described(str):
    """What is shown instead of a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _plain(value: Any) -> Any:
    """A value as it may be kept and shown."""
    if isinstance(value, str):
        if len(value) > _LONG:
            return _Described(f"a string of {len(value):,} characters")
        return value if len(value) <= _SHOWN else f"{value[: _SHOWN - 3]}..."
    if value is None or isinstance(value, Number):
        return value
    return _Described("[]" if isinstance(value, list | tuple) and not value else type(value).__name__)


def _kept(setting: str, value: Any) -> Any:
    if value is ...:
        return value
    if setting in _SECRETS:
        return _Described(type(value).__name__)
    if setting.endswith("_url") and isinstance(value, str):
        # Before an "@" in a URL is a password.
        value = value.rpartition("@")[2]
    return _plain(value)


def _rebuild(kind: type[Exception], args: tuple[Any, ...], state: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
