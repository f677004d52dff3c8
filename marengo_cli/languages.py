"""The language of Amazon Transcribe, as typed."""

from __future__ import annotations

from typing import Annotated

import typer

from bedrock_marengo import ConfigurationError, InputError, Transcribe
from marengo_cli.options import names_in

__all__ = ["TranscribeLanguage", "transcribe_of"]

TranscribeLanguage = Annotated[
    str | None,
    typer.Option(
        "--transcribe",
        metavar="LANG",
        help="Transcribe files without captions with Amazon Transcribe, which is billed: auto, multiple, a code "
        "(en-US) or codes to choose from (en-US,de-DE).",
    ),
]


def transcribe_of(language: str | None) -> Transcribe | None:
    """``auto``, ``multiple``, ``en-US`` or ``en-US,de-DE`` -> the settings of Amazon Transcribe.

    Raises:
        InputError: Another word.
    """
    if language is None:
        return None
    codes = names_in(language)
    try:
        return Transcribe(language_options=tuple(codes)) if len(codes) > 1 else Transcribe("".join(codes))
    except ConfigurationError as error:
        raise InputError(
            f"{language!r} is not a language: expected auto, multiple, a language code of Amazon Transcribe such as "
            "en-US, or two or more codes to choose from, such as en-US,de-DE."
        ) from error
