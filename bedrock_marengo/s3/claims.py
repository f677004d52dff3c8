"""One process at a time for work that would be paid twice: a claim on S3 that its holder keeps alive.

No clock is compared with another: a claim is given up for dead if it does not change while another process watches it.
"""

from __future__ import annotations

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator

from bedrock_marengo.aws.cancellation import CancelToken
from bedrock_marengo.errors import MarengoError, ServiceError
from bedrock_marengo.s3.objects import S3Objects

__all__ = ["claimed"]

BEAT_SEC = 5.0
"""How often the holder writes its claim again."""
LEASE_SEC = 20.0
"""How long a claim may stay as it is before another process takes it over: what a crash delays the next run by. Ours;
four beats, so that one slow request is no death.
"""
POLL_SEC = 1.0


@contextlib.contextmanager
def claimed(objects: S3Objects, uri: str, token: CancelToken) -> Iterator[None]:
    """Hold the claim at ``uri`` in this block; wait until its holder gives it back or is dead.

    What another holder has done meanwhile is for the block to look up.

    Args:
        objects: S3.
        uri: where the claim is written; deleted at the end.
        token: ends the wait.

    Raises:
        ClosedError: The wait was cancelled.
        ServiceError: AWS refused to write or list the claim.
    """
    name = uuid.uuid4().hex
    etag = _acquire(objects, uri, name, token)
    ended = threading.Event()
    held = [etag]

    def beat() -> None:
        number = 0
        while not ended.wait(BEAT_SEC):
            number += 1
            # A beat that fails is one beat less; a claim that was taken over is no longer ours.
            with contextlib.suppress(MarengoError):
                if (new := objects.put_if_match(uri, _body(name, number), held[-1])) is None:
                    return
                held.append(new)

    thread = threading.Thread(target=beat, name="marengo-claim", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        # If it may not be deleted, the next process waits for it once.
        with contextlib.suppress(ServiceError):
            objects.delete(uri, etag=held[-1])


def _acquire(objects: S3Objects, uri: str, name: str, token: CancelToken) -> str:
    """The ETag of our claim, once it is ours."""
    seen, since = "", time.monotonic()
    while True:
        token.check(f"Waiting for {uri}")
        if (etag := objects.put_if_absent(uri, _body(name, 0))) is not None:
            return etag
        item = objects.find(uri)
        if item is not None and item.etag != seen:
            seen, since = item.etag, time.monotonic()
        elif item is not None and time.monotonic() - since >= LEASE_SEC:
            if (etag := objects.put_if_match(uri, _body(name, 0), item.etag)) is not None:
                return etag
            continue
        token.wait(POLL_SEC)


def _body(name: str, number: int) -> bytes:
    return f'{{"holder": "{name}", "beat": {number}}}'.encode()
