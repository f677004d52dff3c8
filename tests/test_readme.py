"""Every Python block of the README runs, one after another, against the stand-in."""

import re
from pathlib import Path

import pytest
from langchain_core.language_models import FakeListChatModel

ROOT = Path(__file__).parents[1]
REEL = ROOT / "marengo_local/marengo_local/reel"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_readme_runs(marengo_bedrock, capsys):
    from llama_index.core.llms import MockLLM

    marengo_bedrock.put(REEL / "big_buck_bunny.mp4", "videos/rabbit.mp4")
    marengo_bedrock.put(REEL / "grand_prix_1906.mp4", "match.mp4")
    marengo_bedrock.put(REEL / "cat.jpg", "stills/goal.jpg")
    blocks = BLOCK.findall((ROOT / "README.md").read_text())
    names = {}
    for block in blocks:
        # The reader's own model, of the framework that the block is about.
        names["llm"] = MockLLM() if "llama_index" in block else FakeListChatModel(responses=["At 00:00."])
        exec(compile(block.replace("s3://bucket/", f"s3://{marengo_bedrock.bucket}/"), "README.md", "exec"), names)
    assert len(blocks) >= 8
    assert names["result"]["answer"] == "At 00:00."
    assert "rabbit.mp4 at 00:00" in capsys.readouterr().out
