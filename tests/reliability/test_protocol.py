"""No order of requests, deaths, faults and changes of files breaks a promise: see protocol.py."""

import os
import time
import warnings

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.errors import FlakyStrategyDefinition
from hypothesis.stateful import run_state_machine_as_test

from bedrock_marengo import MarengoWarning

from .protocol import Protocol

pytestmark = [pytest.mark.slow, pytest.mark.promise("Nothing is billed twice")]

SECONDS = float(os.environ.get("PROTOCOL_SEC", "40"))
"""benchmarks/protocol.py takes longer."""
# Few examples at a time: hypothesis keeps the first ones of many short. What fails is shown with all that happened, so
# that it needs no shrinking, which would take hours.
SETTINGS = settings(
    max_examples=9,
    stateful_step_count=50,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def test_no_order_of_requests_breaks_a_promise(local):
    local.synthetic_sec = 6.0
    machine = type("Machine", (Protocol,), {"local": local, "counts": [0, 0]})
    until = time.monotonic() + SECONDS
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarengoWarning)
        while time.monotonic() < until:
            run(machine)
    examples, requests = machine.counts
    print(f"{examples} examples, {requests} steps")
    assert requests > examples > 0


def run(machine):
    try:
        run_state_machine_as_test(machine, settings=SETTINGS)
    except FlakyStrategyDefinition:
        # A thread was late, so that an example went otherwise the second time: no promise was broken.
        if machine.broken:
            raise AssertionError(machine.broken) from None
