"""The dry run: what embedding would start, reuse and cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Literal

from bedrock_marengo.aws.parallel import in_order
from bedrock_marengo.contract.html_tables import html_table
from bedrock_marengo.contract.inputs import Media, MediaLike, split_s3_uri
from bedrock_marengo.contract.models import GB, KINDS, Kind
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.contract.prices import Prices
from bedrock_marengo.embedding.invoke import check_size
from bedrock_marengo.errors import InputError, MarengoError, visible
from bedrock_marengo.jobs.fingerprint import JobKey
from bedrock_marengo.jobs.index import JobIndex, State
from bedrock_marengo.media.durations import Durations, duration_of, requested_sec
from bedrock_marengo.s3.listing import MediaListing, locate
from bedrock_marengo.s3.object_version import Identity, SourceIdentity
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.s3.uploads import find_upload
from bedrock_marengo.words.sources import WordSource

__all__ = ["IN_FLIGHT", "Plan", "Planner"]

JOBS_ALLOWED = 20
"""Jobs in flight that real accounts have been allowed."""
JOB_SEC = 45.0
"""A job's mean duration: 23 to 70 s were measured for clips of 2 to 4 minutes."""
SHOT_SEC = 6.0
AUDIO_SEC = 10.0
"""Mean segment lengths of the service's own segmentation, measured in real runs: long shots are cut to about 6 s."""
BYTES_A_VALUE = 22
"""In an output.json: 164 MB for 14,400 rows of 512."""
_LABEL = 11
"""How wide the first column of a plan's text is."""
MOST_NAMED = 10
"""How many unknown or refused files a plan names; it counts all of them."""


IN_FLIGHT = "a Pegasus call that is in flight when the process dies may be paid for twice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What embedding some files would do. ``print(plan)`` shows it as text.

    Lengths, cost, vectors and bytes are those of the files that would be started; files of unknown length are included
    only with ``assume_duration_sec``. A job that was started and has no output yet counts as joined, at no cost: it is
    running, or it has failed and the run will report that.

    Attributes:
        started: kind ("video", "audio", "image") -> files that would be started, and paid for.
        joined: files whose job was started before.
        reused: files whose job is done.
        repeated: files that are listed again.
        uploaded: local files that would be uploaded, and ``uploaded_bytes``.
        staged: files that would be copied from another region, and ``staged_bytes``.
        refused: files that would be refused; ``refusals`` has the reasons of the first 10.
        wordless: files whose words a service would refuse; ``refusals`` has the reasons of the first 10 of these, too.
        skipped: reason -> how many files of prefixes were skipped.
        media_sec: seconds of media to embed.
        unknown: files to start of unknown length; ``unknown_names`` has the first 10.
        words: "transcribe" or "pegasus" -> files that it may be paid for: those without captions and finished words. A
            file that was described in part, or whose transcription has not ended, counts as a whole.
        usd: "video", "audio", "image", "copies", "transcribe" or "pegasus" -> US dollars.
        vectors: expected vectors, by the mean length of segments.
        vector_bytes: their size as float32.
        output_bytes: the size of the jobs' output.json.
        jobs_at_once: jobs in flight.
        mean_job_sec: the mean duration of a job.
    """

    started: Mapping[str, int] = field(default_factory=dict)
    joined: int = 0
    reused: int = 0
    repeated: int = 0
    uploaded: int = 0
    uploaded_bytes: int = 0
    staged: int = 0
    staged_bytes: int = 0
    refused: int = 0
    wordless: int = 0
    refusals: tuple[str, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    media_sec: float = 0.0
    unknown: int = 0
    unknown_names: tuple[str, ...] = ()
    words: Mapping[str, int] = field(default_factory=dict)
    usd: Mapping[str, float] = field(default_factory=dict)
    vectors: int = 0
    vector_bytes: int = 0
    output_bytes: int = 0
    jobs_at_once: int
    mean_job_sec: float

    @property
    def total_usd(self) -> float:
        """US dollars in total, without files of unknown length."""
        return sum(self.usd.values())

    @property
    def days(self) -> float:
        """How long the jobs take, with ``jobs_at_once`` in flight."""
        jobs = sum(self.started.get(kind, 0) for kind, rules in KINDS.items() if not rules.synchronous)
        return jobs * self.mean_job_sec / self.jobs_at_once / 86400

    def __str__(self) -> str:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.started.items())
        dollars = ", ".join(f"{kind} {usd:,.2f}" for kind, usd in self.usd.items())
        lines = [
            f"to start   {sum(self.started.values()):,}" + (f" ({kinds})" if kinds else ""),
            f"to join    {self.joined:,}",
            f"to reuse   {self.reused:,}"
            + (f" (and {self.repeated:,} that are listed again)" if self.repeated else ""),
            f"to upload  {self.uploaded:,} ({self.uploaded_bytes / GB:,.2f} GB)" if self.uploaded else "",
            f"to copy    {self.staged:,} ({self.staged_bytes / GB:,.2f} GB)" if self.staged else "",
            f"words      {', '.join(f'{count:,} {service}' for service, count in self.words.items())}"
            if self.words
            else "",
            f"length     {self.media_sec / 3600:,.2f} hours",
            f"unknown    {self.unknown:,} of unknown length: {self._names(self.unknown)}" if self.unknown else "",
            f"cost       {self.total_usd:,.2f} USD" + (f" ({dollars})" if dollars else ""),
            f"vectors    about {self.vectors:,}, {self.vector_bytes / GB:,.3f} GB",
            f"outputs    about {self.output_bytes / GB:,.3f} GB",
            f"time       {self.days:,.2f} days, {self.jobs_at_once} jobs at once, {self.mean_job_sec:g} s each",
            f"skipped    {', '.join(f'{n:,} {why}' for why, n in self.skipped.items())}" if self.skipped else "",
            f"refused    {self.refused:,}" if self.refused else "",
            f"no words   {self.wordless:,}" if self.wordless else "",
            f"note       {IN_FLIGHT}" if "pegasus" in self.words else "",
            *(f"  {visible(refusal)}" for refusal in self.refusals),
        ]
        return "\n".join(line for line in lines if line)

    def _repr_html_(self) -> str:
        """The same as a table, without the cost if there is none."""
        lines = [line for line in str(self).splitlines() if self.total_usd or not line.startswith("cost ")]
        return html_table((line[:_LABEL].strip(), line[_LABEL:]) if line[0] != " " else ("", line) for line in lines)

    def _names(self, count: int) -> str:
        return visible(", ".join(self.unknown_names)) + (" ..." if count > len(self.unknown_names) else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """Lists media and finished jobs, and starts nothing. ``plan`` makes one LIST for 1,000 objects of each.

    Attributes:
        objects: S3.
        request: the request for each kind.
        output_s3_uri: the prefix of jobs and uploads.
        index: the jobs under it.
        staged: whether files of other regions are copied.
        identity: the client's.
        prices: the client's.
        durations: source URI or path -> seconds.
        probe: whether to read lengths that are not given.
        assume_duration_sec: the length to assume for a file of unknown length.
        force: whether finished jobs are paid for again.
        words: sources of words.
        embed: whether files are embedded, too.
    """

    objects: S3Objects
    request: Callable[[Kind], MediaRequest]
    output_s3_uri: str
    index: JobIndex
    staged: bool
    identity: Identity
    prices: Prices
    durations: Durations | None = None
    probe: bool = True
    assume_duration_sec: float | None = None
    force: bool = False
    words: Sequence[WordSource] = ()
    embed: bool = True

    def plan(
        self, listing: MediaListing, executor: Executor, *, ahead: int, jobs_at_once: int, mean_job_sec: float
    ) -> Plan:
        """The plan for a listing; many lengths are read at once."""
        totals = _Totals(self.prices)
        seen: set[int] = set()
        for file in in_order(executor, self._plan_item, listing.items(), ahead=ahead):
            # 64 bits of a fingerprint: 35 MB for 500,000 files.
            repeated = file.job in seen
            if file.job is not None:
                seen.add(file.job)
            totals.add(file, repeated)
        return Plan(
            **totals.plan_fields(), skipped=dict(listing.skipped), jobs_at_once=jobs_at_once, mean_job_sec=mean_job_sec
        )

    def _plan_item(self, item: tuple[MediaLike, Media | MarengoError]) -> _PlannedFile:
        source, media = item
        if isinstance(media, MarengoError):
            return _PlannedFile(name=str(source), state="refused", why=str(media))
        try:
            return self._plan_media(media)
        except MarengoError as error:
            return _PlannedFile(name=media.name, state="refused", why=str(error))

    def _plan_media(self, media: Media) -> _PlannedFile:
        request = self.request(media.kind)
        check_size(request.model, media)
        found: Media | None = media
        if media.uri is None:
            found = find_upload(self.objects, media, self.output_s3_uri)
        elif not self.staged:
            self.objects.check_bucket(split_s3_uri(media.uri)[0])
        job: int | None = None
        state: State = "absent"
        source: SourceIdentity | None = None
        if found is None:
            size = media.size or 0
        else:
            source = locate(self.objects, found, self.identity)
            check_size(request.model, Media(media.kind, uri=source.uri, size=source.size))
            key = JobKey.of(request, source, self.output_s3_uri)
            size, job = source.size, int(key.fingerprint[:16], 16)
            state = "absent" if self.force else self.index.state(key.fingerprint)
        state = state if self.embed else "done"
        file = _PlannedFile(name=media.name, state=state, kind=media.kind, job=job, size=size, uploaded=found is None)
        try:
            asked = [each for each in self.words if self._is_asked(each, media, source)]
        except InputError as error:
            # Its vectors will be there.
            asked, file.why = [], str(error)
        if state != "absent" and not asked:
            return file
        length = duration_of(self.objects, media, self.durations, probe=self.probe)
        assumed = self.assume_duration_sec if length is None else length
        file.words = {each.service: each.price(assumed) for each in asked}
        if state != "absent":
            file.unknown = bool(asked) and length is None
            return file
        file.copied = media.uri is not None and self.objects.is_elsewhere(split_s3_uri(media.uri)[0])
        file.sec = requested_sec(request, length)
        is_unknown = KINDS[media.kind].timed and file.sec is None
        file.unknown = is_unknown or (bool(asked) and length is None)
        if is_unknown:
            file.sec = self.assume_duration_sec
        file.rows = _rows(request, file.sec)
        file.values = file.rows * request.model.dimension
        return file

    def _is_asked(self, words: WordSource, media: Media, source: SourceIdentity | None) -> bool:
        """Whether a source would be paid for a file."""
        if not words.takes(media):
            return False
        if source is None or self.force or self.index.state(words.fingerprint(source)) == "absent":
            return True
        # A record may be of a part, or of a job that was never started.
        return not words.is_final(source)


@dataclass(slots=True, kw_only=True)
class _PlannedFile:
    name: str
    state: State | Literal["refused"]
    why: str = ""
    kind: Kind = "video"
    job: int | None = None
    size: int = 0
    uploaded: bool = False
    copied: bool = False
    sec: float | None = None
    unknown: bool = False
    rows: int = 0
    values: int = 0
    words: Mapping[str, float | None] = field(default_factory=dict)


class _Totals:
    """The sums of a plan."""

    def __init__(self, prices: Prices) -> None:
        self._prices = prices
        self._counts: Counter[str] = Counter()
        self._started: Counter[str] = Counter()
        self._words: Counter[str] = Counter()
        self._usd: Counter[str] = Counter()
        self._sec = 0.0
        self._values = 0
        self._refusals: list[str] = []
        self._unknown: list[str] = []

    def add(self, file: _PlannedFile, repeated: bool) -> None:
        """Count one file."""
        if repeated or file.state != "absent":
            self._counts["repeated" if repeated else _COUNTS[file.state]] += 1
            if not repeated:
                self._add_words(file)
            return
        self._add_words(file)
        self._started[file.kind] += 1
        self._sec += file.sec or 0.0
        self._values += file.values
        self._usd[file.kind] += self._prices.media(file.kind, file.sec) or 0.0  # type: ignore[assignment]
        self._counts["vectors"] += file.rows
        for name, holds in (("uploaded", file.uploaded), ("staged", file.copied)):
            self._counts[name] += holds
            self._counts[f"{name}_bytes"] += file.size * holds
        if file.copied:
            self._usd["copies"] += self._prices.copied(file.size)  # type: ignore[assignment]

    def _add_words(self, file: _PlannedFile) -> None:
        """Count what a file's words cost, whether its length is unknown, and why something of it is refused."""
        if file.why and len(self._refusals) < MOST_NAMED:
            self._refusals.append(f"{file.name}: {file.why}")
        self._counts["wordless"] += bool(file.why) and file.state != "refused"
        for service, usd in file.words.items():
            self._words[service] += 1
            self._usd[service] += usd or 0.0  # type: ignore[assignment]
        self._counts["unknown"] += file.unknown
        if file.unknown and len(self._unknown) < MOST_NAMED:
            self._unknown.append(file.name)

    def plan_fields(self) -> dict[str, Any]:
        """The plan's fields."""
        names = ("joined", "reused", "repeated", "uploaded", "uploaded_bytes", "staged", "staged_bytes")
        return {
            **{name: self._counts[name] for name in (*names, "refused", "wordless", "unknown", "vectors")},
            "started": dict(self._started),
            "refusals": tuple(self._refusals),
            "unknown_names": tuple(self._unknown),
            "media_sec": self._sec,
            "words": dict(self._words),
            "usd": dict(self._usd),
            "vector_bytes": 4 * self._values,
            "output_bytes": BYTES_A_VALUE * self._values,
        }


_COUNTS = {"started": "joined", "done": "reused", "refused": "refused"}


def _rows(request: MediaRequest, sec: float | None) -> int:
    """About how many vectors a file gives."""
    rules = KINDS[request.kind]
    if not rules.timed:
        return 1
    if sec is None:
        return 0
    cut = request.segmentation
    mean = SHOT_SEC if rules.cut == "dynamic" else AUDIO_SEC
    if cut is not None:
        mean = cut.seconds if cut.method == "fixed" else max(cut.seconds, SHOT_SEC)
    scopes = request.scopes or request.model.scopes
    tracks = bool(request.fused) + (request.fused != "only") * len(
        request.options or request.model.options[request.kind]
    )
    return tracks * (math.ceil(sec / mean) * ("clip" in scopes) + ("asset" in scopes))
