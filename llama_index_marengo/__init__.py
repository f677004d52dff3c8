"""TwelveLabs Marengo on Amazon Bedrock for LlamaIndex. Unofficial; not by AWS, TwelveLabs or LlamaIndex."""

import logging

try:
    import llama_index.core  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"llama_index_marengo needs {error.name}: pip install 'bedrock-marengo[llama-index]'", name=error.name
    ) from error

from bedrock_marengo import Media, Query, Segment, Segmentation
from llama_index_marengo.asking import MarengoAsk
from llama_index_marengo.context import amoment_blocks, format_moments, moment_blocks
from llama_index_marengo.docstores import SegmentDocumentStore
from llama_index_marengo.embeddings import MarengoEmbedding
from llama_index_marengo.layouts import create_indexes, create_track_indices, insert_segments
from llama_index_marengo.postprocessors import MarengoLinks
from llama_index_marengo.readers import MarengoReader
from llama_index_marengo.retrievers import MarengoRetriever
from llama_index_marengo.segmenter import MarengoSegmenter
from llama_index_marengo.tools import MarengoToolSpec
from llama_index_marengo.words import aadd_words, add_words

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "MarengoAsk",
    "MarengoEmbedding",
    "MarengoLinks",
    "MarengoReader",
    "MarengoRetriever",
    "MarengoSegmenter",
    "MarengoToolSpec",
    "Media",
    "Query",
    "Segment",
    "SegmentDocumentStore",
    "Segmentation",
    "aadd_words",
    "add_words",
    "amoment_blocks",
    "create_indexes",
    "create_track_indices",
    "format_moments",
    "insert_segments",
    "moment_blocks",
]
