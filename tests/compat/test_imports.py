"""Extras that only draw, type or serve."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = {"view": "marengo_view", "cli": "marengo_cli.app", "mcp": "marengo_mcp"}

pytestmark = pytest.mark.skipif("MARENGO_EXTRA" not in os.environ, reason="noxfile.py says which extra it is")


def test_it_imports():
    importlib.import_module(PACKAGES[os.environ["MARENGO_EXTRA"]])


@pytest.mark.skipif(os.environ.get("MARENGO_EXTRA") != "cli", reason="the extra `cli`")
def test_the_command_says_what_it_can_do():
    marengo = Path(sys.executable).with_name("marengo")
    ran = subprocess.run([marengo, "--help"], capture_output=True, text=True)
    assert ran.returncode == 0 and "migrate" in ran.stdout
