"""Importing the core brings neither frameworks nor anything heavy."""

import subprocess
import sys

HEAVY = {"boto3", "langchain_core", "llama_index", "moto", "av", "pydantic", "tqdm", "rich", "marengo_local"}


def test_an_import_brings_nothing_heavy():
    code = "import bedrock_marengo, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
