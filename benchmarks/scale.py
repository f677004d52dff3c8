"""500,000 videos on three tracks: S3 requests, US dollars and days on paper, and a plan over a simulated listing.

    python benchmarks/scale.py                 50,000 videos: about a minute
    python benchmarks/scale.py --media 500000  full size: about ten minutes

S3 is simulated by a process of its own, which makes each page of a listing when it is asked for. The requests are those
of the table in docs/reliability.md; the lengths of the videos and of their jobs are assumptions.
"""

import argparse
import json
import multiprocessing
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from bedrock_marengo import MarengoClient
from bedrock_marengo.contract.models import find_model
from bedrock_marengo.contract.payloads import MediaRequest
from bedrock_marengo.jobs.fingerprint import JobKey
from bedrock_marengo.jobs.index import JobIndex
from bedrock_marengo.s3.object_version import SourceIdentity

TRACKS = {"options": ["visual", "audio", "transcription"], "scopes": ["clip"]}
OUTPUT = "s3://bucket/marengo/"
VIDEO_SEC = 180.0
USD_A_REQUEST = {"LIST": 5e-6, "PUT": 5e-6, "COPY": 5e-6, "GET": 4e-7, "HEAD": 4e-7, "DELETE": 0.0}
"""S3 Standard in us-east-1."""
PAGE_OF = 1000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--media", type=int, default=50_000, help="number of videos; full size: 500000")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve is not None:
        serve(args.serve)
        return
    show_requests(args.media)
    for done in (False, True):
        # Each in a process of its own, which has its own peak.
        child = multiprocessing.get_context("spawn").Process(target=measure, args=(args.media, done))
        child.start()
        child.join()


def show_requests(media):
    """Of a fresh run over a prefix, whose segments are read."""
    counts = Counter(LIST=2 * media // PAGE_OF)
    page = (Path(__file__).parents[1] / "docs/reliability.md").read_text("utf-8").partition("## S3 requests")[2]
    rows = [line.strip("| ").split("|") for line in re.findall(r"^\|.*$", page.partition("\n## ")[0], re.M)]
    column = [cell.strip() for cell in rows[0]].index("prefix")
    for row in rows[2:]:
        counts[row[0].split()[0]] += int(row[column].strip() or 0) * media
    # Bedrock's own: output.json and manifest.json of each job.
    counts["PUT"] += 2 * media
    usd = sum(USD_A_REQUEST[kind] * count for kind, count in counts.items())
    shown = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    print(f"-- {media:,} videos of {VIDEO_SEC:g} s, from a prefix\n   S3 requests: {shown}: {usd:,.2f} USD")


def measure(media, done):
    """Time and memory of the job index and the plan, with all videos embedded before or none."""
    command = [sys.executable, __file__, "--media", str(media), "--serve", str(media * done)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        port = int(server.stdout.readline())
        keys = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "x")
        where = {"region_name": "us-east-1", "s3_endpoint_url": f"http://127.0.0.1:{port}", "bucket_owner": "1" * 12}
        with MarengoClient(output_s3_uri=OUTPUT, **where, **keys) as client:
            before = peak_mb()
            index, index_took = timed(lambda: JobIndex.load(client._objects(), OUTPUT))
            index_mb, index_bytes = peak_mb() - before, index._started.nbytes + index._done.nbytes
            known = {"durations": lambda uri: VIDEO_SEC, **TRACKS}
            plan, plan_took = timed(lambda: client.plan("s3://bucket/videos/", **known))
    finally:
        server.kill()
    assert plan.reused == media * done and plan.started.get("video", 0) == media - plan.reused
    print(f"-- simulated listing, {'all' if done else 'none'} of {media:,} embedded before")
    print(f"   job index: {index_took}, {index_bytes / 1e6:.1f} MB kept, {index_mb:.0f} MB more at the peak")
    print(f"   plan with an index of its own: {plan_took}, {peak_mb() - before:.0f} MB more at the peak")
    print("   " + str(plan).replace("\n", "\n   "), flush=True)


def timed(call):
    began, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, f"{time.perf_counter() - began:.0f} s, {time.process_time() - cpu:.0f} s of CPU"


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(done):
    """An S3 with many videos, of which the first ``done`` are embedded."""
    media = int(sys.argv[sys.argv.index("--media") + 1])
    request = MediaRequest(model=find_model("3.0")[0], kind="video", **TRACKS)

    def video(i):
        yield f"videos/{i // 1000:04}/{i:07}.mp4", 50_000_000 + i, f"{i:032x}"

    def job(i):
        [(key, size, etag)] = video(i)
        prefix = JobKey.of(request, SourceIdentity(f"s3://bucket/{key}", size, etag), OUTPUT).prefix
        for name in ("abcdefghijkl/manifest.json", "abcdefghijkl/output.json", "request.json"):
            yield prefix.removeprefix("s3://bucket/") + name, 1000, "0" * 32

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("x-amz-bucket-region", "us-east-1")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_GET(self):
            asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            objects, count = (video, media) if asked["prefix"].startswith("videos/") else (job, done)
            # Whole files or jobs in a page, at most 1,000 objects.
            first, step = int(asked.get("continuation-token", 0)), PAGE_OF if objects is video else PAGE_OF // 3
            last = min(first + step, count)
            body = "".join(CONTENTS.format(*found) for i in range(first, last) for found in objects(i))
            more = f"<NextContinuationToken>{last}</NextContinuationToken>" if last < count else ""
            body = f"{HEAD}<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{body}</ListBucketResult>"
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(json.dumps(server.server_port), flush=True)
    server.serve_forever()


HEAD = '<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>bucket</Name>'
CONTENTS = (
    "<Contents><Key>{}</Key><Size>{}</Size><ETag>&quot;{}&quot;</ETag>"
    "<LastModified>2026-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
)

if __name__ == "__main__":
    main()
