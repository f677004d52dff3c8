"""Who may call AWS, and how large a file or a function may be: read from the syntax trees."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = (
    "bedrock_marengo",
    "langchain_marengo",
    "llama_index_marengo",
    "marengo_cli",
    "marengo_mcp",
    "marengo_ray",
    "marengo_view",
)
FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
FILES += sorted((ROOT / "marengo_local" / "marengo_local").rglob("*.py"))

S3_OPERATIONS = {
    *("get_object", "put_object", "head_object", "head_bucket", "copy_object", "delete_object", "delete_objects"),
    *("list_objects_v2", "get_object_tagging", "generate_presigned_url", "upload_file", "upload_fileobj"),
    *("download_file", "download_fileobj", "create_multipart_upload"),
}
BEDROCK_OPERATIONS = {
    *("invoke_model", "invoke_model_with_response_stream", "start_async_invoke", "get_async_invoke"),
    *("list_async_invokes", "converse"),
}
TRANSCRIBE_OPERATIONS = {
    *("start_transcription_job", "get_transcription_job", "list_transcription_jobs", "delete_transcription_job"),
}
PEGASUS = "bedrock_marengo/words/pegasus_calls.py"
CALLERS = {
    "s3": {"bedrock_marengo/s3/objects.py", "bedrock_marengo/s3/buckets.py"},
    "bedrock": {"bedrock_marengo/jobs/invocations.py", "bedrock_marengo/embedding/invoke.py", PEGASUS},
    "transcribe": {"bedrock_marengo/words/transcription_jobs.py"},
}
MAKES_CLIENTS = "bedrock_marengo/aws/session.py"
PROBES = "marengo_cli/doctor/"
"""The doctor's job is to probe: it calls what the package would call."""

MOST_LINES = 450
MOST_LINES_OF_CODE = 50
TABLES = {"marengo_local/marengo_local/reel/__init__.py"}


def name(path):
    return path.relative_to(ROOT).as_posix()


def named(code):
    """What code accesses by name: attributes, and strings such as a paginator's."""
    nodes = list(ast.walk(ast.parse(code)))
    strings = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return strings | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


@pytest.mark.parametrize(
    ("service", "operations"),
    [("s3", S3_OPERATIONS), ("bedrock", BEDROCK_OPERATIONS), ("transcribe", TRANSCRIBE_OPERATIONS)],
)
def test_one_place_calls_each_service(service, operations):
    ours = [path for path in FILES if not name(path).startswith(("marengo_local/", PROBES, MAKES_CLIENTS))]
    callers = {
        name(path) for path in ours if named(code := path.read_text("utf-8")) & operations or f"aws.{service}" in code
    }
    assert callers == CALLERS[service]


def test_the_check_sees_calls():
    assert named("aws.s3.get_object(Bucket='b')") & S3_OPERATIONS
    assert named("client.get_paginator('list_objects_v2')") & S3_OPERATIONS


def test_no_file_is_too_long():
    assert [
        name(p) for p in FILES if name(p) not in TABLES and len(p.read_text("utf-8").splitlines()) > MOST_LINES
    ] == []


def test_no_function_is_too_long():
    found = [
        f"{name(path)}: {node.name}"
        for path in FILES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of_code(path, node) > MOST_LINES_OF_CODE
    ]
    assert found == []


def lines_of_code(path, function):
    """Lines of a function's body, without its signature, docstring, comments and blank lines."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    lines = path.read_text("utf-8").splitlines()[body[0].lineno - 1 : function.end_lineno]
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_contributing_names_every_file_of_the_core():
    core = ROOT / "bedrock_marengo"
    files = {path.relative_to(core).as_posix() for path in core.rglob("*.py") if path.name != "__init__.py"}
    table = CONTRIBUTING.partition("### The core, file by file")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w/]+\.py)` \|", table, re.M)) == files


@pytest.mark.parametrize(
    ("names", "path"),
    re.findall(r"`(\w+)`(?:[^|`]*)(?:in|\() ?`([\w/]+\.py)`", CONTRIBUTING.partition("change what")[2]),
)
def test_where_to_change_what_names_what_is_there(names, path):
    file = ROOT / path if (ROOT / path).exists() else ROOT / "bedrock_marengo" / path
    assert names in file.read_text("utf-8")
