"""What S3 says of archived objects and moto doesn't: RestoreStatus in listings, the tiers of Intelligent-Tiering."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import unquote
from xml.sax.saxutils import unescape

from marengo_local.wsgi import App, Environ, Headers, call

__all__ = ["with_archive_status", "with_restore_status"]

_CONTENTS: Final = re.compile(rb"<Contents>.*?</Contents>", re.S)
_KEY: Final = re.compile(rb"<Key>(.*?)</Key>", re.S)


def with_restore_status(app: App, account_id: str, bucket: str) -> App:
    """The app whose listings have the RestoreStatus of objects that are or were restored, as a client asked for."""
    from moto.s3.models import s3_backends

    def describe(contents: re.Match[bytes]) -> bytes:
        found = _KEY.search(contents[0])
        name = unquote(unescape(found[1].decode())) if found else ""
        key = s3_backends[account_id]["aws"].get_object(bucket, name)
        restore = key.response_dict.get("x-amz-restore") if key is not None else None
        if restore is None:
            return contents[0]
        is_running = "true" if 'ongoing-request="true"' in restore else "false"
        status = f"<RestoreStatus><IsRestoreInProgress>{is_running}</IsRestoreInProgress></RestoreStatus></Contents>"
        return contents[0].removesuffix(b"</Contents>") + status.encode()

    def respond(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        status, headers, body = call(app, environ)
        body = _CONTENTS.sub(describe, body)
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [body]

    return respond


def with_archive_status(app: App, tier: str) -> App:
    """The app for HeadObject of an object that Intelligent-Tiering has moved to an archive tier."""

    def respond(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: Headers, *rest: Any) -> Any:
            return start_response(status, [*headers, ("x-amz-archive-status", tier)], *rest)

        return app(environ, start)

    return respond
