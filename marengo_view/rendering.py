"""Render templates to HTML. Every value is escaped, except a View, which is HTML already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from bedrock_marengo import InputError, MarengoClient, SegmentEmbeddings
from bedrock_marengo.contract.words import clock
from bedrock_marengo.validation import require_many, short_repr, valid_unicode
from marengo_view.highlights import parts_of

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup, escape
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"marengo_view needs {error.name}: pip install 'bedrock-marengo[view]'", name=error.name
    ) from error

__all__ = ["LEAST_COSINE", "HasCore", "View", "asset", "client_of", "embeddings_list", "render"]


LEAST_COSINE = 0.0005
"""Closer to 0, a cosine reads 0.000: its track found nothing."""


class HasCore(Protocol):
    """LangChain's MarengoEmbeddings or LlamaIndex's MarengoEmbedding."""

    @property
    def core(self) -> MarengoClient:
        """The client that the embeddings use."""


@dataclass(frozen=True, slots=True)
class View:
    """HTML that a notebook displays when it is the last expression of a cell.

    Attributes:
        html: the complete fragment: styles, text and images.
    """

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html

    def __html__(self) -> str:
        return self.html


def render(template: str, **values: Any) -> str:
    """Render a template to text that can be encoded as UTF-8."""
    return valid_unicode(_templates().get_template(template).render(values))


def client_of(client: MarengoClient | HasCore) -> MarengoClient:
    """The client itself, or the one inside a framework's embeddings.

    Raises:
        InputError: ``client`` is neither.
    """
    core = getattr(client, "core", client)
    if not isinstance(core, MarengoClient):
        raise InputError(
            f"client={short_repr(client)} is not a client. Pass a MarengoClient, MarengoEmbeddings or MarengoEmbedding."
        )
    return core


def embeddings_list(segments: SegmentEmbeddings | Iterable[SegmentEmbeddings]) -> list[SegmentEmbeddings]:
    """The segments of one or more files, as a list.

    Raises:
        InputError: ``segments`` is or contains anything else.
    """
    given = [segments] if isinstance(segments, SegmentEmbeddings) else list(require_many(segments, "This", "segments"))
    for item in given:
        if not isinstance(item, SegmentEmbeddings):
            raise InputError(
                f"segments={short_repr(item)} is not a SegmentEmbeddings. Pass the result of embed_media, "
                "or .segments of the results of embed_many."
            )
    return given


def asset(name: str) -> Markup:
    """A file from the templates folder, unescaped."""
    loader = _templates().loader
    assert loader is not None  # noqa: S101  set in _templates
    return Markup(loader.get_source(_templates(), name)[0])  # noqa: S704  part of this package


def _marked(text: str, words: frozenset[str]) -> Markup:
    """A text with these words in ``<mark>``."""
    return Markup("").join(
        Markup("<mark>{}</mark>").format(part) if is_match else escape(part) for part, is_match in parts_of(text, words)
    )


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("marengo_view"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["clock"] = clock
    templates.filters["marked"] = _marked
    templates.globals["asset"] = asset
    return templates
