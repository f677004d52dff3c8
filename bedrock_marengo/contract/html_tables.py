"""Values as small HTML tables, which notebooks show: plain strings, escaped, without scripts or styles of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from bedrock_marengo.errors import visible
from bedrock_marengo.validation import valid_unicode

__all__ = ["html_table"]


def html_table(rows: Iterable[Sequence[object]], *, head: Sequence[str] = (), note: str = "") -> str:
    """A table with left-aligned cells. The first cell of a row names it, unless there is a head. A note comes below."""
    first = "td" if head else "th"
    lines = [_row(["th"] * len(head), head)] if head else []
    lines += [_row([first, *["td"] * (len(row) - 1)], row) for row in rows]
    below = f"<p>{_text(note)}</p>" if note else ""
    return f"<div><table>{''.join(lines)}</table>{below}</div>"


def _row(tags: Sequence[str], cells: Sequence[object]) -> str:
    styled = [f'<{tag} style="text-align:left">{_text(cell)}</{tag}>' for tag, cell in zip(tags, cells, strict=True)]
    return f"<tr>{''.join(styled)}</tr>"


def _text(value: object) -> str:
    return escape(valid_unicode(visible(str(value))))
