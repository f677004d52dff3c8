"""A local stand-in for TwelveLabs Marengo on Amazon Bedrock: `with serve() as local: ...`. Unofficial."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from marengo_local.calls import Call
    from marengo_local.faults import Fault
    from marengo_local.jobs import Job
    from marengo_local.local import Local, serve, start
    from marengo_local.transcriptions import TranscriptionJob
    from marengo_local.usage import Usage

__all__ = ["Call", "Fault", "Job", "Local", "TranscriptionJob", "Usage", "serve", "start"]

_MODULES = {
    "Call": "calls",
    "Fault": "faults",
    "Job": "jobs",
    "Local": "local",
    "TranscriptionJob": "transcriptions",
    "Usage": "usage",
    "serve": "local",
    "start": "local",
}


def __getattr__(name: str) -> Any:
    # pytest loads this package's plugin in every project, so importing it must stay cheap.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(__name__):
            raise
        raise ModuleNotFoundError(
            f"marengo_local needs {error.name}: pip install bedrock-marengo-local", name=error.name
        ) from error
