"""Records for stores, ranking and fusion, and results for people and prompts."""

from bedrock_marengo.search.citations import citation
from bedrock_marengo.search.evaluation import evaluate
from bedrock_marengo.search.evaluation_report import Evaluation
from bedrock_marengo.search.fusion import Hit, Moment, SearchSettings, find_moments
from bedrock_marengo.search.migration import Holding, Inventory, take_inventory
from bedrock_marengo.search.questions import Question, RightMoment, read_questions
from bedrock_marengo.search.results import SearchResult, results_from
from bedrock_marengo.search.tuning import WeightSuggestion, suggest_weights
from bedrock_marengo.search.weights import ANCHORS, PRESETS, cosines, intent_weights, weights_of

__all__ = [
    "ANCHORS",
    "PRESETS",
    "Evaluation",
    "Hit",
    "Holding",
    "Inventory",
    "Moment",
    "Question",
    "RightMoment",
    "SearchResult",
    "SearchSettings",
    "WeightSuggestion",
    "citation",
    "cosines",
    "evaluate",
    "find_moments",
    "intent_weights",
    "read_questions",
    "results_from",
    "suggest_weights",
    "take_inventory",
    "weights_of",
]
