"""`marengo ask`: the price first, then the answer."""

import json
from functools import cache

import pytest

from ..films import film

film = cache(film)
SCHEMA = {"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}


@pytest.fixture
def match(local):
    local.synthetic_sec = None
    return local.put(film(seconds=12.0, fps=5), "match.mp4")


def test_an_answer_with_its_price(local, marengo, match):
    result = marengo("ask", match, "What happens?")
    assert result.exit_code == 0, result.output
    assert "at most 0.0212 USD" in result.stderr and "1 call" in result.stderr
    assert result.stdout.strip() and local.usage.pegasus_calls == 1


@pytest.mark.parametrize("words", [["#t=2,8"], ["#t=2", "--end", "8"], ["", "--start-sec", "2", "--end", "8"]])
def test_a_part_of_it(local, marengo, match, words):
    said = json.loads(marengo("ask", match + words[0], "What happens?", *words[1:], "--json").stdout)
    assert (said["source"], said["start_sec"], said["end_sec"]) == (match, 2.0, 8.0)


def test_a_segment_a_local_file_and_a_schema(local, marengo, match, tmp_path):
    segment = f"{match}#t=2,8&track=visual&job=3fa9c1d27b041e55"
    assert json.loads(marengo("ask", segment, "?", "--model", "1.2", "--json").stdout)["end_sec"] == 8.0
    (path := tmp_path / "a.mp4").write_bytes(film(seconds=12.0, fps=5))
    (schema := tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    for given in (schema, json.dumps(SCHEMA)):
        said = json.loads(marengo("ask", path, "?", "--json-schema", given, "--json").stdout)
        assert said["data"]["title"] and json.loads(said["text"]) == said["data"]
    assert marengo("ask", "--local", path, "?").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--max-cost", "0.001"], 1, "--max-cost-usd 0.001"),
        (["--duration-sec", "3600"], 2, "pass --yes, or --max-cost-usd"),
        (["--max-tokens", "1"], 2, "--max-tokens 1: expected 512"),
        (["--start", "60"], 2, "after the end"),
        (["--json-schema", "none.json"], 2, "--json-schema 'none.json'"),
        (["--json-schema", '{"prefixItems": []}'], 2, "prefixItems"),
        (["--model", "2.0"], 2, "expected '1.5' or '1.2'"),
    ],
)
def test_what_is_not_asked(local, marengo, match, words, code, said):
    result = marengo("ask", match, "What happens?", *words)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output
    assert local.usage.pegasus_calls == 0


def test_yes_asks_without_a_question(local, marengo, match):
    assert marengo("ask", match, "?", "--duration-sec", "3600", "--yes").exit_code == 0


@pytest.mark.parametrize("way", ["video", "segment", "1.2"])
def test_embed_with_descriptions(local, marengo, match, way):
    words = ("embed", match, "--describe", way, "--options", "visual")
    said = marengo(*words, "--dry-run").stdout
    assert "pegasus" in said and "may be paid for twice" in said
    assert "pegasus" in marengo("cost", match, "--describe", way).stdout
    assert marengo(*words).exit_code == 0
    calls = local.usage.pegasus_calls
    assert calls and marengo(*words).exit_code == 0 and local.usage.pegasus_calls == calls
    assert "expected video" in marengo("embed", match, "--describe", "all").stderr


@pytest.mark.parametrize(
    ("region", "version", "resources"),
    [
        ("us-east-1", "1.5", ["*::foundation-model/{}", "us-east-1:*:inference-profile/us.{}"]),
        (
            "eu-west-1",
            "1.5",
            ["*::foundation-model/{}", "::foundation-model/{}", "eu-west-1:*:inference-profile/global.{}"],
        ),
        ("ap-northeast-2", "1.2", ["ap-northeast-2::foundation-model/{}"]),
    ],
)
def test_the_policy_and_the_doctor_know_pegasus(local, marengo, region, version, resources):
    policy = json.loads(marengo("doctor", "--pegasus", version, "--policy", "--region", region).stdout)
    (statement,) = [one for one in policy["Statement"] if one["Sid"] == "UsePegasus"]
    model_id = f"twelvelabs.pegasus-{version.replace('.', '-')}-v1:0"
    assert statement["Resource"] == [f"arn:aws:bedrock:{one.format(model_id)}" for one in resources]
    assert "UsePegasus" not in marengo("doctor", "--policy").stdout
    if region == "us-east-1":
        said = marengo("doctor", "--pegasus", version).stdout
        assert f"{model_id} is available" in said
        assert "pegasus" not in marengo("doctor").stdout
