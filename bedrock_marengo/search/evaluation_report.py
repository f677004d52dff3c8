"""What ``evaluate`` measured: as text, as a DataFrame, and as HTML for notebooks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import import_module
from typing import Any

import numpy as np

from bedrock_marengo.errors import InputError, visible
from bedrock_marengo.search.citations import describe_query
from bedrock_marengo.search.metrics import FEW_QUESTIONS, Numbers, bootstrap
from bedrock_marengo.search.questions import Question
from bedrock_marengo.validation import valid_unicode

__all__ = ["Evaluation"]

_STYLE = "text-align:right;padding:2px 8px;white-space:nowrap"
_SMALL = "opacity:.65;font-size:85%"


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """The metrics of each row (a retriever, track, fusion or preset), and how they differ from the baseline's.

    Attributes:
        questions: what was asked.
        k: how many hits count.
        names: the rows.
        metrics: the columns: recall at 1, 5 and k, MRR, nDCG, tIoU (the best overlap of a right moment, its mean), and
            ``"R@n, IoU=m"``: the share of questions where one of the first n hits overlaps a right moment by m.
        values: ``(rows, questions, metrics)``, 0 to 1; NaN if a question has no times to compare.
        baseline: the row that the others are compared with.
        min_iou: the least overlap of a right hit; None if its middle decides.
        seed: of the bootstrap.
        missing_sources: retriever -> the files of right moments that it can't find.
        means: ``(rows, metrics)``.
        differences: ``(rows, metrics)``, to the baseline.
        low: ``(rows, metrics)``, where the 95 % intervals of the differences begin: paired bootstrap over questions.
        high: ``(rows, metrics)``, where they end.
    """

    questions: tuple[Question, ...]
    k: int
    names: tuple[str, ...]
    metrics: tuple[str, ...]
    values: Numbers = field(repr=False)
    baseline: str
    min_iou: float | None = None
    seed: int = 0
    missing_sources: Mapping[str, Sequence[str]] = field(default_factory=dict)
    means: Numbers = field(init=False, repr=False)
    differences: Numbers = field(init=False, repr=False)
    low: Numbers = field(init=False, repr=False)
    high: Numbers = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rows, count, columns = self.values.shape
        paired = self.values - self.values[self.names.index(self.baseline)]
        flat = paired.transpose(1, 0, 2).reshape(count, rows * columns)
        low, high = bootstrap(flat, self.seed).reshape(2, rows, columns)
        computed = {"means": _means(self.values), "differences": _means(paired), "low": low, "high": high}
        for name, value in computed.items():
            object.__setattr__(self, name, value)

    def records(self, *, per_question: bool = False) -> list[dict[str, Any]]:
        """The table as one mapping for each row, or for each row and question.

        Args:
            per_question: each question's own metrics, with its ``query``, and its columns such as ``id`` or ``tags``.
        """
        if per_question:
            return [
                {**question.columns, "query": describe_query(question.query), "row": name, **self._named(values)}
                for name, rows in zip(self.names, self.values, strict=True)
                for question, values in zip(self.questions, rows, strict=True)
            ]
        return [
            {
                "row": name,
                **self._named(self.means[i]),
                **self._named(self.differences[i], " difference"),
                **self._named(self.low[i], " low"),
                **self._named(self.high[i], " high"),
            }
            for i, name in enumerate(self.names)
        ]

    def to_pandas(self, *, per_question: bool = False) -> Any:
        """``records`` as a pandas DataFrame.

        Raises:
            InputError: pandas is not installed.
        """
        try:
            pandas = import_module("pandas")
        except ModuleNotFoundError as error:
            raise InputError("to_pandas() needs pandas: pip install pandas, or use records().") from error
        return pandas.DataFrame(self.records(per_question=per_question))

    def cells(self, metric: str) -> list[str]:
        """One metric's difference of each row, with its interval: ``+0.050 [-0.010, +0.110]``.

        Raises:
            InputError: There is no such metric.
        """
        if metric not in self.metrics:
            raise InputError(f"{metric!r} is not a metric of this table: expected {', '.join(self.metrics)}.")
        j = self.metrics.index(metric)
        return [
            "baseline" if name == self.baseline else _interval(self.differences[i, j], self.low[i, j], self.high[i, j])
            for i, name in enumerate(self.names)
        ]

    @property
    def notes(self) -> list[str]:
        """What to know when reading the table."""
        count, moments = len(self.questions), sum(len(question.right) for question in self.questions)
        notes = [
            f"Questions: {count:,}. Right moments: {moments:,}. Hits that count: {self.k}. Differences to "
            f"{self.baseline!r}, with 95 % intervals (paired bootstrap over questions): one that contains 0 shows no "
            "difference."
        ]
        if self.min_iou is not None:
            notes.append(f"A hit is right if its IoU with a right moment is {self.min_iou:g} or more.")
        if count < FEW_QUESTIONS:
            notes.append(f"Intervals of fewer than {FEW_QUESTIONS} questions are too narrow: write more questions.")
        for name, sources in self.missing_sources.items():
            notes.append(f"{len(sources):,} of the questions' files were not found by {name}; see missing_sources.")
        return notes

    def __str__(self) -> str:
        main = [name for name in self.metrics if not name.startswith("R@")]
        ndcg = f"nDCG@{self.k}"
        columns = [["", *map(visible, self.names)]]
        for j in map(self.metrics.index, main):
            columns.append([self.metrics[j], *map(_number, self.means[:, j])])
        columns.append([f"{ndcg}, difference", *self.cells(ndcg)])
        widths = [max(map(len, column)) for column in columns]
        lines = [
            "  ".join(
                cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in zip(*columns, strict=True)
        ]
        return "\n".join([*lines, *map(visible, self.notes)])

    def _repr_html_(self) -> str:
        """A table with all metrics. Loads nothing; every name is escaped."""
        cells = {metric: self.cells(metric) for metric in self.metrics}
        head = _row("th", ["", *self.metrics])
        body = [
            _row("td", [name, *map(_number, self.means[i])], [cells[metric][i] for metric in self.metrics])
            for i, name in enumerate(self.names)
        ]
        notes = "".join(f'<p style="{_SMALL}">{_text(note)}</p>' for note in self.notes)
        return f"<div><table><thead>{head}</thead><tbody>{''.join(body)}</tbody></table>{notes}</div>"

    def _named(self, values: Iterable[float], suffix: str = "") -> dict[str, float]:
        return {f"{metric}{suffix}": float(value) for metric, value in zip(self.metrics, values, strict=True)}


def _means(values: Numbers) -> Numbers:
    """Over questions, of ``(rows, questions, metrics)``; NaN where no question has a number."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means: Numbers = np.where(known, values, 0.0).sum(axis=1) / known.sum(axis=1)
    return means


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _interval(difference: float, low: float, high: float) -> str:
    # Without "-0.000", which looks like a difference.
    numbers = [f"{round(value, 3) + 0.0:+.3f}" for value in (difference, low, high)]
    return "-" if math.isnan(difference) else f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def _row(tag: str, cells: Sequence[str], small: Sequence[str] = ()) -> str:
    below = ["", *(f'<br><span style="{_SMALL}">{_text(text)}</span>' for text in small)]
    below += [""] * (len(cells) - len(below))
    styled = [
        f'<{tag} style="{_STYLE if i else "text-align:left"}">{_text(cell)}{below[i]}</{tag}>'
        for i, cell in enumerate(cells)
    ]
    return f"<tr>{''.join(styled)}</tr>"


def _text(text: str) -> str:
    return escape(valid_unicode(text))
