"""The wheels in environments of their own: each extra alone, lowest and newest allowed versions, every Python here.

    python tests/compat/run.py --quick    the oldest Python with the lowest versions, the newest with the newest (CI)
    python tests/compat/run.py            all pairs of a Python (3.11 and later, as found) with lowest and newest
    python tests/compat/run.py --only langchain

An environment holds pytest and `bedrock-marengo[extra]` alone; the stand-in runs here, beside it. uv makes the
environments if it is there, else venv and pip. To be run in the development environment, which has the stand-in and
hatchling.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parents[1]
MINORS = range(11, 16)

# Extra -> (tests, what is its own of all that extras bring). "" is the bare package.
EXTRAS = {
    "": ("test_core.py", ""),
    "langchain": ("test_core.py test_langchain.py", "langchain_core"),
    "llama-index": ("test_core.py test_llama_index.py", "llama_index"),
    "local": ("test_core.py test_local.py", "marengo_local moto av"),
    "fast": ("test_core.py", "simdjson"),
    "media": ("test_core.py test_media.py", "av"),
    "view": ("test_imports.py", "av sklearn"),
    "cli": ("test_imports.py", "typer"),
}
STRANGERS = {name for _, brings in EXTRAS.values() for name in brings.split()} | {"ray"}
# The lowest versions on the oldest Python do for these.
ONCE = {"", "fast", "view", "cli"}


@dataclass(frozen=True)
class Environment:
    extra: str
    python: Path
    minor: int
    lowest: bool

    def __str__(self):
        versions = "lowest" if self.lowest else "newest"
        return f"{f'[{self.extra}]' if self.extra else 'bare':13} Python 3.{self.minor}, {versions} versions"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two environments for each framework")
    parser.add_argument("--only", help="one extra; give '' for the bare package")
    asked = parser.parse_args()
    import marengo_local

    pythons = found_pythons()
    print(f"-- {', '.join(f'3.{minor}' for minor in pythons)}, by {Path(uv()).name if uv() else 'pip'}", flush=True)
    with tempfile.TemporaryDirectory() as folder, marengo_local.serve(synthetic_sec=12.0) as local:
        wheels = [built(project, folder) for project in (ROOT, ROOT / "marengo_local")]
        planned = [env for env in environments(pythons, quick=asked.quick) if asked.only in (None, env.extra)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            passed = list(pool.map(lambda env: try_out(env, Path(folder), wheels, local), planned))
    print(f"-- {sum(passed)} of {len(passed)} environments passed")
    return 0 if passed and all(passed) else 1


def environments(pythons, *, quick):
    oldest, newest = min(pythons), max(pythons)
    for extra in EXTRAS:
        if extra in ONCE:
            yield Environment(extra, pythons[oldest], oldest, lowest=True)
            continue
        pairs = [(oldest, True), (newest, False)] if quick else [(m, low) for m in pythons for low in (True, False)]
        for minor, lowest in pairs:
            # numpy 1.26 and msgspec 0.19 are older than Python 3.13: what is lowest there, pip says.
            if not lowest or minor == oldest:
                yield Environment(extra, pythons[minor], minor, lowest)


def try_out(env, folder, wheels, local):
    """Make an environment, run the tests in it, tell; whether all passed."""
    began = time.monotonic()
    place = Path(tempfile.mkdtemp(dir=folder))
    ran = installed(env, place, wheels)
    if ran.returncode == 0:
        made_sec, began = time.monotonic() - began, time.monotonic()
        ran = tested(env, place, local)
        took = f"{made_sec:.0f} s to make, {time.monotonic() - began:.0f} s to test"
    else:
        took = "not made"
    said = (ran.stdout + ran.stderr).strip()
    print(f"{env}: {took}: {said.splitlines()[-1] if said else ''}", flush=True)
    if ran.returncode != 0:
        print(said, flush=True)
    shutil.rmtree(place)
    return ran.returncode == 0


def installed(env, place, wheels):
    ours, stand_in = (wheel.as_uri() for wheel in wheels)
    wanted = [f"bedrock-marengo{f'[{env.extra}]' if env.extra else ''} @ {ours}", "pytest>=9"]
    if env.extra == "local":
        wanted.append(f"bedrock-marengo-local @ {stand_in}")
    pins = place / "lowest.txt"
    pins.write_text("\n".join(lowest_versions(env.extra) if env.lowest else []))
    python = place / "env" / "bin" / "python"
    make = [uv(), "venv", "-q", "--python", env.python] if uv() else [env.python, "-m", "venv"]
    install = [uv(), "pip", "install", "-q", "--python", python] if uv() else [python, "-m", "pip", "install", "-q"]
    made = run([*make, place / "env"])
    return made if made.returncode else run([*install, "-c", pins, *wanted])


def lowest_versions(extra):
    """`name==1.2` for each `name>=1.2` of what is installed."""
    needs = project(ROOT)["dependencies"] + project(ROOT)["optional-dependencies"].get(extra, [])
    if extra == "local":
        needs += project(ROOT / "marengo_local")["dependencies"]
    found = (re.match(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", need) for need in needs)
    lowest = dict(match.groups() for match in found if match and not match[1].startswith("bedrock-marengo"))
    return [f"{name}=={version}" for name, version in lowest.items()]


def tested(env, place, local):
    tests, brings = EXTRAS[env.extra]
    settings = {"MARENGO_EXTRA": env.extra, "MARENGO_STRANGERS": " ".join(sorted(STRANGERS - set(brings.split())))}
    if env.extra != "local":  # which tests the stand-in that it installs
        settings |= {"MARENGO_COMPAT": json.dumps(local.client_options), **local.env}
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    # Not `python -m pytest`, which would put the source tree before what is installed.
    return run(
        [place / "env" / "bin" / "pytest", "test_strangers.py", *tests.split()], cwd=TESTS, env={**kept, **settings}
    )


def found_pythons():
    """Minor version -> interpreter: on the PATH or pyenv's. The oldest that the package allows is this one."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep)]
    folders += sorted((Path.home() / ".pyenv" / "versions").glob("*/bin"))
    found = {sys.version_info.minor: Path(sys.executable).resolve()}
    for minor in MINORS:
        for python in (folder / f"python3.{minor}" for folder in folders):
            if minor not in found and python.is_file() and run([python, "-c", "import ssl, venv"]).returncode == 0:
                found[minor] = python
    return dict(sorted(found.items()))


def built(place, folder):
    """A project's wheel, without asking the network for a build backend."""
    from hatchling.builders.wheel import WheelBuilder

    return Path(next(WheelBuilder(str(place)).build(directory=str(folder))))


def project(place):
    return tomllib.loads((place / "pyproject.toml").read_text("utf-8"))["project"]


def uv():
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.is_file() else shutil.which("uv")


def run(command, **settings):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **settings)


if __name__ == "__main__":
    sys.exit(main())
