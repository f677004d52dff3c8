"""State machines over clients that start, die, race, replace, forget and repay: no order of requests breaks a promise.

    python benchmarks/protocol.py                  one minute
    python benchmarks/protocol.py --minutes 10     the run in docs/reliability.md

The machine is tests/reliability/protocol.py, which the tests run for 40 seconds. Exits with 1 if it finds a
counterexample, and prints all that happened.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to search")
    seconds = 60 * parser.parse_args().minutes
    options = ["-m", "slow", "-n", "0", "-s", "--show-capture=no", "-o", f"faulthandler_timeout={seconds + 300}"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests/reliability/test_protocol.py"],
        cwd=ROOT,
        env={**os.environ, "PROTOCOL_SEC": str(seconds)},
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
