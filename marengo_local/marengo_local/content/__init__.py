"""The stand-in's own embedding model: numpy and PyAV alone, nothing downloaded.

Its values and scales are its own, not Marengo's.
"""

from marengo_local.content.cuts import Segmentation
from marengo_local.content.media import UndecodableMedia
from marengo_local.content.model import ContentModel, Row

__all__ = ["ContentModel", "Row", "Segmentation", "UndecodableMedia"]
