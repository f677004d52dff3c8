"""Visualizations of search results: playable cards, timelines, maps, pages. Extra ``view``. Unofficial; not by AWS."""

from marengo_view.cards import show
from marengo_view.maps import segment_map
from marengo_view.pages import page
from marengo_view.rendering import View
from marengo_view.timelines import timeline

__all__ = ["View", "page", "segment_map", "show", "timeline"]
