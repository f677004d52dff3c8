"""embed_many over thousands of media: quotas, faults, kills, and a second run. Ratios of one run.

    python benchmarks/bulk.py                 all scenarios at a tenth of their size: about 4 minutes
    python benchmarks/bulk.py --media 2353    the size of the issue: about 25 minutes

The service is the stand-in in a process of its own, with invented media: what is measured is the client.
Ideal wall time: media / starts a second, or media x mean job / quota, whichever is longer, and one job more.
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

from bedrock_marengo import MarengoClient
from bedrock_marengo.contract.payloads import MediaRequest

SERVER = Path(__file__).with_name("_bulk_server.py")
QUOTA = 20
SCENARIOS = {
    # name: (starts/s, shortest job, longest job, faults, most times ideal, most control calls a medium)
    "start rate is the limit": (5.0, 2.0, 6.0, False, 1.15, 1.3),
    "job quota is the limit": (50.0, 2.0, 7.0, False, 1.25, 1.8),
    "with 5% 5xx, 2% dropped": (5.0, 2.0, 6.0, True, None, None),
}
KILLS = 20
DONE_MEDIA = 20_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=int, default=235)
    parser.add_argument("--done", type=int, default=2_000, help=f"media of the second run; the issue's: {DONE_MEDIA}")
    parser.add_argument("--only", help="a part of a scenario's name: start, quota, 5xx, kill, second")
    asked = parser.parse_args()
    for name, scenario in SCENARIOS.items():
        if (asked.only or "") in name:
            run_scenario(name, asked.media, *scenario)
    if (asked.only or "") in "kill -9":
        run_kills(min(asked.media, 200))
    if (asked.only or "") in "second run":
        run_second(asked.done)


class Server:
    """The stand-in in a process of its own."""

    def __init__(self, script=SERVER, **knobs):
        self._process = subprocess.Popen(
            [sys.executable, str(script), json.dumps(knobs)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.options = json.loads(self._process.stdout.readline())
        self.sources = f"s3://{self.options['output_s3_uri'].split('/')[2]}/v/"

    def ask(self, question, **details):
        self._process.stdin.write(json.dumps({"ask": question, **details}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        self._process.wait()


def run_scenario(name, media, starts_per_sec, shortest, longest, faults, most_ideal, most_calls):
    server = Server(media=media, start_rate=starts_per_sec, max_jobs=QUOTA, job_sec=[shortest, longest], faults=faults)
    try:
        with MarengoClient(**server.options) as client:
            began = time.perf_counter()
            done = [(done.uri, done.error) for done in client.embed_many(server.sources)]
            took = time.perf_counter() - began
        calls, jobs = server.ask("calls"), server.ask("jobs")
    finally:
        server.close()
    mean = (shortest + longest) / 2
    ideal = max(media / starts_per_sec, media * mean / QUOTA) + mean
    control = sum(calls.get(op, 0) for op in ("StartAsyncInvoke", "GetAsyncInvoke", "ListAsyncInvokes"))
    print(
        f"-- {name}: {media} media, quota {QUOTA}, {starts_per_sec:g} starts/s, jobs of {shortest:g} to {longest:g} s"
    )
    print(f"   failed {sum(error is not None for _, error in done)} (wanted: 0); jobs {jobs} (wanted: {media})")
    print(f"   {took:.1f} s, {took / ideal:.2f} of ideal{wanted(most_ideal)}")
    print(f"   {control / media:.2f} control calls a medium{wanted(most_calls)}: {calls}", flush=True)


def wanted(most):
    return "" if most is None else f" (wanted: at most {most})"


RUN = """
import json, sys
from bedrock_marengo import MarengoClient
from bedrock_marengo.contract.payloads import MediaRequest
with MarengoClient(**json.loads(sys.argv[1])) as client, open(sys.argv[3], "a") as out:
    for done in client.embed_many(sys.argv[2]):
        assert done.error is None, done.error
        out.write(done.uri + "\\n"); out.flush()
print("finished")
"""


def run_kills(media):
    server = Server(media=media, start_rate=50.0, max_jobs=QUOTA, job_sec=[0.2, 0.6], faults=False)
    listed = Path(f"/tmp/marengo-bulk-{random.getrandbits(32)}.txt")
    killed = 0
    try:
        while True:
            # Each run writes its own list: the last, which is not killed, must hold every medium once.
            listed.write_text("")
            command = [sys.executable, "-c", RUN, json.dumps(server.options), server.sources, str(listed)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            if killed < KILLS:
                time.sleep(random.uniform(0.6, 1.6))
                process.send_signal(signal.SIGKILL)
                killed += 1
            if "finished" in process.communicate()[0]:
                break
        found = listed.read_text().split()
        jobs = server.ask("jobs")
    finally:
        listed.unlink(missing_ok=True)
        server.close()
    print(f"-- kill -9 at {killed} random moments, restarted each time: {media} media")
    print(
        f"   in the result {len(found)}, once each: {len(found) == len(set(found)) == media}; jobs {jobs}", flush=True
    )


def run_second(count):
    server = Server(media=0)
    try:
        with MarengoClient(**server.options) as client:
            # What is done must be known by its fingerprint: the client itself says where the work lies.
            objects = server.ask("put", count=count)
            works = [
                client._runtime.embedder.key(media, MediaRequest(model=client.model, kind="video")).prefix
                for media in client.list_media(server.sources)
            ]
            server.ask("done", prefixes=works)
            server.ask("reset")
            tracemalloc.start()
            began = time.perf_counter()
            found = sum(done.error is None for done in client.embed_many(server.sources))
            took = time.perf_counter() - began
            peak = tracemalloc.get_traced_memory()[1]
        calls = {op: n for op, n in server.ask("calls").items() if n}
    finally:
        server.close()
    print(f"-- a second run over {count} done media ({objects + 3 * count} objects)")
    print(
        f"   {found} found done in {took:.1f} s; peak {peak / 1e6:.1f} MB of Python memory; calls {calls}", flush=True
    )


if __name__ == "__main__":
    main()
