"""Refusing to compare vectors of two models, and explaining why a store refused a search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.errors import ConfigurationError, MarengoError, OutputError

if TYPE_CHECKING:
    from bedrock_marengo.client import MarengoClient

__all__ = ["check_models", "check_stored"]


def check_models(model_ids: Iterable[str | None], query_model_id: str, store: str) -> None:
    """Refuse a search that would compare vectors of two models.

    Raises:
        ConfigurationError: There are segments of another model than the query's.
    """
    if others := sorted({model_id for model_id in model_ids if model_id not in (None, query_model_id)}):
        raise ConfigurationError(
            f"{store} holds segments of {', '.join(map(str, others))}, and the query is embedded with "
            f"{query_model_id}: vectors of two models can't be compared. Search with the store's own model, or move "
            "its sources to a new store (langchain_marengo.migrate)."
        )


def check_stored(client: MarengoClient, stored: Iterable[tuple[str, Mapping[str, Any]]], store: str) -> None:
    """Explain why a store refused a search, if its vectors are unlike the query's: each store says that differently.

    Args:
        client: the client that embedded the query.
        stored: (text, metadata) of what the store holds.
        store: the store, as the error message names it.

    Raises:
        ConfigurationError: It holds segments of another model, or vectors of another length.
    """
    rows = list(stored)
    check_models((metadata.get("model_id") for _, metadata in rows), client.model_id, store)
    segment = next((segment for text, _ in rows if (segment := Segment.find(text)) is not None), None)
    if segment is None:
        return
    try:
        client.segment_vectors([segment])
    except OutputError as error:
        # The output of its job has vectors of another length.
        raise ConfigurationError(
            f"{store} holds segments that this client can't compare with a query, such as {segment.uri!r}: {error} "
            "Search with a client of the model and the dimension that the store was filled with."
        ) from error
    except MarengoError:
        return
