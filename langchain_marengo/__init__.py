"""TwelveLabs Marengo on Amazon Bedrock for LangChain. Unofficial; not by AWS, TwelveLabs or LangChain."""

import logging
from importlib.util import find_spec

try:
    import langchain_core  # noqa: F401

    # Importing it takes 0.04 s.
    if find_spec("tqdm") is None:
        raise ModuleNotFoundError(name="tqdm")
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"langchain_marengo needs {error.name}: pip install 'bedrock-marengo[langchain]'", name=error.name
    ) from error

from bedrock_marengo import Media, Query, Segment, Segmentation
from langchain_marengo.asking import MarengoAsk
from langchain_marengo.context import amoment_content, format_moments, moment_content
from langchain_marengo.embeddings import MarengoEmbeddings
from langchain_marengo.layouts import create_indexes, create_track_stores
from langchain_marengo.loaders import MarengoLoader
from langchain_marengo.pruning import Pruned, aprune, prune
from langchain_marengo.retrievers import MarengoRetriever
from langchain_marengo.stores import aadd_segments, add_segments, adelete_segments, delete_segments
from langchain_marengo.tools import MarengoToolkit, create_moment_tools
from langchain_marengo.words import aadd_words, add_words

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "MarengoAsk",
    "MarengoEmbeddings",
    "MarengoLoader",
    "MarengoRetriever",
    "MarengoToolkit",
    "Media",
    "Pruned",
    "Query",
    "Segment",
    "Segmentation",
    "aadd_segments",
    "aadd_words",
    "add_segments",
    "add_words",
    "adelete_segments",
    "amoment_content",
    "aprune",
    "create_indexes",
    "create_moment_tools",
    "create_track_stores",
    "delete_segments",
    "format_moments",
    "moment_content",
    "prune",
]
