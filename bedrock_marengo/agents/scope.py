"""Which files a model may reach: those that the retriever and the application allow. A model can only narrow them."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote

from bedrock_marengo.contract.inputs import split_s3_uri
from bedrock_marengo.contract.moments import check_allowed_prefixes, is_allowed
from bedrock_marengo.errors import InputError
from bedrock_marengo.search.targets import is_within

__all__ = ["Scope", "decoded"]


class Scope:
    """The sources that may be searched, listed and read.

    Args:
        sources: the retriever's own: exact, or a prefix if it ends in "/"; empty for all.
        allowed_prefixes: the application's S3 prefixes and objects; None for all.

    Raises:
        InputError: They are not lists of S3 URIs.
    """

    def __init__(self, sources: Sequence[str], allowed_prefixes: Sequence[str] | None) -> None:
        check_allowed_prefixes(allowed_prefixes)
        self.allowed_prefixes = None if allowed_prefixes is None else tuple(allowed_prefixes)
        self._limits = [list(sources)] if sources else []
        if self.allowed_prefixes is not None:
            both = [(prefix, prefix if prefix.endswith("/") else f"{prefix}/") for prefix in self.allowed_prefixes]
            self._limits.append(list(dict.fromkeys(each for pair in both for each in pair)))

    def holds(self, source: str) -> bool:
        """Whether a source (raw S3 URI) may be read."""
        return is_allowed(source, self.allowed_prefixes) and all(
            any(is_within(source, limit) for limit in limits) for limits in self._limits
        )

    def narrowed(self, wanted: Sequence[str] | None) -> list[str]:
        """The sources to search, of those that a model asks for; of None, all; an empty list has no limit.

        Raises:
            InputError: None of them may be searched.
        """
        found = [] if wanted is None else _both_forms(wanted)
        for limits in self._limits:
            found = list(dict.fromkeys(_shared(found, limits))) if found else limits
            if not found:
                raise InputError("None of these sources is in this archive: list_videos shows what is.")
        return found


def decoded(uri: str) -> list[str]:
    """The raw S3 URIs that a text may stand for: percent-decoded, as ids are written, and as it is.

    Raises:
        InputError: It is not an S3 URI.
    """
    split_s3_uri(uri)
    forms = [unquote(uri, errors="replace"), uri]
    return list(dict.fromkeys(form for form in forms if "\ufffd" not in form)) or [uri]


def _both_forms(wanted: Sequence[str]) -> list[str]:
    try:
        return [form for each in wanted for form in decoded(each)]
    except InputError:
        raise InputError(
            "sources has something that is not an S3 URI. Use ids of list_videos; paths and URLs are not opened."
        ) from None


def _shared(wanted: Sequence[str], limits: Sequence[str]) -> list[str]:
    """What two lists of sources and prefixes have in common."""
    found = []
    for each in wanted:
        for limit in limits:
            if is_within(each, limit):
                found.append(each)
            elif is_within(limit, each):
                found.append(limit)
    return found
