"""`marengo`: its commands, and what it says where packages are missing."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from marengo_cli import app as cli
from marengo_cli import demo

REEL = Path(__file__).parents[2] / "marengo_local/marengo_local/reel"
BLOCKER = """
import importlib.abc, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {missing!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocker())
sys.argv = ["marengo", *{arguments!r}]
from marengo_cli import main
sys.exit(main())
"""
MIGRATE = ["migrate", "--chroma", "a", "--collection", "b", "--into", "c", "--output-s3-uri", "s3://bucket/marengo/"]


SSO = """[profile corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = Dev
"""
COMMANDS = (
    "demo",
    "local",
    "doctor",
    "embed",
    "search",
    "eval",
    "ask",
    "cost",
    "captions",
    "forget",
    "mcp",
    "migrate",
    "prune",
)


@pytest.mark.parametrize("command", ["embed", "search dog", "cost", "captions", "forget"])
def test_who_is_signed_out_is_told_how_to_sign_in(command, marengo, local, tmp_path, monkeypatch):
    (tmp_path / "config").write_text(SSO)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    result = marengo(*command.split(), f"s3://{local.bucket}/a.mp4", "--profile", "corp")
    assert result.exit_code == 1
    assert "Sign in again: aws sso login --profile corp" in result.stderr


def test_help_lists_the_commands():
    result = CliRunner().invoke(cli.app, ["--help"])
    assert result.exit_code == 0
    assert [line.split()[1] for line in result.stdout.splitlines() if line[:1] == "│" and line[2].islower()] == list(
        COMMANDS
    )


@pytest.mark.parametrize("command", COMMANDS[2:])
def test_each_commands_help_tells_its_exit_codes(command):
    said = " ".join(CliRunner().invoke(cli.app, [command, "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert "Exit code: 0" in said
    assert "130 Ctrl-C" in said


def test_help_loads_nothing_heavy():
    strangers = "boto3 langchain_core llama_index moto marengo_local marengo_view av aiohttp"
    script = (
        "import sys; from typer.testing import CliRunner; from marengo_cli.app import app;"
        "CliRunner().invoke(app, ['embed', '--help']);"
        f"print(*sorted(set({strangers.split()}) & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "\n"


def test_migrates_help_says_what_it_is_for():
    said = " ".join(CliRunner().invoke(cli.app, ["migrate", "--help"], env={"COLUMNS": "200"}).stdout.split())
    assert "For Chroma on disk" in said
    assert "langchain_marengo.migrate.migrate" in said


def test_python_m():
    command = [sys.executable, "-m", "marengo_cli", "--help"]
    assert "migrate" in subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "install"),
    [
        ("typer", ["--help"], "pip install 'bedrock-marengo[cli]'"),
        ("marengo_local", ["demo"], "pip install 'bedrock-marengo[demo]'"),
        ("marengo_local", ["search", "--local", "a", "."], "pip install 'bedrock-marengo[cli,local]'"),
        ("jinja2", ["search", "a", ".", "--html", "out.html"], "pip install 'bedrock-marengo[cli,view]'"),
        ("langchain_chroma", MIGRATE, "pip install 'bedrock-marengo[cli,langchain]' langchain-chroma"),
        ("mcp", ["mcp", "--local"], "pip install 'bedrock-marengo[cli,langchain,mcp]' langchain-chroma"),
        ("langchain_chroma", ["mcp", "--local"], "pip install 'bedrock-marengo[cli,langchain,mcp]' langchain-chroma"),
        ("marengo_local", ["mcp", "--local"], "pip install 'bedrock-marengo[cli,local]'"),
    ],
)
def test_what_is_missing_is_said_with_how_to_install_it(missing, arguments, install):
    script = BLOCKER.format(missing=missing, arguments=arguments)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert f"needs {missing}: {install}" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_folder_of_a_clone_is_not_taken_for_the_stand_in():
    script = """
import sys, types
sys.modules["marengo_local"] = types.ModuleType("marengo_local")  # what Python makes of the folder
sys.argv = ["marengo", "search", "--local", "a", "."]
from marengo_cli import main
sys.exit(main())
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (
        2,
        "This needs marengo_local: pip install 'bedrock-marengo[cli,local]'\n",
    )


@pytest.mark.parametrize(
    ("missing", "package", "install"),
    [
        ("langchain_core", "langchain_marengo", "bedrock-marengo[langchain]"),
        ("tqdm", "langchain_marengo", "bedrock-marengo[langchain]"),
        ("llama_index", "llama_index_marengo", "bedrock-marengo[llama-index]"),
        ("ray", "marengo_ray", "bedrock-marengo[ray]"),
        ("jinja2", "marengo_view", "bedrock-marengo[view]"),
        ("mcp", "marengo_mcp", "bedrock-marengo[mcp]"),
        ("rich", "marengo_cli", "bedrock-marengo[cli]"),
        ("aiohttp", "marengo_local", "bedrock-marengo-local"),
    ],
)
def test_an_import_without_its_extra_says_what_to_install(missing, package, install):
    script = BLOCKER.format(missing=missing, arguments=["--help"]).partition("sys.argv")[0]
    uses = {
        "marengo_cli": "import sys; sys.argv = ['marengo']; marengo_cli.main()",
        "marengo_local": "marengo_local.serve",
    }
    script += f"""
import {package}
{uses.get(package, "")}
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = result.stderr.strip().splitlines()[-1]
    assert f" needs {missing}: pip install" in last
    assert install in last


def test_version():
    result = CliRunner().invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout.split()[:2]) == (0, ["bedrock-marengo", f"{version('bedrock-marengo')},"])


@pytest.mark.parametrize("store", ["/dev/null/store", "file", "broken"])
def test_a_store_that_the_demo_can_not_use_is_a_line_and_2(store, tmp_path, marengo_bedrock):
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "chroma.sqlite3").write_text("not a database" * 100)
    result = CliRunner().invoke(cli.app, ["demo", "--store", str(tmp_path / store)])
    assert result.exit_code == 2
    assert f"--store {tmp_path / store}: " in result.stderr.replace("\n", "")
    assert "Traceback" not in result.stderr


def test_demo_hands_its_options_on(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(demo, "main", lambda arguments: given.extend(arguments) or 1)
    result = CliRunner().invoke(cli.app, ["demo", "--store", str(tmp_path), "--framework", "llama-index"])
    assert result.exit_code == 1
    assert given == ["--store", str(tmp_path), "--framework", "llama-index"]


@pytest.mark.parametrize(
    ("command", "words", "missing"),
    [
        (["search", "a dog"], [], "No region is set"),
        (["search", "a dog"], ["--region", "us-east-1"], "need an S3 prefix"),
        (["embed"], [], "need an S3 prefix"),
        (["embed"], ["--output-s3-uri", "s3://bucket/marengo/"], "No region is set"),
    ],
)
def test_who_has_no_aws_settings_is_offered_local(marengo, monkeypatch, tmp_path, command, words, missing):
    for name in [name for name in os.environ if name.startswith(("AWS_", "MARENGO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(REEL / "cat.jpg", tmp_path)
    result = marengo(*command, tmp_path, *words)
    assert result.exit_code == 2
    assert missing in result.stderr and "without AWS, add --local." in result.stderr
