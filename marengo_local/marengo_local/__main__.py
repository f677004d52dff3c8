"""`python -m marengo_local`: run the stand-in until Ctrl-C or SIGTERM."""

from __future__ import annotations

import argparse
import io
import json
import shlex
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from marengo_local.contract import REGIONS
from marengo_local.local import Local, serve
from marengo_local.outside import OUTSIDE

__all__ = ["main", "run"]

_DISTRIBUTION = "bedrock-marengo-local"


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and run."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A letter that the terminal's encoding lacks must not end the server.
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    settings = vars(parser.parse_args(argv))
    try:
        return run(settings.pop("media"), as_json=settings.pop("json"), **settings)
    except (ValueError, OSError, BotoCoreError, ClientError) as error:
        parser.exit(2, f"The stand-in can't start: {_visible(str(error).rstrip('.'))}.\n")


def run(media: Sequence[Path] = (), *, as_json: bool = False, **settings: Any) -> int:
    """Start the stand-in, upload `media`, print the endpoints, and wait; `settings` are passed to `serve`.

    A file is uploaded under its name, the files of a folder under the folder's name. Raises ValueError if two files
    have the same key or a path does not exist.
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
        uploaded = {str(path): f"s3://{local.bucket}/{_key_or_prefix(path)}" for path in keys}
        sys.stdout.write(_as_json(local, uploaded) if as_json else _as_exports(local, uploaded))
        sys.stdout.flush()
        stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("marengo_local", description=__doc__)
    parser.add_argument(
        "media", nargs="*", type=Path, metavar="MEDIA", help="files and folders to upload to the bucket"
    )
    parser.add_argument("--port", type=int, default=0, help="port for Bedrock; default: any free port")
    parser.add_argument("--s3-port", type=int, default=0, help="port for S3 and STS; default: any free port")
    parser.add_argument("--region", choices=REGIONS, default=REGIONS[0], help="AWS Region; default: %(default)s")
    parser.add_argument("--bucket", help="name of the bucket to create; default: a generated name")
    parser.add_argument("--latency-sec", type=float, default=0.0, help="seconds to wait before each response")
    parser.add_argument("--synthetic-sec", type=float, help="skip the content model; treat any file as media this long")
    parser.add_argument("--seed", type=int, default=0, help="seed for faults with a probability")
    parser.add_argument("--version", action="version", version=f"bedrock-marengo-local {version(_DISTRIBUTION)}")
    parser.add_argument("--json", action="store_true", help="print one line of JSON instead of shell exports")
    return parser


def _keys(path: Path) -> dict[str, Path]:
    """The keys of a file, or of all files in a folder. Hidden files are skipped."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_file():
        return {path.name: path}
    within = ((file.relative_to(path), file) for file in sorted(path.rglob("*")) if file.is_file())
    return {
        f"{_key_or_prefix(path)}{name.as_posix()}": file
        for name, file in within
        if not any(part.startswith(".") for part in name.parts)
    }


def _key_or_prefix(path: Path) -> str:
    return path.name if path.is_file() else f"{path.resolve().name}/".lstrip("/")


def _check_keys(keys: dict[Path, dict[str, Path]]) -> None:
    seen: dict[str, Path] = {}
    for files in keys.values():
        for key, file in files.items():
            if seen.setdefault(key, file) != file:
                raise ValueError(f"{seen[key]} and {file} would both be uploaded as {key}; rename one of them")


def _as_exports(local: Local, uploaded: dict[str, str]) -> str:
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in local.env.items())
    lines = [
        f"Bucket owner: {local.account_id}. Output: {local.output_s3_uri}",
        *(f"{path} is uploaded to {uri}" for path, uri in uploaded.items()),
        "Press Ctrl-C to stop. All data is deleted.",
    ]
    # What a shell may have from AWS would be used instead.
    exports += f"unset {' '.join(OUTSIDE)}\n"
    return exports + "".join(f"# {_visible(line)}\n" for line in lines)


def _visible(line: str) -> str:
    """A file's name may contain a line break, which would end the comment that it is in."""
    return line if line.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


def _as_json(local: Local, uploaded: dict[str, str]) -> str:
    fields = {"client_options": local.client_options, "env": local.env, "bucket": local.bucket, "media": uploaded}
    return json.dumps(fields) + "\n"


if __name__ == "__main__":
    sys.exit(main())
