"""What is installed: small production wheels, complete stand-in wheels, and no framework that was not asked for."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def built(project, folder):
    """Build a project as pip would, without asking the network for a build backend."""
    script = (
        "import sys; from hatchling.builders.wheel import WheelBuilder as Builder;"
        "print(next(Builder(sys.argv[1]).build(directory=sys.argv[2])))"
    )
    command = [sys.executable, "-c", script, str(project), str(folder)]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return zipfile.ZipFile(path)


def test_the_production_wheel_is_small_and_typed(tmp_path):
    wheel = built(ROOT, tmp_path)
    names = wheel.namelist()
    packages = {name.partition("/")[0] for name in names if not name.startswith("bedrock_marengo-")}
    assert "marengo_local" not in packages
    assert {"bedrock_marengo", "langchain_marengo", "llama_index_marengo", "marengo_cli"} <= packages
    assert {f"{package}/py.typed" for package in packages} <= set(names)
    assert sum(item.compress_size for item in wheel.infolist()) < 620_000


def test_the_stand_ins_wheel_holds_weights_contract_reel_and_notices(tmp_path):
    wheel = built(ROOT / "marengo_local", tmp_path)
    names = wheel.namelist()
    for name in ("content/weights.npz", "contract/marengo-3.0.json", "reel/cat.jpg", "reel/reel.json", "py.typed"):
        assert f"marengo_local/{name}" in names
    assert {Path(name).name for name in names if "/licenses/" in name} == {"LICENSE", "LICENSE-APACHE", "NOTICE"}
    questions = wheel.read("marengo_local/reel/reel.json")
    assert questions == (ROOT / "tests/data/reel.json").read_bytes()


@pytest.mark.parametrize(
    ("name", "extra", "package"),
    [
        ("langchain-marengo", "langchain", "langchain_marengo"),
        ("llama-index-embeddings-marengo", "llama-index", "llama_index_marengo"),
    ],
)
def test_another_name_installs_the_extra_and_no_modules(name, extra, package, tmp_path):
    wheels = [built(project, tmp_path).filename for project in (ROOT, ROOT / "distributions" / name)]
    assert all(".dist-info/" in file for file in zipfile.ZipFile(wheels[1]).namelist())
    installed = tmp_path / "installed"
    command = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--target", installed, *wheels]
    subprocess.run(command, check=True, capture_output=True)
    script = (
        "import sys; from importlib.metadata import distribution as found;"
        f"import {package}; print({package}.__file__, *found('{name}').requires,"
        "found('bedrock-marengo').version, *found('bedrock-marengo').metadata.get_all('Provides-Extra'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", script]
    said = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    file, needed, version, *extras = said.split()
    assert Path(file).is_relative_to(installed)
    assert needed == f"bedrock-marengo[{extra}]=={version}"
    assert extra in extras


@pytest.mark.parametrize(
    ("package", "strangers"),
    [
        ("bedrock_marengo", "boto3 langchain_core llama_index moto av pydantic tqdm rich marengo_local"),
        ("langchain_marengo", "llama_index moto av marengo_local langchain_chroma qdrant_client faiss"),
        ("llama_index_marengo", "langchain_core moto av marengo_local chromadb qdrant_client ray boto3"),
        ("marengo_ray", "langchain_core llama_index moto av marengo_local"),
        ("marengo_local", "bedrock_marengo moto av aiohttp boto3"),
        ("marengo_local.pytest_plugin", "bedrock_marengo moto av aiohttp boto3 numpy"),
    ],
)
def test_an_import_brings_no_stranger(package, strangers):
    script = f"import sys, {package}; print(*sorted(set({strangers.split()}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert found == []
