"""The reel's 20 questions as ``evaluate`` takes them."""

from functools import cache

from bedrock_marengo import Media, Query
from marengo_local import reel

film = cache(reel.film)


@cache
def rows(source, *, images=True):
    """A row for each question; the right moment is its scene."""
    scenes = {scene.name: scene for scene in reel.scenes()}
    return [
        {
            "query": question.text or Query(image=Media.from_bytes(reel.query_image(question))),
            "source": source,
            "start_sec": scenes[question.answer].start_sec,
            "end_sec": scenes[question.answer].end_sec,
            "scene": question.answer,
        }
        for question in reel.questions()
        if images or question.text
    ]
