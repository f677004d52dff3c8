"""What the server may reach and spend: from the command line and a TOML file, never from a client."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from bedrock_marengo.agents import Archive, MomentTools
from bedrock_marengo.agents.specs import check_permissions
from bedrock_marengo.agents.spending import MAX_SESSION_USD, MAX_USD, SpendingLimit
from bedrock_marengo.contract.moments import check_allowed_prefixes
from bedrock_marengo.errors import ConfigurationError, InputError
from bedrock_marengo.validation import reject_unknown, short_repr

__all__ = ["ServerSettings", "archive_of", "read_settings", "retriever_of"]


_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "chroma": ((str,), "the path of a folder"),
    "collection": ((str,), "a name"),
    "retriever": ((str,), "module:name"),
    "weights": ((str, Mapping), 'a preset, "intent", or a table of track and weight'),
    "filter": ((Mapping,), "a table"),
    "links": ((bool,), "true or false"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The settings of a server. A TOML file has the same names.

    Attributes:
        chroma: folder of a Chroma store on disk; in a file, from the file's own folder.
        collection: its collection; or the name of collections for each track, as ``create_track_stores`` makes them.
        retriever: instead of these, ``module:name`` of a MarengoRetriever, or of a function that returns one.
        weights: how much each track counts: a preset, "intent", or track -> weight; None for the retriever's default.
        filter: a filter in the store's own syntax, such as one for a tenant.
        allow: tools that cost money: "ask", "describe".
        allowed_prefixes: the only S3 prefixes and objects to search, list, read and link.
        max_usd: what one call may cost, in US dollars.
        max_session_usd: what all calls may cost, until the server is restarted.
        links: whether results have presigned URLs, in ``_meta`` and not for the model.

    Raises:
        bedrock_marengo.MarengoError: A setting has a wrong value.
    """

    chroma: str | None = None
    collection: str | None = None
    retriever: str | None = None
    weights: str | Mapping[str, float] | None = None
    filter: Mapping[str, Any] | None = None
    allow: Sequence[str] = ()
    allowed_prefixes: Sequence[str] | None = None
    max_usd: float = MAX_USD
    max_session_usd: float = MAX_SESSION_USD
    links: bool = False

    def __post_init__(self) -> None:
        """Check what can be checked before a store is opened, which takes long."""
        for setting, (kinds, expected) in _KINDS.items():
            value = getattr(self, setting)
            if value is not None and not isinstance(value, kinds):
                raise ConfigurationError(f"expected {expected}.", setting=setting, value=value)
        check_permissions(self.allow)
        check_allowed_prefixes(self.allowed_prefixes)
        SpendingLimit(self.max_usd, self.max_session_usd)

    def tools(self, retriever: Any) -> MomentTools:
        """The tools of a retriever, within these limits.

        Raises:
            bedrock_marengo.MarengoError: A setting has a wrong value.
        """
        names = ("allow", "allowed_prefixes", "max_usd", "max_session_usd", "links")
        return MomentTools(archive_of(retriever), **{name: getattr(self, name) for name in names})


def read_settings(path: Path | None, given: Mapping[str, Any]) -> tuple[ServerSettings, dict[str, Any]]:
    """The settings of a TOML file, with those given instead of the file's; and its table ``[aws]``.

    Args:
        path: the file; None for none.
        given: as typed; None is not given.

    Raises:
        InputError: The file can't be read or has an unknown setting.
        ConfigurationError: A setting has a wrong value.
    """
    found: dict[str, Any] = {}
    if path is not None:
        try:
            found = tomllib.loads(path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(f"{path}: not a readable TOML file: {error}.") from error
    aws = found.pop("aws", {})
    if not isinstance(aws, dict):
        raise InputError(f"{path}: aws = {short_repr(aws)}: expected a table, [aws].")
    reject_unknown(found, [field.name for field in fields(ServerSettings)], str(path))
    settings = ServerSettings(**{**found, **{name: value for name, value in given.items() if value is not None}})
    if path is not None and settings.chroma is not None and given.get("chroma") is None:
        # Assistants start servers in a folder of their own.
        settings = replace(settings, chroma=str(path.parent / settings.chroma))
    return settings, aws


def retriever_of(spec: str, *folders: Path) -> Any:
    """What ``module:name`` names: a retriever, or what the function of that name returns.

    The operator types this: it runs the module's code.

    Args:
        spec: module:name.
        folders: where a module may be that is not installed.

    Raises:
        ConfigurationError: There is no such module or name.
    """
    module, _, name = spec.partition(":")
    sys.path[:0] = [str(folder) for folder in folders if str(folder) not in sys.path]
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"expected module:name of a MarengoRetriever, or of a function that returns one: {error}.",
            setting="retriever",
            value=spec,
        ) from error
    return found if hasattr(found, "retrieve") or hasattr(found, "invoke") or not callable(found) else found()


def archive_of(retriever: Any) -> Archive:
    """A retriever of either framework, as the tools use it.

    Raises:
        ConfigurationError: It is of neither.
    """
    for framework in ("langchain_marengo", "llama_index_marengo"):
        # Whoever has such a retriever has imported its package.
        if framework in sys.modules and isinstance(retriever, sys.modules[framework].MarengoRetriever):
            archive: Archive = importlib.import_module(f"{framework}.tools").archive_of(retriever)
            return archive
    raise ConfigurationError(
        f"expected a MarengoRetriever of langchain_marengo or llama_index_marengo, not {short_repr(retriever)}.",
        setting="retriever",
    )
