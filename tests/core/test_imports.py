"""Importing the core imports no frameworks and nothing heavy."""

import subprocess
import sys

HEAVY = {"boto3", "langchain_core", "llama_index", "moto", "av", "pydantic", "tqdm", "rich", "marengo_local"}


def test_importing_the_core_imports_nothing_heavy():
    code = "import bedrock_marengo, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stdout.split())
