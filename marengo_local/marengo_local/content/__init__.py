"""The stand-in's embedding model, in numpy and PyAV; nothing is downloaded.

Its vectors and scores are not Marengo's.
"""

from marengo_local.content.cuts import Segmentation
from marengo_local.content.media import UndecodableMedia
from marengo_local.content.model import ContentModel, Row

__all__ = ["ContentModel", "Row", "Segmentation", "UndecodableMedia"]
