"""An extra brings what is its own, and nothing of the others."""

import os
from importlib.util import find_spec

import pytest


@pytest.mark.skipif("MARENGO_STRANGERS" not in os.environ, reason="noxfile.py says who is a stranger")
def test_nothing_of_other_extras_is_installed():
    assert [name for name in os.environ["MARENGO_STRANGERS"].split() if find_spec(name)] == []
