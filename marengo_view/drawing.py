"""From templates to HTML: everything that is put in is escaped, unless it is a View already."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

from bedrock_marengo import InputError, MarengoClient, SegmentEmbeddings
from bedrock_marengo.search.citations import clock
from bedrock_marengo.validation import require_many, short_repr, valid_unicode

try:
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"marengo_view needs {error.name}: pip install 'bedrock-marengo[view]'", name=error.name
    ) from error

__all__ = ["HasMarengo", "View", "all_of", "client_of", "draw", "source"]


class HasMarengo(Protocol):
    """LangChain's MarengoEmbeddings or LlamaIndex's MarengoEmbedding."""

    @property
    def core(self) -> MarengoClient:
        """The core's client."""


@dataclass(frozen=True, slots=True)
class View:
    """A piece of HTML that a notebook shows as the last expression of a cell.

    Attributes:
        html: what it is made of, whole: style, text, pictures.
    """

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html

    def __html__(self) -> str:
        return self.html


def draw(template: str, **values: Any) -> str:
    """A template filled in, as UTF-8 can hold it."""
    return valid_unicode(_templates().get_template(template).render(values))


def client_of(client: MarengoClient | HasMarengo) -> MarengoClient:
    """The core's client, which may be inside a framework's embeddings.

    Raises:
        InputError: Neither.
    """
    core = getattr(client, "core", client)
    if not isinstance(core, MarengoClient):
        raise InputError(f"{short_repr(client)} is no client: give a MarengoClient, or a framework's embeddings.")
    return core


def all_of(segments: SegmentEmbeddings | Iterable[SegmentEmbeddings]) -> list[SegmentEmbeddings]:
    """The segments of one or more media.

    Raises:
        InputError: Something else.
    """
    given = [segments] if isinstance(segments, SegmentEmbeddings) else list(require_many(segments, "This", "segments"))
    for some in given:
        if not isinstance(some, SegmentEmbeddings):
            raise InputError(f"{short_repr(some)} holds no segments with vectors: give what embed_media gives.")
    return given


def source(name: str) -> Markup:
    """A file of ours beside the templates, as it is."""
    loader = _templates().loader
    assert loader is not None  # noqa: S101  it was given
    return Markup(loader.get_source(_templates(), name)[0])  # noqa: S704  a file of ours


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
    templates.globals["source"] = source
    return templates
