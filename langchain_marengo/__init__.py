"""TwelveLabs Marengo on Amazon Bedrock for LangChain. Unofficial; not by AWS, TwelveLabs or LangChain."""

import logging

from bedrock_marengo import Media, Query, Segment, Segmentation
from langchain_marengo.asking import MarengoAsk
from langchain_marengo.context import amoment_content, format_moments, moment_content
from langchain_marengo.embeddings import MarengoEmbeddings
from langchain_marengo.loaders import MarengoLoader
from langchain_marengo.retrievers import MarengoRetriever
from langchain_marengo.stores import aadd_segments, add_segments, adelete_segments, delete_segments

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "MarengoAsk",
    "MarengoEmbeddings",
    "MarengoLoader",
    "MarengoRetriever",
    "Media",
    "Query",
    "Segment",
    "Segmentation",
    "aadd_segments",
    "add_segments",
    "adelete_segments",
    "amoment_content",
    "delete_segments",
    "format_moments",
    "moment_content",
]
