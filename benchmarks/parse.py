"""Reading output.json: 14,400 rows of 512 dimensions (a 4-hour video in 1-second segments on one track), 164 MB.

Compares our parsers with json.load plus numpy: median of 5 pairs, each in a separate process. Peak memory is relative
to the same process without parsing. Prints ratios within one run.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from bedrock_marengo import Job, MarengoClient
from bedrock_marengo.contract import responses

ROWS = 14_400
DIMENSION = 512
PAIRS = 5
VECTORS = ROWS * DIMENSION * 4
MB = 1e6


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "output.json")
        write(path)
        parsers = ["msgspec", *(["simdjson"] if responses.simdjson else [])]
        runs = [{name: child(name, path) for name in [*parsers, "json"]} for _ in range(PAIRS)]
        size = path.stat().st_size
        through_s3 = median(s3_pairs(path))
    print(f"{ROWS} rows x {DIMENSION}, {size / MB:.0f} MB of JSON, {VECTORS / MB:.0f} MB of vectors; median of {PAIRS}")
    for name in [*parsers, "json"]:
        sec, peak = (median(run[name][i] for run in runs) for i in (0, 1))
        ratio = median(run["json"][0] / run[name][0] for run in runs)
        print(f"{name:<9} {sec:.2f} s, {ratio:.2f}x json + numpy; peak {(peak - VECTORS) / MB:.0f} MB above vectors")
    print(f"from S3 (the stand-in in another process): {through_s3:.2f}x, parser {parsers[-1]}")
    print("target: msgspec 2.5x, simdjson (extra 'fast') 5x, at most 64 MB above vectors")


def s3_pairs(path):
    """For each pair, the ratio of json.load's time to ours; both read the object from S3."""
    command = [sys.executable, "-m", "marengo_local", "--json"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        options = json.loads(server.stdout.readline())["client_options"]
        with MarengoClient(**options) as client:
            bucket, s3 = options["output_s3_uri"].split("/")[2], client._runtime.aws.s3
            s3.upload_file(str(path), bucket, "output.json")
            job = Job("s3://b/k", "video", "0" * 64, "", None)
            for _ in range(PAIRS):
                began = time.perf_counter()
                client._runtime.runner.read(job, f"s3://{bucket}/output.json")
                ours_sec = time.perf_counter() - began
                rows = json.load(s3.get_object(Bucket=bucket, Key="output.json")["Body"])["data"]
                np.array([row["embedding"] for row in rows], np.float32)
                yield (time.perf_counter() - began - ours_sec) / ours_sec
    finally:
        server.terminate()
        server.wait()


def write(path):
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write('{"data": [')
        for i in range(ROWS):
            # Doubles with all digits: the longest that the service can write.
            vector = rng.standard_normal(DIMENSION)
            vector /= np.linalg.norm(vector)
            row = {
                "embedding": vector.tolist(),
                "embeddingOption": "visual",
                "embeddingScope": "clip",
                "startSec": float(i),
                "endSec": float(i + 1),
            }
            file.write((", " if i else "") + json.dumps(row))
        file.write("]}")


def child(name, path):
    empty = json.loads(subprocess.check_output([sys.executable, __file__, "empty", str(path)]))
    run = json.loads(subprocess.check_output([sys.executable, __file__, name, str(path)]))
    return run[0], run[1] - empty[1]


def ours(path):
    with path.open("rb") as file:
        chunks = iter(lambda: file.read(1 << 20), b"")
        segments = responses.read_output(
            chunks, dimension=DIMENSION, source="s3://b/k", job="0" * 16, model_id="m", media_type="video"
        )
    assert segments.vectors.shape == (ROWS, DIMENSION)


def theirs(path):
    with path.open() as file:
        rows = json.load(file)["data"]
    assert np.array([row["embedding"] for row in rows], np.float32).shape == (ROWS, DIMENSION)


def without_simdjson(path):
    responses.simdjson = None
    ours(path)


def empty(path):
    pass


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        began = time.perf_counter()
        {"msgspec": without_simdjson, "simdjson": ours, "json": theirs, "empty": empty}[sys.argv[1]](Path(sys.argv[2]))
        print([time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024])
