"""Questions with their right moments, from JSON Lines, rows or a DataFrame. All problems are reported at once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from bedrock_marengo.contract.inputs import Query, kind_of_name, split_s3_uri
from bedrock_marengo.contract.paths import is_path, local_path_or_s3_uri
from bedrock_marengo.contract.segments import MAX_SEC
from bedrock_marengo.errors import InputError
from bedrock_marengo.validation import is_number, require_many, short_repr

__all__ = ["Question", "RightMoment", "milliseconds_of", "read_questions"]

MAX_BYTES = 64 * 1024**2
"""Our own limit for a file of questions: about 400,000 rows."""
MAX_SHOWN = 50
"""Problems that an error shows; it counts the rest. Ours."""

_COLUMNS = ("query", "source", "start_sec", "end_sec")


@dataclass(frozen=True, slots=True)
class RightMoment:
    """A moment that answers a question.

    Args:
        source: S3 URI of the file.
        start_sec: where it begins, in seconds; None if the whole file is right, as of an image.
        end_sec: where it ends, in seconds.
    """

    source: str
    start_sec: float | None = None
    end_sec: float | None = None

    @property
    def span_ms(self) -> tuple[int, int] | None:
        """Its times in whole milliseconds; None for a whole file."""
        return milliseconds_of(self.start_sec, self.end_sec)


@dataclass(frozen=True, slots=True)
class Question:
    """A query and the moments that answer it.

    Args:
        query: a text, or a ``Query``.
        right: its right moments, one or more.
        columns: what else the rows had, such as ``id`` or ``tags``: of the query's first row.
    """

    query: str | Query
    right: tuple[RightMoment, ...]
    columns: Mapping[str, Any] = field(default_factory=dict)


def read_questions(questions: Any, *, any_source: bool = False) -> list[Question]:
    """Questions in the order of their first rows; rows of one query are one question with several right moments.

    A row has ``query``, ``source``, ``start_sec`` and ``end_sec``. Both times are null if the whole file is right; a
    row of an image needs none. Further columns are kept.

    Args:
        questions: a ``pathlib.Path`` of JSON Lines, a DataFrame (pandas, Polars), or a list of mappings, dataclasses
            or ``Question``.
        any_source: also accept sources that are not S3 URIs, for a front end that knows files by other names. So does
            a list of ``Question``.

    Raises:
        InputError: There are no questions, the file can't be read, or rows are wrong: all of them are named.
    """
    known: list[Question] = []
    numbers: dict[str, int] = {}
    problems: list[str] = []
    # What was read before may have sources that a front end knows.
    any_source = any_source or (isinstance(questions, list) and all(isinstance(each, Question) for each in questions))
    for place, row in _rows(questions):
        found = [row] if isinstance(row, str) else list(_problems(row, any_source))
        problems += [f"{place}: {problem}" for problem in found]
        if not found and isinstance(row, Mapping):
            _add(known, numbers, row)
    if problems:
        more = f"; and {len(problems) - MAX_SHOWN:,} more" if len(problems) > MAX_SHOWN else ""
        raise InputError(f"The questions have {len(problems):,} problems: {'; '.join(problems[:MAX_SHOWN])}{more}")
    if not known:
        raise InputError("There are no questions: expected rows of query, source, start_sec and end_sec.")
    return known


def milliseconds_of(start_sec: float | None, end_sec: float | None) -> tuple[int, int] | None:
    """Times in whole milliseconds; None if they are no time range, as of an image."""
    if start_sec is None or end_sec is None:
        return None
    start, end = round(start_sec * 1000), round(end_sec * 1000)
    return (start, end) if end > start else None


def _add(known: list[Question], numbers: dict[str, int], row: Mapping[str, Any]) -> None:
    query = row["query"].strip() if isinstance(row["query"], str) else row["query"]
    times = (row.get("start_sec"), row.get("end_sec"))
    is_timed = milliseconds_of(*times) is not None
    right = RightMoment(row["source"], *(float(sec) if is_timed else None for sec in times))  # type: ignore[arg-type]
    if isinstance(query, str):
        i = numbers.setdefault(query, len(known))
    else:
        # A Query may hold a mapping, which has no hash.
        i = next((i for i, question in enumerate(known) if question.query == query), len(known))
    if i == len(known):
        columns = {name: value for name, value in row.items() if name not in _COLUMNS}
        known.append(Question(query, (right,), columns))
    elif all((right.source, right.span_ms) != (other.source, other.span_ms) for other in known[i].right):
        known[i] = replace(known[i], right=(*known[i].right, right))


def _problems(row: Mapping[str, Any], any_source: bool) -> Iterator[str]:
    query, source = row.get("query"), row.get("source")
    if isinstance(query, str):
        if not query.strip():
            yield "query is empty: write what people would search for"
    elif not isinstance(query, Query):
        yield f"query={short_repr(query)}: expected a text"
    if not isinstance(source, str) or not source.strip():
        yield f"source={short_repr(source)}: expected the S3 URI of a file, such as 's3://bucket/match.mp4'"
    elif not any_source and not _is_object(source):
        yield f"source={short_repr(source)}: expected the S3 URI of a file, as the segments' metadata have it"
    yield from _problems_of_times(row, kind_of_name(source) if isinstance(source, str) else None)


def _problems_of_times(row: Mapping[str, Any], kind: str | None) -> Iterator[str]:
    given = {name: row[name] for name in ("start_sec", "end_sec") if name in row}
    wrong = [name for name, value in given.items() if value is not None and not _is_time(value)]
    for name in wrong:
        yield f"{name}={short_repr(given[name])}: expected seconds, 0 or more and less than {MAX_SEC:,.0f}"
    start_sec, end_sec = given.get("start_sec"), given.get("end_sec")
    if wrong:
        return
    if kind == "image":
        if start_sec or end_sec:
            yield f"start_sec={start_sec}, end_sec={end_sec}: an image has no time, so leave both out"
        return
    if missing := [name for name in ("start_sec", "end_sec") if name not in given]:
        yield f"there is no {' and no '.join(missing)}: pass both in seconds, or null for both if all of it is right"
    elif (start_sec is None) != (end_sec is None):
        yield f"start_sec={start_sec}, end_sec={end_sec}: pass both, or null for both if the whole file is right"
    elif start_sec is not None and milliseconds_of(start_sec, end_sec) is None:
        yield f"start_sec={start_sec}, end_sec={end_sec}: a moment ends after it begins"


def _is_time(value: Any) -> bool:
    return is_number(value) and 0 <= value < MAX_SEC


def _is_object(source: str) -> bool:
    try:
        return bool(split_s3_uri(source)[1]) and not source.endswith("/")
    except InputError:
        return False


def _rows(questions: Any) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    """(place, row), or the problem instead of a row."""
    if is_path(questions):
        yield from _lines(questions)
        return
    if isinstance(questions, str):
        raise InputError(f"questions={short_repr(questions)} is a string: pass a file as pathlib.Path(...).")
    if hasattr(questions, "to_dicts"):
        questions = questions.to_dicts()
    elif hasattr(questions, "columns") and hasattr(questions, "to_dict"):
        questions = questions.to_dict("records")
    for number, row in enumerate(require_many(questions, "questions=", "rows"), start=1):
        for each in _plain_rows(row):
            yield f"row {number}", each


def _plain_rows(row: Any) -> Iterator[Mapping[str, Any] | str]:
    if isinstance(row, Question):
        rows: Iterable[Any] = ({**row.columns, "query": row.query, **_fields(moment)} for moment in row.right)
        if not row.right:
            yield "the question has no right moment"
    elif dataclasses.is_dataclass(row) and not isinstance(row, type):
        rows = [_fields(row)]
    else:
        rows = [row]
    for each in rows:
        if isinstance(each, Mapping):
            yield {name: None if _is_missing(value) else value for name, value in each.items()}
        else:
            yield f"{short_repr(each)}: expected query, source, start_sec and end_sec"


def _fields(row: Any) -> dict[str, Any]:
    return {each.name: getattr(row, each.name) for each in dataclasses.fields(row)}


def _is_missing(value: Any) -> bool:
    """What a DataFrame has where there is nothing: NaN, NaT or NA, whose comparisons are not booleans."""
    return type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def _lines(file: os.PathLike[str]) -> Iterator[tuple[str, Mapping[str, Any] | str]]:
    path = local_path_or_s3_uri(file)
    if not isinstance(path, Path):
        raise InputError(f"{path!r}: questions are read from a local file. Download it, or pass its rows as a list.")
    try:
        if not path.is_file():
            raise InputError(f"{str(path)!r}: there is no such file. Expected JSON Lines, one row on each line.")
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{str(path)!r} is larger than {MAX_BYTES:,} bytes: pass fewer questions.")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{str(path)!r} can't be read: {error.strerror}.") from error
    # Not splitlines: a text may hold characters that it takes for line breaks.
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield f"line {number}", _row_of(line)


def _row_of(line: bytes) -> Mapping[str, Any] | str:
    try:
        row = msgspec.json.decode(line.decode())
    except UnicodeDecodeError:
        return "not UTF-8: save the file as UTF-8"
    except (msgspec.DecodeError, RecursionError) as error:
        return f"not JSON ({error}): expected one object on each line"
    return row if isinstance(row, dict) else f"{short_repr(row)}: expected an object with query and source"
