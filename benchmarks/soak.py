"""embed_many with every fault on: each medium once, nothing paid twice, no vector of another, memory flat.

    python benchmarks/soak.py                  a minute
    python benchmarks/soak.py --minutes 10     what docs/reliability.md tells of

The service is the stand-in in a process of its own, over real HTTP. Each medium has a fate (_soak_server.py), which
says how many jobs it must cost and which error it must end in; on top of that every call to Bedrock and S3 may be
throttled, refused, dropped before, after or in its reply, or slow. Ends with 1 if anything is not as it must be.
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

from _soak_server import fate_of, number_of
from bulk import Server

from bedrock_marengo import MarengoClient

SERVER = Path(__file__).with_name("_soak_server.py")
BATCH = 25
GROWN_MB = 16
"""How much more memory the last quarter may take than the second."""
MOST_FILES = 2 * 64 + 32
"""A connection to S3 and one to Bedrock for each of 64 media under way, and what a process has anyway."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long media come")
    parser.add_argument("--timeout", type=float, default=20.0, help="seconds after which a job counts as stuck")
    asked = parser.parse_args()
    server = Server(SERVER, start_rate=60.0, max_jobs=60, job_sec=[0.1, 1.0])
    try:
        return soak(server, 60 * asked.minutes, asked.timeout)
    finally:
        server.close()


def soak(server, feed_sec, timeout_sec):
    wrong, told, unsettled, given = [], Counter(), [], 0
    until = time.monotonic() + feed_sec

    def media():
        nonlocal given
        while time.monotonic() < until:
            uris = server.ask("put", first=given, count=BATCH)
            given += BATCH
            yield from uris

    def settle():
        wrong.extend(server.ask("settle", done=unsettled))
        unsettled.clear()

    warnings.simplefilter("ignore")
    gauges = Gauges()
    began = time.monotonic()
    client = MarengoClient(**server.options)
    # The cache of vectors fills up to 256 MB: with less, a leak is not taken for it.
    client._runtime.cache._cache_bytes = 4 << 20
    with client, gauges:
        seen = Numbers()
        for done in client.embed_many(media(), options=["visual"], scopes=["clip"], timeout_sec=timeout_sec):
            number = number_of(done.source)
            if not seen.add(number):
                wrong.append(f"{done.source} came twice")
            told[fate_of(number), type(done.error).__name__ if done.error else None] += 1
            unsettled.append((done.source, *outcome(client, done)))
            if len(unsettled) == BATCH:
                settle()
        settle()
    took = time.monotonic() - began
    if sum(told.values()) != given or not seen.are_all(given):
        wrong.append(f"{given} media in, {sum(told.values())} out")
    wrong += gauges.complaints()
    if left := [thread.name for thread in threading.enumerate() if thread.name.startswith("marengo-")]:
        wrong.append(f"threads left: {left}")
    tell(server, told, given, took, gauges)
    for what in wrong[:20]:
        print(f"   WRONG: {what}")
    print(f"   {len(wrong)} wrong (wanted: 0)", flush=True)
    return 1 if wrong else 0


def outcome(client, done):
    """The work's prefix in the bucket, the error's name, and the digest of the vectors."""
    if done.error is not None:
        return prefix_of(client, done.source), type(done.error).__name__, None
    digest = hashlib.sha256(done.segments.vectors.tobytes()).hexdigest()
    if done.segments.source != done.source:
        digest = "another source's"
    return prefix_of(client, done.source), None, digest


def prefix_of(client, uri):
    """Where all that was made of a source lies: a folder in the bucket for each of its versions."""
    folder = client.output_s3_uri.split("/", 3)[3]
    return f"{folder}{hashlib.sha256(uri.encode()).hexdigest()[:16]}/"


def tell(server, told, given, took, gauges):
    jobs, faults, calls = server.ask("jobs"), server.ask("faults"), server.ask("calls")
    print(f"-- {given} media in {took:.0f} s, {given / took:.1f} a second; {sum(jobs.values())} jobs")
    for (fate, error), count in sorted(told.items(), key=str):
        print(f"   {count:6} {fate}: {error or 'done'}; {jobs.get(fate, 0)} jobs")
    for name, counts in (("calls", calls), ("faults struck", faults)):
        shown = ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))
        print(f"   {sum(counts.values())} {name}: {shown}")
    print(gauges, flush=True)


class Numbers:
    """Which numbers came, in a bit each: a set of them would grow."""

    def __init__(self):
        self._bits = bytearray(1 << 17)

    def add(self, number):
        at, bit = number >> 3, 1 << (number & 7)
        new = not self._bits[at] & bit
        self._bits[at] |= bit
        return new

    def are_all(self, count):
        return sum(byte.bit_count() for byte in self._bits) == count


class Gauges:
    """Memory, threads and open files of this process, ten times a second."""

    def __init__(self):
        self._samples = deque()
        self._before = open_files()
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="gauges")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._left.set()
        self._thread.join()

    def _watch(self):
        page = os.sysconf("SC_PAGE_SIZE")
        while not self._left.wait(0.1):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self._samples.append((resident / 1e6, threading.active_count(), open_files()))

    def quarter(self, number):
        samples = list(self._samples)
        size = max(1, len(samples) // 4)
        return [max(values) for values in zip(*samples[number * size : (number + 1) * size], strict=True)]

    def complaints(self):
        (mb, threads, _), (more_mb, more_threads, files) = self.quarter(1), self.quarter(3)
        if more_mb > mb + GROWN_MB:
            yield f"memory grew from {mb:.1f} to {more_mb:.1f} MB"
        if more_threads > threads + 1:
            yield f"threads grew from {threads} to {more_threads}"
        if files > MOST_FILES:
            yield f"{files} open files, with all that were dropped"
        # Connections that broke off hang in cycles of botocore's exceptions till the collector comes by.
        gc.collect()
        if (left := open_files()) > self._before:
            yield f"{left - self._before} files left open"

    def __str__(self):
        quarters = [self.quarter(number) for number in range(4)]
        lines = zip(("MB of memory", "threads", "open files"), zip(*quarters, strict=True), strict=True)
        return "\n".join(
            f"   {name}, the most in each quarter: {', '.join(f'{value:.0f}' for value in values)}"
            for name, values in lines
        )


def open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


if __name__ == "__main__":
    sys.exit(main())
