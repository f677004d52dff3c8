"""``marengo ask``: a question to Pegasus about a video or a part of it, with its price first."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bedrock_marengo import BudgetError, InputError, MarengoClient, Segment
from bedrock_marengo.errors import visible
from marengo_cli.options import sources_of
from marengo_cli.terminal import agreed, dollars, print_json, say, waiting

__all__ = ["file_of", "run", "schema_of"]

ASK_ABOVE_USD = 0.25
"""What a question may cost without a confirmation. Ours."""
_RANGE = re.compile(r"(s3://[^#]+|[^#]+)#t=(\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?))?", re.ASCII | re.DOTALL)


def file_of(word: str) -> tuple[Any, dict[str, float]]:
    """A file, a segment's URI or FILE#t=START,END as typed: what to ask about, and the range that is in it.

    Raises:
        InputError: There is no such file, or it is not a video.
    """
    if Segment.find(word) is not None:
        return word, {}
    found = _RANGE.fullmatch(word)
    if found is None or Path(word).exists():
        return sources_of([word])[0], {}
    times = {"start_sec": float(found[2])}
    return sources_of([found[1]])[0], times if found[3] is None else {**times, "end_sec": float(found[3])}


def schema_of(word: str | None) -> dict[str, Any] | None:
    """A JSON Schema: a file, or the JSON itself.

    Raises:
        InputError: It can't be read, or is not a JSON object.
    """
    if word is None:
        return None
    try:
        found = json.loads(word if word.lstrip().startswith("{") else Path(word).read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"--json-schema {word[:80]!r}: expected a file with a JSON Schema: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"--json-schema {word[:80]!r}: expected an object, such as {{'type': 'object'}}.")
    return found


def run(
    client: MarengoClient,
    file: Any,
    question: str,
    settings: dict[str, Any],
    *,
    max_cost_usd: float | None,
    yes: bool,
    as_json: bool,
) -> int:
    """Show the price, ask whether to go on, and print the answer: 2 if the answer was no.

    Raises:
        bedrock_marengo.MarengoError: The question can't be asked, or its answer can't be used.
    """
    most = client.ask_price(file, question, **settings)
    say(f"Pegasus is asked for at most {dollars(most)} USD, which is billed even if the answer is lost.", err=True)
    limit = max(most, ASK_ABOVE_USD) if max_cost_usd is None else max_cost_usd
    if most > limit + 1e-9:
        raise BudgetError(
            f"The question was not asked: it may cost {dollars(most)} USD. Ask about a part of the video, or raise "
            "{max_cost_usd}.",
            spent_usd=0.0,
            exhausted=True,
            remedy={"max_cost_usd": limit},
        )
    is_asked = max_cost_usd is None and most > ASK_ABOVE_USD and not yes
    if is_asked and not agreed("Continue?", "pass --yes, or --max-cost-usd."):
        say("Nothing was asked.", err=True)
        return 2
    with waiting("Pegasus answers"):
        answer = client.ask(file, question, max_cost_usd=limit, **settings)
    if as_json:
        print_json(asdict(answer))
    else:
        say("\n".join(visible(line) for line in answer.text.splitlines()))
        cost = "of unknown cost" if answer.usd is None else f"{dollars(answer.usd)} USD"
        say(f"{cost}, {answer.calls} call{'s' * (answer.calls != 1)}", err=True)
    return 0
