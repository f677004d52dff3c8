"""Records for stores, ranking and fusion, and results for people and prompts."""

from bedrock_marengo.search.citations import citation
from bedrock_marengo.search.fusion import Hit, Moment, SearchSettings, find_moments
from bedrock_marengo.search.migration import Holding, Inventory, take_inventory
from bedrock_marengo.search.results import SearchResult, results_from
from bedrock_marengo.search.weights import ANCHORS, PRESETS, cosines, intent_weights, weights_of

__all__ = [
    "ANCHORS",
    "PRESETS",
    "Hit",
    "Holding",
    "Inventory",
    "Moment",
    "SearchResult",
    "SearchSettings",
    "citation",
    "cosines",
    "find_moments",
    "intent_weights",
    "results_from",
    "take_inventory",
    "weights_of",
]
