"""Moving a LangChain store from Marengo 2.7 to 3.0, or to a later version. Makes no call to the old model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.vectorstores import VectorStore

from bedrock_marengo import ConfigurationError, MarengoError, MediaFailedError, MediaResult
from bedrock_marengo.contract.inputs import MediaLike
from bedrock_marengo.search.migration import Inventory, Plan, missing, plan_migration, take_inventory
from bedrock_marengo.validation import short_repr
from langchain_marengo.embeddings import MarengoEmbeddings
from langchain_marengo.known_stores import KNOWN_STORES, find_known_store
from langchain_marengo.loaders import MarengoLoader
from langchain_marengo.stores import add_segments

__all__ = ["Migration", "amigrate", "inventory", "migrate"]


@dataclass(frozen=True, slots=True)
class Migration:
    """What a migration did.

    Attributes:
        plan: the plan of the migration.
        added: source -> number of segments from its job.
        failed: source -> the error.
        wrong: source -> (segments expected, segments stored), if the count in the new store is wrong.
        switched: whether ``switch`` was called: nothing failed, and all counts are right.
    """

    plan: Plan
    added: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, MarengoError] = field(default_factory=dict)
    wrong: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    switched: bool = False


def inventory(store: VectorStore) -> Inventory:
    """What a store holds, by model and source.

    Raises:
        ConfigurationError: This store isn't supported.
    """
    known = find_known_store(store)
    if known is None:
        raise ConfigurationError(
            f"inventory doesn't support {type(store).__name__}, only {', '.join(KNOWN_STORES)}. Count the texts and "
            "metadata of its rows with bedrock_marengo.search.take_inventory."
        )
    return take_inventory((row.text, row.metadata) for row in known.rows(store, None))


def migrate(
    old: VectorStore,
    new: VectorStore,
    *,
    embeddings: MarengoEmbeddings,
    dry_run: bool = False,
    cost: Callable[[str, float], float] | None = None,
    switch: Callable[[VectorStore], None] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    **loading: Any,
) -> Migration:
    """Embed the sources of one store again into another, check that all segments arrived, and switch.

    If a run is interrupted, the next one resumes where it stopped: finished jobs are reused, and no segment is added
    twice. Your own metadata fields, such as a tenant, are copied from the old store. Its vectors are never read.

    Args:
        old: the store with segments of another model, such as 2.7.
        new: an empty store, or one that an earlier run filled; created with ``embeddings``.
        embeddings: of the new model.
        dry_run: only plan and count.
        cost: (media type, seconds) -> price, for the plan.
        switch: called with ``new`` if nothing failed and all counts are right, to switch an application over.
        on_error: "raise" after all other files are done, or "skip"; in both cases ``switch`` isn't called.
        loading: settings for ``MarengoLoader``, such as ``options``, ``scopes``, ``segmentation``, ``fused``.

    Raises:
        ConfigurationError: ``old`` and ``new`` are the same store, ``new`` holds another model, or a store isn't
            supported.
        bedrock_marengo.MediaFailedError: Files couldn't be embedded, or not all of their segments were stored.
    """
    if not isinstance(embeddings, MarengoEmbeddings):
        raise ConfigurationError(f"embeddings is {type(embeddings).__name__}: expected MarengoEmbeddings(...).")
    if on_error not in ("raise", "skip"):
        raise ConfigurationError(f"on_error={short_repr(on_error)}: expected 'raise' or 'skip'.")
    for name, call in (("cost", cost), ("switch", switch)):
        if call is not None and not callable(call):
            raise ConfigurationError(f"{name}={short_repr(call)}: expected a callable.")
    model_id = embeddings.core.model_id
    stored = inventory(new)
    if old is new or stored.models.keys() - {model_id}:
        raise ConfigurationError(
            f"The new store must hold only segments of {model_id}, since vectors of two models can't be compared: "
            f"use a separate store. It holds: {stored}."
        )
    plan = plan_migration(inventory(old), stored, model_id, cost=cost)
    if dry_run:
        return Migration(plan)
    added, failed = _embed(new, plan, embeddings, loading)
    wrong = missing(added, inventory(new), model_id)
    done = not failed and not wrong
    if on_error == "raise" and not done:
        raise MediaFailedError(
            [MediaResult(source, source, error=error) for source, error in _errors(failed, wrong).items()]
        )
    if done and switch is not None:
        switch(new)
    return Migration(plan, added, failed, wrong, switched=done and switch is not None)


async def amigrate(old: VectorStore, new: VectorStore, *, embeddings: MarengoEmbeddings, **settings: Any) -> Migration:
    """``migrate`` for asyncio, on the embeddings' own threads."""
    return await embeddings.core.run_async(migrate, old, new, embeddings=embeddings, **settings)


def _embed(
    new: VectorStore, plan: Plan, embeddings: MarengoEmbeddings, loading: Mapping[str, Any]
) -> tuple[dict[str, int], dict[str, MarengoError]]:
    added: Counter[str] = Counter(dict.fromkeys(plan.todo, 0))
    failed: dict[str, MarengoError] = {}

    def note(source: MediaLike, error: MarengoError) -> None:
        failed[str(source)] = error

    def counted(loader: MarengoLoader) -> Iterator[Document]:
        for document in loader.lazy_load():
            added[document.metadata["source"]] += 1
            yield document

    if plan.todo:
        settings: dict[str, Any] = {
            "metadata": lambda source: plan.todo[source].user_fields,
            **loading,
            "on_error": note,
        }
        add_segments(new, counted(MarengoLoader(list(plan.todo), embeddings=embeddings, **settings)))
    return {source: count for source, count in added.items() if source not in failed}, failed


def _errors(failed: Mapping[str, MarengoError], wrong: Mapping[str, tuple[int, int]]) -> dict[str, MarengoError]:
    counts = {
        source: MarengoError(f"{wanted} segments were added and the new store holds {stored}.")
        for source, (wanted, stored) in wrong.items()
    }
    return {**counts, **failed}
