"""embed_many with all faults enabled: each file once, nothing paid twice, correct vectors, constant memory.

    python benchmarks/soak.py                  one minute
    python benchmarks/soak.py --minutes 10     the run in docs/reliability.md

The stand-in runs in a separate process, over real HTTP. Each file has a scenario (_soak_server.py), which defines how
many jobs it must cost and which error it must end with. In addition, any call to Bedrock or S3 may be throttled,
rejected, dropped before, during or after its response, or slow. Exits with 1 if anything differs from what is expected.
"""

import argparse
import gc
import hashlib
import os
import sys
import threading
import time
import warnings
from collections import Counter, deque
from pathlib import Path

from _soak_server import number_of, scenario_of
from bulk import Server

from bedrock_marengo import MarengoClient

SERVER = Path(__file__).with_name("_soak_server.py")
BATCH = 25
MAX_GROWTH_MB = 16
"""Memory growth allowed from the second to the last quarter."""
MAX_OPEN_FILES = 2 * 64 + 32
"""One connection to S3 and one to Bedrock for each of 64 concurrent files, plus those that any process has."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to add files")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds until a job counts as stuck")
    args = parser.parse_args()
    server = Server(SERVER, start_rate=60.0, max_jobs=60, job_sec=[0.1, 1.0])
    try:
        return soak(server, 60 * args.minutes, args.timeout)
    finally:
        server.close()


def soak(server, feed_sec, timeout_sec):
    problems, outcomes, unverified, count = [], Counter(), [], 0
    deadline = time.monotonic() + feed_sec

    def sources():
        nonlocal count
        while time.monotonic() < deadline:
            uris = server.call("put", first=count, count=BATCH)
            count += BATCH
            yield from uris

    def verify():
        problems.extend(server.call("verify", results=unverified))
        unverified.clear()

    warnings.simplefilter("ignore")
    gauges = Gauges()
    began = time.monotonic()
    client = MarengoClient(**server.options)
    # The cache of vectors fills up to 256 MB: with less, a leak is not taken for it.
    client._runtime.cache._cache_bytes = 4 << 20
    with client, gauges:
        seen = Numbers()
        for result in client.embed_many(sources(), options=["visual"], scopes=["clip"], timeout_sec=timeout_sec):
            number = number_of(result.source)
            if not seen.add(number):
                problems.append(f"{result.source} was returned twice")
            outcomes[scenario_of(number), type(result.error).__name__ if result.error else None] += 1
            unverified.append((result.source, *outcome(client, result)))
            if len(unverified) == BATCH:
                verify()
        verify()
    took = time.monotonic() - began
    if sum(outcomes.values()) != count or not seen.are_all(count):
        problems.append(f"{count} files in, {sum(outcomes.values())} results out")
    problems += gauges.problems()
    if left := [thread.name for thread in threading.enumerate() if thread.name.startswith("marengo-")]:
        problems.append(f"threads left: {left}")
    report(server, outcomes, count, took, gauges)
    for problem in problems[:20]:
        print(f"   PROBLEM: {problem}")
    print(f"   problems: {len(problems)} (target: 0)", flush=True)
    return 1 if problems else 0


def outcome(client, result):
    """The file's prefix in the bucket, the name of its error, and the digest of its vectors."""
    if result.error is not None:
        return prefix_of(client, result.source), type(result.error).__name__, None
    digest = hashlib.sha256(result.segments.vectors.tobytes()).hexdigest()
    if result.segments.source != result.source:
        digest = "another source's"
    return prefix_of(client, result.source), None, digest


def prefix_of(client, uri):
    """The prefix of all output of a source, with one folder for each of its versions."""
    folder = client.output_s3_uri.split("/", 3)[3]
    return f"{folder}{hashlib.sha256(uri.encode()).hexdigest()[:16]}/"


def report(server, outcomes, files, took, gauges):
    jobs, faults, calls = server.call("jobs"), server.call("faults"), server.call("calls")
    print(f"-- {files} files in {took:.0f} s, {files / took:.1f} per second; {sum(jobs.values())} jobs")
    for (scenario, error), count in sorted(outcomes.items(), key=str):
        print(f"   {count:6} {scenario}: {error or 'done'}; {jobs.get(scenario, 0)} jobs")
    for name, counts in (("calls", calls), ("faults injected", faults)):
        details = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
        print(f"   {sum(counts.values())} {name}: {details}")
    print(gauges, flush=True)


class Numbers:
    """A set of numbers as a bitmap, so that its memory is constant."""

    def __init__(self):
        self._bits = bytearray(1 << 17)

    def add(self, number):
        at, bit = number >> 3, 1 << (number & 7)
        is_new = not self._bits[at] & bit
        self._bits[at] |= bit
        return is_new

    def are_all(self, count):
        return sum(byte.bit_count() for byte in self._bits) == count


class Gauges:
    """Memory, threads and open files of this process, ten times a second."""

    def __init__(self):
        self._samples = deque()
        self._before = open_files()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gauges")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stopped.set()
        self._thread.join()

    def _watch(self):
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._stopped.wait(0.1):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self._samples.append((resident / 1e6, threading.active_count(), open_files()))

    def quarter(self, number):
        samples = list(self._samples)
        size = max(1, len(samples) // 4)
        return [max(values) for values in zip(*samples[number * size : (number + 1) * size], strict=True)]

    def problems(self):
        (mb, threads, _), (more_mb, more_threads, files) = self.quarter(1), self.quarter(3)
        if more_mb > mb + MAX_GROWTH_MB:
            yield f"memory grew from {mb:.1f} to {more_mb:.1f} MB"
        if more_threads > threads + 1:
            yield f"threads grew from {threads} to {more_threads}"
        if files > MAX_OPEN_FILES:
            yield f"{files} open files; at most {MAX_OPEN_FILES} are expected"
        # Reference cycles in botocore's exceptions keep broken connections open until they are collected.
        gc.collect()
        if (left := open_files()) > self._before:
            yield f"{left - self._before} files left open"

    def __str__(self):
        quarters = [self.quarter(number) for number in range(4)]
        lines = zip(("MB of memory", "threads", "open files"), zip(*quarters, strict=True), strict=True)
        return "\n".join(
            f"   {name}, peak per quarter: {', '.join(f'{value:.0f}' for value in values)}" for name, values in lines
        )


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


if __name__ == "__main__":
    sys.exit(main())
