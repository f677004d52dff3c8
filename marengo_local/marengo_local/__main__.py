"""`python -m marengo_local`: serve in the shell until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence

from marengo_local.contract import REGIONS
from marengo_local.local import Local, serve

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve, say where, and wait."""
    args = _parser().parse_args(argv)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    knobs = {"latency_sec": args.latency_sec, "synthetic_sec": args.synthetic_sec, "seed": args.seed}
    with serve(region=args.region, port=args.port, s3_port=args.s3_port, bucket=args.bucket, **knobs) as local:
        sys.stdout.write(_as_json(local) if args.json else _as_exports(local))
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("marengo_local", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="Bedrock Runtime's port; a free one by default")
    parser.add_argument("--s3-port", type=int, default=0, help="the port of S3 and STS; a free one by default")
    parser.add_argument("--region", choices=REGIONS, default=REGIONS[0])
    parser.add_argument("--bucket", help="the bucket to make; a fresh name by default")
    parser.add_argument("--latency-sec", type=float, default=0.0, help="wait before each reply")
    parser.add_argument("--synthetic-sec", type=float, help="no content model: invented media of this length")
    parser.add_argument("--seed", type=int, default=0, help="of faults with a probability")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of exports")
    return parser


def _as_exports(local: Local) -> str:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in local.env.items())
    return f"{exports}# bucket owner {local.account_id}, outputs to {local.output_s3_uri}\n"


def _as_json(local: Local) -> str:
    return json.dumps({"client_options": local.client_options, "env": local.env, "bucket": local.bucket}) + "\n"


if __name__ == "__main__":
    sys.exit(main())
