"""A model of the protocol: clients that start, die, race, replace, forget and repay, one request at a time.

Hypothesis chooses what clients do, whose request is sent next and what becomes of it, when jobs end and how, and when
files change. The machine knows which bytes each job read, and holds every result, every error and every job to what
docs/reliability.md promises, with the exceptions that it lists and no others.
"""

import base64
import itertools
import struct
import time
import zlib
from dataclasses import dataclass, field
from types import SimpleNamespace

import botocore.endpoint
import pytest
from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from bedrock_marengo import (
    BudgetError,
    JobError,
    Manifest,
    MarengoError,
    Media,
    MediaNotFoundError,
    NotEmbeddedError,
    OutputError,
    ServiceError,
)
from bedrock_marengo.contract.models import MODELS
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.embedding import start
from bedrock_marengo.jobs import invocations, poll_times
from bedrock_marengo.jobs.fingerprint import fingerprint
from bedrock_marengo.s3.object_version import SourceIdentity
from marengo_local import Fault, contract
from marengo_local.embedding import Embedder
from marengo_local.output import bfloat16

from .turns import Client, DiedError

MODEL = MODELS["3.0"]
LOCAL_MODEL = next(model for model in contract.MODELS if model.version == "3.0")
ASKED = {"options": ["visual"], "scopes": ["clip"]}
ATTEMPTS = 3

FILES = {"near": "mp4", "far": "mp4", "picture": "png"}
"""What is embedded: "far" is in a bucket of another region and is copied for each job."""
SPACES = [["near"], ["near"], ["far"], ["far"], ["picture"], ["near", "far"], [*FILES]]
"""Which files there are: one is enough for most races."""
OUTPUTS = ("one", "one", "two")
"""The output prefix of each client."""
OUTCOMES = {
    "ok": {},
    "late": {},
    "transient": {"error": "Failed", "message": "Internal error"},
    "permanent": {"error": "Failed", "message": "The video can't be decoded"},
    "cut off": {"body": b'{"data": [{"embedding": [0.1, 0.2'},
}
"""What becomes of a job. A late output appears a little after the status Completed."""
DONE = ("ok", "late")
DRAWN = ("ok", *OUTCOMES)
ASKED_OF_ONE = [{}, {}, {}, {"timeout_sec": 0.0}, {"force": True}, {"repay_expired": True}]
BUDGETS = [{"max_cost_usd": usd, "assume_duration_sec": 6.0} for usd in (0.0, 0.005)]
ASKED_OF_MANY = [*ASKED_OF_ONE, {"only_done": True}, *BUDGETS]
PICK = st.integers(0, 59)
FAULTS = {
    "s3:": [{"error": "InternalError"}, {"error": "SlowDown"}, {"drop": "before"}, {"drop": "after"}],
    "": [{"error": "InternalServerException"}, {"error": "ThrottlingException"}, {"drop": "before"}, {"drop": "after"}],
}


@dataclass(eq=False)
class File:
    """A file, and which bytes it had when: (step, ETag or None if it is gone)."""

    name: str
    bucket: str
    key: str
    kind: str
    history: list = field(default_factory=list)

    def __repr__(self):
        return self.name

    @property
    def uri(self):
        return f"s3://{self.bucket}/{self.key}"

    @property
    def now(self):
        return self.history[-1][1]

    def since(self, first):
        """What it was changed to since a step."""
        return {etag for step, etag in self.history if step >= first}

    def between(self, first, last):
        """The versions it had from one step to another."""
        before = [etag for step, etag in self.history if step <= first][-1:]
        return {*before, *(etag for step, etag in self.history if first < step <= last)}


@dataclass(eq=False, repr=False)
class Op:
    """One call of a client: what it asks for, when, and what it returned of each file."""

    client: int
    kind: str
    files: list
    begun: int
    listed: dict = field(default_factory=dict)
    since: int = 0
    asked: dict = field(default_factory=dict)
    ended: int | None = None
    results: list = field(default_factory=list)

    @property
    def waits(self):
        """Whether it waited for its jobs to the end."""
        return self.kind != "start" and self.results is not None and "timeout_sec" not in self.asked

    def __repr__(self):
        return f"client {self.client}: {self.kind} {', '.join(file.name for file in self.files)} {self.asked or ''}"


@dataclass(eq=False, repr=False)
class Paid:
    """A job that was started: for which version of which file, and what it read (None: nothing was there)."""

    job: object
    file: File
    version: str
    read: str | None
    output: str
    outcome: str
    step: int
    op: Op
    hidden: int = 0
    used: int | None = None
    noted: int | None = None
    expired: int | None = None

    def __str__(self):
        name = (
            f"job {self.job.id} of {self.file.name} {self.version[:6]} under {self.output}, by client {self.op.client}"
        )
        return f"{name}: {self.outcome}, read {str(self.read)[:6]}"


class Held(float):
    """How long a job lasts: until it is released. Added to when it began, and asked again and again."""

    def __new__(cls, is_released):
        self = super().__new__(cls)
        self.is_released = is_released
        return self

    def __radd__(self, _):
        return 0.0 if self.is_released() else time.monotonic() + 0.01


def picture(shade):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head, rows = struct.pack(">IIBBBBB", 128, 128, 8, 0, 0, 0, 0), zlib.compress((b"\0" + bytes([shade]) * 128) * 128)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


class World:
    """The stand-in with its files and jobs, and the clients."""

    numbers = itertools.count()

    def __init__(self, local, names):
        self.local = local
        self.space = f"x{next(self.numbers)}"
        self.step = 0
        self.log = []
        self.is_broken = False
        self.ops, self.paid = [], []
        self.versions, self.bodies, self.vectors = {}, {}, {}
        self.read, self.released = set(), set()
        local.job_duration_sec = self._duration
        self._seen = {job.arn for job in local.jobs}
        far = f"{local.bucket}-far"
        buckets = {"near": local.bucket, "picture": local.bucket, "far": far}
        if far not in [bucket["Name"] for bucket in local.s3.list_buckets()["Buckets"]]:
            local.s3.create_bucket(Bucket=far, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        self.files = [
            File(
                name, buckets[name], f"{self.space}/in/{name}.{FILES[name]}", "image" if name == "picture" else "video"
            )
            for name in names
        ]
        for file in self.files:
            self.put(file, self.new_body(file))
        self.clients = [self.new_client(number) for number in range(len(OUTPUTS))]

    def say(self, text):
        self.log.append(f"{self.step:4} {text}")

    def check(self, holds, text):
        if not holds:
            self.is_broken = True
            self.say(f"BROKEN: {text}")
            raise AssertionError("\n".join(self.log))

    # Clients.

    def output_of(self, number):
        return f"s3://{self.local.bucket}/{self.space}/{OUTPUTS[number]}/"

    def new_client(self, number):
        stage = f"s3://{self.local.bucket}/{self.space}/stage/"
        return Client(self.local, output_s3_uri=self.output_of(number), staging_s3_uri=stage)

    def begin(self, op, call):
        """Begin an operation; ``call`` yields (URI, segments or error)."""
        self.ops.append(op)
        self.say(f"{op} begins")

        def run():
            try:
                op.results.extend(call())
            except DiedError:
                op.results = None
            except BaseException as error:
                op.results.append((op.files[0].uri, error))

        self.clients[op.client].turns.run(run)
        self._note_end(op)

    def op_of(self, number):
        return next((op for op in self.ops if op.client == number and op.ended is None), None)

    def advance(self, number, outcome="ok", fault=None, dies=False):
        """Send a client's next request."""
        client, op = self.clients[number], self.op_of(number)
        turn = client.turns.next()
        self.say(f"client {number}: {turn} {'and dies' if dies else fault or ''}")
        if turn.op == "StartAsyncInvoke":
            self.local.faults = [Fault("Job", **OUTCOMES[outcome])] if OUTCOMES[outcome] else []
        if turn.op == "s3:ListObjectsV2":
            for paid in self.paid:
                self.reveal(paid)
        if turn.only_if and {file.now for file in self.files if file.name == "far"}.isdisjoint({None, turn.only_if}):
            # What S3 does, and moto doesn't.
            fault = fault or {"error": "PreconditionFailed"}
        client.advance(fault, dies=dies)
        for job in self.local.jobs:
            if job.arn not in self._seen:
                self._seen.add(job.arn)
                self._note_job(job, op, outcome)
        if turn.op.startswith("s3:Delete"):
            self._check_copies(op)
        self._note_end(op)

    def die(self, number):
        """A client is gone, with all it was doing; another takes its place."""
        op, turns = self.op_of(number), self.clients[number].turns
        turns.die()
        until = time.monotonic() + 20
        while turns.is_busy:
            self.check(time.monotonic() < until, f"{op} does not end")
            time.sleep(0.002)
        self._note_end(op)

    def _note_end(self, op):
        if op.ended is not None or self.clients[op.client].turns.is_busy:
            return
        op.ended = self.step
        if op.results is None:
            self.say(f"client {op.client} is dead")
            self.clients[op.client] = self.new_client(op.client)
            return
        for uri, result in op.results:
            self._check_result(op, next(file for file in self.files if file.uri == uri), result)

    # Files.

    def new_body(self, file):
        number = len(self.bodies)
        return picture(number % 256) if file.kind == "image" else f"{file.name} {number} {self.space}".encode()

    def put(self, file, body):
        etag = self.local.s3.put_object(Bucket=file.bucket, Key=file.key, Body=body)["ETag"].strip('"')
        self.bodies[file.name, etag] = body
        source = SourceIdentity(file.uri, len(body), etag)
        settings = {} if file.kind == "image" else ASKED
        digest = fingerprint(MediaRequest(model=MODEL, kind=file.kind, **settings), source)
        self.versions[digest[:16]] = file, etag
        if file.kind == "image":
            source = {"base64String": base64.b64encode(body).decode()}
            given = {"inputType": "image", "image": {"mediaSource": source}}
            rows = Embedder(None, lambda: 6.0).rows(LOCAL_MODEL, given)
            self.vectors[None, bfloat16(rows[0].vector).tobytes()] = file, etag, None
        file.history.append((self.step, etag))
        self.say(f"{file.name} is {etag[:6]}")

    def delete(self, file):
        self.local.s3.delete_object(Bucket=file.bucket, Key=file.key)
        file.history.append((self.step, None))
        self.say(f"{file.name} is gone")

    # Jobs.

    def _duration(self, job):
        self.read.add(job.arn)
        return Held(lambda: job.arn in self.released)

    def _note_job(self, job, op, outcome):
        """A job was started: wait until it has read its file, and note what that was."""
        until = time.monotonic() + 20
        while job.arn not in self.read and job.status == "InProgress":
            assert time.monotonic() < until
            time.sleep(0.001)
        file, version = self.versions[job.token[:16]]
        where = job.model_input[file.kind]["mediaSource"]["s3Location"]["uri"]
        bucket, key = where.removeprefix("s3://").split("/", 1)
        try:
            read = self.local.s3.head_object(Bucket=bucket, Key=key)["ETag"].strip('"')
        except self.local.s3.exceptions.ClientError:
            read = None
        paid = Paid(job, file, version, read, job.output_uri.split("/")[4], outcome, self.step, op)
        if read is not None:
            storage = SimpleNamespace(describe=lambda uri: (f'"{read}"', 1))
            rows = Embedder(storage, lambda: 6.0).rows(LOCAL_MODEL, job.model_input)
            # Under each output prefix: the vectors of one file are the same under all.
            self.vectors[paid.output, bfloat16(rows[0].vector).tobytes()] = file, read, paid
        else:
            paid.outcome = "permanent"
        self.paid.append(paid)
        self.say(str(paid))

    def end(self, paid):
        """A job ends; a late output is hidden for a while."""
        self.released.add(paid.job.arn)
        while paid.job.status == "InProgress":
            time.sleep(0.002)
        self.say(f"job {paid.job.id} ends: {paid.job.status} {paid.job.failure_message or ''}")
        if paid.outcome == "late":
            paid.hidden = 3
            self._move(paid, "output.json", "hidden")

    def reveal(self, paid, *, at_once=False):
        """A late output appears with the third listing at the latest."""
        if paid.hidden:
            paid.hidden = 0 if at_once else paid.hidden - 1
            if not paid.hidden:
                self._move(paid, "hidden", "output.json")

    def _move(self, paid, old, new):
        bucket, key = f"{paid.job.output_uri}/".removeprefix("s3://").split("/", 1)
        place = {"hidden": f"{self.space}/hidden/{paid.job.id}"}
        keys = [place.get(name, key + name) for name in (old, new)]
        self.local.s3.copy_object(Bucket=bucket, CopySource={"Bucket": bucket, "Key": keys[0]}, Key=keys[1])
        self.local.s3.delete_object(Bucket=bucket, Key=keys[0])

    def has(self, paid, name):
        bucket, key = f"{paid.job.output_uri}/{name}".removeprefix("s3://").split("/", 1)
        return bool(self.local.s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount"))

    def expire(self, paid):
        """A lifecycle rule deletes an output."""
        bucket, key = f"{paid.job.output_uri}/output.json".removeprefix("s3://").split("/", 1)
        self.local.s3.delete_object(Bucket=bucket, Key=key)
        paid.expired = self.step
        self.say(f"the output of job {paid.job.id} is deleted")

    # What holds.

    def _check_copies(self, op):
        """Nobody deletes what a job reads, but who forgets the file."""
        for paid in self.paid:
            where = paid.job.model_input[paid.file.kind]["mediaSource"]["s3Location"]["uri"]
            if paid.job.status != "InProgress" or where == paid.file.uri or self._forgotten(paid):
                continue
            bucket, key = where.removeprefix("s3://").split("/", 1)
            listed = self.local.s3.list_objects_v2(Bucket=bucket, Prefix=key).get("KeyCount")
            self.check(listed, f"{op} deleted what {paid} reads")

    def _forgotten(self, paid):
        """Whether someone forgot its file since its client began."""
        return self._forgot(paid.output, paid.file, paid.op.begun)

    def _forgot(self, output, file, since):
        forgets = [op for op in self.ops if op.kind == "forget" and file in op.files and OUTPUTS[op.client] == output]
        return any(op.ended is None or op.ended >= since for op in forgets)

    def _check_result(self, op, file, result):
        if result is None or op.kind == "forget":
            self.check(not isinstance(result, Exception), f"{op}: {result!r}")
            return
        self.say(f"{op}: {file.name} is {result if isinstance(result, Exception) else 'done'}")
        if isinstance(result, BaseException):
            self._check_error(op, file, result)
        elif op.kind != "start":
            self._check_segments(op, file, result)

    def _check_segments(self, op, file, found):
        of, version = self.versions[found.job]
        self.check(of is file and found.source == file.uri, f"{op}: segments of another file")
        self.check(
            version in file.between(op.since, self.step) | {op.listed.get(file.name)},
            f"{op}: {file.name} was never {version[:6]} since it was listed",
        )
        vector = found.vectors[0].tobytes()
        origin = self.vectors.get((OUTPUTS[op.client], vector)) or self.vectors.get((None, vector))
        self.check(origin is not None and origin[0] is file, f"{op}: vectors of another file")
        _, read, paid = origin
        if paid is not None:
            paid.used = paid.used or self.step
            # A run with only_done=True writes nothing down.
            paid.noted = paid.noted or (None if op.asked.get("only_done") else self.step)
        if read != version:
            # A file that was replaced during its job, and restored or deleted since, is not noticed.
            seen = min(step for step, etag in file.history if etag == read)
            back = file.since(paid.step if paid else seen)
            self.check(back & {version, None}, f"{op}: vectors of {read[:6]} for {version[:6]} of {file.name}")

    def _check_error(self, op, file, error):
        self.check(isinstance(error, MarengoError), f"{op}: {error!r}")
        versions = file.between(op.since, self.step) | {op.listed.get(file.name, file.now)}
        jobs = [paid for paid in self.paid if paid.file is file and paid.output == OUTPUTS[op.client]]
        # A failure that no one waited for counts against the version that its job was started for, and so does one of a
        # file that was replaced and restored.
        failed = [
            paid
            for paid in jobs
            if paid.outcome == "permanent"
            and (
                paid.read in versions
                or (paid.version in versions and (not paid.op.waits or paid.version in file.since(paid.step)))
            )
        ]
        tried = max((sum(paid.version == version for paid in jobs) for version in versions), default=0)
        changes = sum(step >= op.since for step, _ in file.history)
        lost = any(self._forgotten(paid) or paid.expired is not None for paid in jobs)
        lost = lost or self._forgot(OUTPUTS[op.client], file, op.begun)
        because = {
            BudgetError: "max_cost_usd" in op.asked,
            MediaNotFoundError: None in versions,
            NotEmbeddedError: op.asked.get("only_done"),
            JobError: op.kind == "collect"
            or getattr(error, "running", False)
            or failed
            or tried >= ATTEMPTS
            or lost
            or changes >= ATTEMPTS,
            OutputError: op.kind == "collect" or tried >= ATTEMPTS or lost,
            ServiceError: None in versions or lost,
        }
        self.check(because.get(type(error)), f"{op}: no reason for {error!r}")
        if isinstance(error, JobError) and error.running:
            self.check(op.asked.get("timeout_sec") is not None, f"{op}: {error!r}")

    def check_bill(self):
        """Each job that was paid for was used or can be; a second one has one of the reasons that the page lists."""
        for paid in self.paid:
            if paid.outcome not in DONE:
                continue
            usable = self.has(paid, "output.json") and not self.has(paid, "void.json")
            changed = any(step >= paid.op.since for step, _ in paid.file.history)
            excused = self._forgotten(paid) or changed or paid.expired is not None
            self.check(paid.used is not None or usable or excused, f"{paid} is of no use")
        for output, file, version in {(paid.output, paid.file.name, paid.version) for paid in self.paid}:
            same = [p for p in self.paid if (p.output, p.file.name, p.version) == (output, file, version)]
            ops = [op for op in self.ops if OUTPUTS[op.client] == output and file in [f.name for f in op.files]]
            forced = sum(bool(op.asked.get("force")) for op in ops)
            repaid = any(op.asked.get("repay_expired") for op in ops)
            again = [p for p in same if self._may_be_repeated(p, repaid)]
            allowed = 1 + forced + len(again)
            self.check(
                len(same) <= allowed,
                f"{len(same)} jobs for {file} {version[:6]} under {output}, {allowed} are allowed: {[*map(str, same)]}",
            )

    def _may_be_repeated(self, paid, repaid):
        changed = any(step >= paid.op.since for step, _ in paid.file.history)
        void = changed and (paid.job.status == "Failed" or self.has(paid, "void.json"))
        expired = paid.expired is not None and (repaid or paid.noted is None or paid.noted > paid.expired)
        return paid.outcome in ("transient", "cut off") or void or expired or self._forgotten(paid)


def many(client, sources, asked):
    """The files of a run, each with its segments or its error."""
    for done in client.embed_many(sources, jobs_at_once=1, **ASKED, **asked):
        try:
            yield done.uri, done.error or done.segments
        except MarengoError as error:
            yield done.uri, error


class Protocol(RuleBasedStateMachine):
    """The rules. Whoever runs it sets ``local``, the stand-in, and ``counts``, of examples and steps."""

    local = counts = broken = None

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # Waits are shortened, none is left out.
        for name, sec in (("FIRST_SEC", 0.002), ("SHORTEST_SEC", 0.001), ("LONGEST_SEC", 0.01)):
            self.patch.setattr(poll_times, name, sec)
        self.patch.setattr(invocations, "LATE_SEC", 0.01)
        self.patch.setattr("bedrock_marengo.aws.retries.backoff_sec", lambda failed: 0.002)
        self.patch.setattr("bedrock_marengo.aws.start_rate.backoff_sec", lambda failed: 0.002)
        self.patch.setattr(botocore.endpoint, "time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))
        self.listings, self.handles, self.faults = [], [], [0] * len(OUTPUTS)

    @initialize(fresh=st.booleans(), names=st.sampled_from(SPACES))
    def there_are_files(self, fresh, names):
        self.fresh, self.world = fresh, World(self.local, names)
        self.patch.setattr(start, "FRESH_SEC", 3600.0 if fresh else 0.0)

    def tick(self):
        self.world.step += 1
        return self.world.step

    def busy(self):
        return [n for n in range(len(OUTPUTS)) if self.world.op_of(n) is not None]

    # What clients do. What is drawn never depends on what happened, so that each example can be run again.

    def begin(self, who, kind, files, call, **facts):
        """Begin an operation of a client, or go on with the one that it is in."""
        number = who % len(OUTPUTS)
        if self.world.op_of(number) is not None:
            self.go_on(number, 2, "ok")
            return
        step = self.tick()
        op = Op(number, kind, files, step, **{"since": step, **facts})
        self.world.begin(op, lambda: call(self.world.clients[number].client))

    def busy_one(self, who):
        """A client that is in an operation, or begins one now."""
        while not self.busy():
            self.embed(who, who, {})
        busy = self.busy()
        return busy[who % len(busy)]

    def embed(self, who, which, asked):
        file = self.file(which)
        settings = asked if file.kind == "image" else {**ASKED, **asked}
        self.begin(
            who, "embed", [file], lambda client: [(file.uri, client.embed_media(file.uri, **settings))], asked=asked
        )

    def file(self, which):
        return self.world.files[which % len(self.world.files)]

    @rule(who=PICK, which=PICK, asked=st.sampled_from(ASKED_OF_ONE))
    def begins_a_file(self, who, which, asked):
        self.embed(who, which, asked)

    @rule(who=PICK, listing=PICK, asked=st.sampled_from(ASKED_OF_MANY))
    def begins_many(self, who, listing, asked):
        choices = [None, *self.listings]
        listing, world = choices[listing % len(choices)], self.world
        facts, files = {"asked": asked}, world.files
        if listing is None:
            files = [file for file in world.files if file.bucket == world.files[0].bucket]
            sources = f"s3://{files[0].bucket}/{files[0].key.rpartition('/')[0]}/"
        else:
            sources, facts["listed"], since = listing
            if self.fresh and not isinstance(sources, Manifest):
                facts["since"] = since
        self.begin(who, "many", files, lambda client: many(client, sources, asked), **facts)

    @rule(who=PICK, which=PICK)
    def begins_a_start(self, who, which):
        file = self.file(which)
        if file.kind == "image":
            return

        def call(client):
            job = client.start(file.uri, **ASKED)
            self.handles.append((who % len(OUTPUTS), file, job))
            return [(file.uri, job)]

        self.begin(who, "start", [file], call)

    @rule(which=PICK, asked=st.sampled_from([{}, {"timeout_sec": 0.0}]))
    def begins_to_collect(self, which, asked):
        if self.handles:
            number, file, job = self.handles[which % len(self.handles)]
            listed = {file.name: self.world.versions[job.id][1]}
            self.begin(
                number,
                "collect",
                [file],
                lambda client: [(file.uri, client.collect(job, **asked))],
                asked=asked,
                listed=listed,
            )

    @rule(who=PICK, which=PICK, is_sure=st.booleans())
    def begins_to_forget(self, who, which, is_sure):
        file = self.file(which)
        if is_sure:
            self.begin(who, "forget", [file], lambda client: [(file.uri, client.forget(file.uri) and None)])

    @rule(who=PICK, count=st.integers(1, 4), outcome=st.sampled_from(DRAWN))
    def goes_on(self, who, count, outcome):
        self.go_on(self.busy_one(who), count, outcome)

    @rule(who=PICK, outcome=st.sampled_from(DRAWN))
    def goes_far(self, who, outcome):
        self.go_on(self.busy_one(who), 12, outcome)

    def go_on(self, number, count, outcome):
        for _ in range(count):
            if self.world.op_of(number) is None:
                return
            is_poll = self.world.clients[number].turns.next().op == "GetAsyncInvoke"
            self.send(number, outcome)
            if is_poll and self.world.op_of(number) is not None:
                # The next is most likely another one.
                return

    def send(self, number, outcome="ok", **what):
        self.tick()
        if not what:
            self.faults[number] = 0
        self.world.advance(number, outcome, **what)

    @rule(who=PICK, which=PICK, count=st.integers(0, 3))
    def meets_a_fault(self, who, which, count):
        number = self.busy_one(who)
        self.go_on(number, count, "ok")
        # More in a row would end a call, as they should.
        if self.world.op_of(number) is not None and self.faults[number] < 2:
            self.faults[number] += 1
            kinds = FAULTS["s3:" if self.world.clients[number].turns.next().op.startswith("s3:") else ""]
            self.send(number, fault=kinds[which % len(kinds)])

    @rule(who=PICK, after=st.booleans(), is_sure=st.booleans())
    def dies(self, who, after, is_sure):
        number = self.busy_one(who)
        if not is_sure:
            self.go_on(number, 3, "ok")
            return
        self.tick()
        if after:
            self.world.advance(number, dies=True)
        if self.world.op_of(number) is not None:
            self.world.die(number)
        self.handles = [handle for handle in self.handles if handle[0] != number]

    # What happens meanwhile.

    @rule(which=PICK, what=st.sampled_from(["new", "delete", "restore", "restore"]), old=PICK)
    def a_file_changes(self, which, what, old):
        self.tick()
        world, file = self.world, self.file(which)
        bodies = [body for (name, etag), body in world.bodies.items() if name == file.name and etag != file.now]
        if what == "delete" and file.now is not None:
            world.delete(file)
        elif what == "restore" and bodies:
            world.put(file, bodies[old % len(bodies)])
        else:
            world.put(file, world.new_body(file))

    @rule(which=PICK)
    def a_job_ends(self, which):
        if running := [paid for paid in self.world.paid if paid.job.status == "InProgress"]:
            self.tick()
            self.world.end(running[which % len(running)])
        else:
            self.go_on(self.busy_one(which), 4, "ok")

    @rule(which=PICK)
    def an_output_expires(self, which):
        done = [p for p in self.world.paid if p.used is not None and p.expired is None and not p.hidden]
        if done:
            self.tick()
            self.world.expire(done[which % len(done)])
        else:
            self.go_on(self.busy_one(which), 4, "ok")

    @rule(is_manifest=st.booleans())
    def a_list_is_made(self, is_manifest):
        files = [file for file in self.world.files if file.now]
        if not files or len(self.listings) == 3:
            return
        step, world = self.tick(), self.world
        sizes = [len(world.bodies[file.name, file.now]) for file in files]
        sources = [
            Media(f.kind, uri=f.uri, size=size, etag=f.now, listed_at=time.monotonic())
            for f, size in zip(files, sizes, strict=True)
        ]
        if is_manifest:
            rows = [f"{f.bucket},{f.key},{size},{f.now}" for f, size in zip(files, sizes, strict=True)]
            sources = Manifest(world.local.put("\n".join(rows).encode(), f"{world.space}/list{step}.csv"))
        self.listings.append((sources, {file.name: file.now for file in files}, step))

    # The end.

    def teardown(self):
        try:
            if not self.world.is_broken:
                self.finish()
        finally:
            self.counts[:] = self.counts[0] + 1, self.counts[1] + self.world.step
            if self.world.is_broken:
                type(self).broken = "\n".join(self.world.log)
            for client in self.world.clients:
                client.turns.die()
            self.world.released.update(job.arn for job in self.local.jobs)
            self.local.faults = []
            self.patch.undo()

    def finish(self):
        """Everything comes to its end; then each file is embedded, and embedded again for nothing."""
        world = self.world
        while self.busy() or any(paid.job.status == "InProgress" for paid in world.paid):
            for paid in world.paid:
                if paid.job.status == "InProgress":
                    self.tick()
                    world.end(paid)
            for number in self.busy():
                self.send(number)
        for paid in world.paid:
            world.reveal(paid, at_once=True)
        world.check_bill()
        uris = [file.uri for file in world.files]
        for number in (1, 2):
            for again in range(2):
                before = len(world.paid), self.local.calls["InvokeModel"]
                self.begin(number, "many", world.files, lambda client: many(client, uris, {}))
                while world.op_of(number) is not None:
                    for paid in world.paid:
                        if paid.job.status == "InProgress":
                            world.end(paid)
                    self.send(number)
                paid = len(world.paid), self.local.calls["InvokeModel"]
                world.check(not again or paid == before, f"the second of two runs paid for {paid} after {before}")
        world.check_bill()
        note(f"{world.step} steps")
