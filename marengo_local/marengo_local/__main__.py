"""`python -m marengo_local`: serve in the shell until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from marengo_local.contract import REGIONS
from marengo_local.local import Local, serve

__all__ = ["main", "run"]


def main(argv: Sequence[str] | None = None) -> int:
    """Read the command line, and run."""
    given = vars(_parser().parse_args(argv))
    return run(given.pop("media"), as_json=given.pop("json"), **given)


def run(media: Sequence[Path] = (), *, as_json: bool = False, **settings: Any) -> int:
    """Serve, put media into the bucket, say where, and wait; `settings` are those of `serve`.

    A file goes under its name, a folder with all its files under its own. Raises ValueError if two files
    would have one key, or nothing is at a path.
    """
    keys = {path: _keys(path) for path in media}
    _check_keys(keys)
    stop = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: stop.set())
    with serve(**settings) as local:
        for files in keys.values():
            for key, file in files.items():
                local.put(file, key)
        put = {str(path): f"s3://{local.bucket}/{_place(path)}" for path in keys}
        sys.stdout.write(_as_json(local, put) if as_json else _as_exports(local, put))
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("marengo_local", description=__doc__)
    parser.add_argument("media", nargs="*", type=Path, metavar="MEDIA", help="files and folders to put into the bucket")
    parser.add_argument("--port", type=int, default=0, help="Bedrock Runtime's port; a free one by default")
    parser.add_argument("--s3-port", type=int, default=0, help="the port of S3 and STS; a free one by default")
    parser.add_argument("--region", choices=REGIONS, default=REGIONS[0])
    parser.add_argument("--bucket", help="the bucket to make; a fresh name by default")
    parser.add_argument("--latency-sec", type=float, default=0.0, help="wait before each reply")
    parser.add_argument("--synthetic-sec", type=float, help="no content model: invented media of this length")
    parser.add_argument("--seed", type=int, default=0, help="of faults with a probability")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of exports")
    return parser


def _keys(path: Path) -> dict[str, Path]:
    """The keys that a file, or the files of a folder, go under. Hidden ones stay."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_file():
        return {path.name: path}
    within = ((file.relative_to(path), file) for file in sorted(path.rglob("*")) if file.is_file())
    return {
        f"{_place(path)}{name.as_posix()}": file
        for name, file in within
        if not any(part.startswith(".") for part in name.parts)
    }


def _place(path: Path) -> str:
    return path.name if path.is_file() else f"{path.resolve().name}/".lstrip("/")


def _check_keys(keys: dict[Path, dict[str, Path]]) -> None:
    seen: dict[str, Path] = {}
    for files in keys.values():
        for key, file in files.items():
            if seen.setdefault(key, file) != file:
                raise ValueError(f"{seen[key]} and {file} would both be {key} in the bucket")


def _as_exports(local: Local, put: dict[str, str]) -> str:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in local.env.items())
    lines = [
        f"bucket owner {local.account_id}, outputs to {local.output_s3_uri}",
        *(f"{path} is at {uri}" for path, uri in put.items()),
        "Ctrl-C ends it, and all that is in it",
    ]
    return exports + "".join(f"# {line}\n" for line in lines)


def _as_json(local: Local, put: dict[str, str]) -> str:
    said = {"client_options": local.client_options, "env": local.env, "bucket": local.bucket, "media": put}
    return json.dumps(said) + "\n"


if __name__ == "__main__":
    sys.exit(main())
