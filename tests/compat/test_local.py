"""The stand-in itself, with real pictures and film."""

from pathlib import Path

import numpy as np

import marengo_local
from bedrock_marengo import MarengoClient

REEL = Path(marengo_local.__file__).parent / "reel"


def test_it_finds_a_cat_and_cuts_a_film(marengo_bedrock):
    with MarengoClient(**marengo_bedrock.client_options) as client:
        pictures = client.embed_images([REEL / "cat.jpg", REEL / "rocket.jpg"])
        assert np.argmax(pictures @ client.embed_text("a cat")) == 0
        assert np.argmax(pictures @ client.embed_text("a rocket")) == 1
        film = client.embed_media(REEL / "grand_prix_1906.mp4", options=["visual"])
    assert len(film) > 1 and set(film.scope) == {"clip", "asset"}
