"""Clients that make one request at a time, each when it is let through: any order, and any death, can be chosen."""

import threading
from dataclasses import dataclass

import boto3

from bedrock_marengo import MarengoClient
from marengo_local import Fault

TIMEOUT_SEC = 60


class DiedError(Exception):
    """Of a client that is dead, as by kill -9: it makes no request any more, not even to clean up."""


@dataclass(eq=False)
class Turn:
    """A request that waits to be sent."""

    op: str
    target: str
    only_if: str | None = None
    """The ETag that the source of a copy must have."""
    is_through: bool = False

    def __str__(self):
        return f"{self.op} {self.target}"


class Turns:
    """Holds the requests of one client until they are let through."""

    def __init__(self):
        self._changed = threading.Condition()
        self._waiting = []
        self._running = 0
        self.is_dead = self.is_open = False

    def take(self, event_name, request, **_):
        """botocore's hook before a request is sent, in the thread that sends it."""
        _, service, op = event_name.split(".")
        only_if = request.headers.get("x-amz-copy-source-if-match", "")
        only_if = (only_if.decode() if isinstance(only_if, bytes) else only_if).strip('"') or None
        turn = Turn(f"s3:{op}" if service == "s3" else op, request.url.partition("?")[0].split("/", 3)[3], only_if)
        with self._changed:
            if not (self.is_dead or self.is_open):
                self._waiting.append(turn)
                self._changed.notify_all()
                self._changed.wait_for(lambda: turn.is_through or self.is_dead or self.is_open)
            if self.is_dead and not turn.is_through:
                raise DiedError

    def next(self):
        """The request that waits, None if there is none."""
        with self._changed:
            return self._waiting[0] if self._waiting else None

    def let_through(self):
        """Send the request that waits."""
        with self._changed:
            self._waiting.pop(0).is_through = True
            self._changed.notify_all()

    def open(self):
        """Send this and all later requests at once."""
        self._end("is_open")

    def die(self):
        """Send no request any more."""
        self._end("is_dead")

    def _end(self, how):
        with self._changed:
            setattr(self, how, True)
            self._waiting.clear()
            self._changed.notify_all()

    def run(self, call):
        """Run a call on a thread of its own, to its first request."""

        def run():
            try:
                call()
            finally:
                with self._changed:
                    self._running -= 1
                    self._changed.notify_all()

        with self._changed:
            self._running += 1
        threading.Thread(target=run, name="turns", daemon=True).start()
        self.settle()

    def settle(self):
        """Wait until the call waits for its turn, or is over."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._waiting or not self._running, TIMEOUT_SEC), "it hangs"

    @property
    def is_busy(self):
        with self._changed:
            return self._running > 0


class Client:
    """A client whose requests take turns.

    Args:
        local: the stand-in.
        settings: of the client.
    """

    def __init__(self, local, **settings):
        options = {**local.client_options, **settings}
        names = {name: options.pop(name) for name in ("aws_access_key_id", "aws_secret_access_key")}
        self._local = local
        self.turns = Turns()
        session = boto3.Session(region_name=options["region_name"], **names)
        session.events.register("before-send", self.turns.take)
        self.client = MarengoClient(session=session, **options)

    def advance(self, fault=None, *, dies=False):
        """Send the request that waits, with a fault, and go on to the next; or die after it."""
        turn = self.turns.next()
        self._local.faults = [*self._local.faults, *([Fault(turn.op, times=1, **fault)] if fault else [])]
        if dies:
            # The request is processed; its reply is lost.
            self._local.faults.append(Fault(turn.op, drop="after", times=1))
            self.turns.is_dead = True
        self.turns.let_through()
        self.turns.settle()
        self._local.faults = []
