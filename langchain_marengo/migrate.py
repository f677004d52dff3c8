"""Moving a LangChain store from Marengo 2.7 to 3.0, or to whatever comes next. Makes no call to the old model."""

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
    """What a move did. ``plan`` says what it set out to do.

    Attributes:
        plan: what was to do.
        added: source -> segments that its job gave.
        failed: source -> why it has none.
        wrong: source -> (segments wanted, segments held), where the new store's count is not right.
        switched: whether ``switch`` was called: nothing failed, and every count is right.
    """

    plan: Plan
    added: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, MarengoError] = field(default_factory=dict)
    wrong: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    switched: bool = False


def inventory(store: VectorStore) -> Inventory:
    """What a store holds, by model and source.

    Raises:
        ConfigurationError: It isn't known how this store lists what it holds.
    """
    known = find_known_store(store)
    if known is None:
        raise ConfigurationError(
            f"It is not known how {type(store).__name__} lists what it holds; it is for {', '.join(KNOWN_STORES)}."
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
    """Embed the sources of one store anew into another, check that all arrived, and switch.

    Run again, it goes on where it stopped: jobs that ran are found again, segments that are there stay one. The user's
    own fields, such as a tenant, are taken from the old store; its vectors are never read.

    Args:
        old: holds segments of another model, such as 2.7.
        new: an empty store, or one that an earlier run filled; made with ``embeddings``.
        embeddings: of the model to move to.
        dry_run: only plan and count.
        cost: (media type, seconds) -> price, for the plan.
        switch: called with ``new`` once nothing failed and all counts are right, to turn an application over.
        on_error: "raise" after all other media are done, or "skip"; either way nothing is switched.
        loading: settings for ``MarengoLoader``, such as ``options``, ``scopes``, ``segmentation``, ``fused``.

    Raises:
        ConfigurationError: ``old`` and ``new`` are one store, ``new`` holds another model, or a store isn't known.
        bedrock_marengo.MediaFailedError: Media that could not be embedded, or that did not all arrive.
    """
    if not isinstance(embeddings, MarengoEmbeddings):
        raise ConfigurationError(f"embeddings is {type(embeddings).__name__}: give MarengoEmbeddings(...).")
    if on_error not in ("raise", "skip"):
        raise ConfigurationError(f"on_error={short_repr(on_error)}: give 'raise' or 'skip'.")
    for name, call in (("cost", cost), ("switch", switch)):
        if call is not None and not callable(call):
            raise ConfigurationError(f"{name}={short_repr(call)}: give a callable.")
    model_id = embeddings.core.model_id
    held = inventory(new)
    if old is new or held.models.keys() - {model_id}:
        raise ConfigurationError(
            f"The new store must hold nothing but {model_id}: give one of its own, since vectors of two models never "
            f"meet in one search. It holds: {held}."
        )
    plan = plan_migration(inventory(old), held, model_id, cost=cost)
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
        source: MarengoError(f"{wanted} segments were added and the new store holds {held}.")
        for source, (wanted, held) in wrong.items()
    }
    return {**counts, **failed}
