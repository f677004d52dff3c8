"""Tools for agents over a retriever: what LangChain's toolkit, LlamaIndex's tool spec and the MCP server share."""

from bedrock_marengo.agents.answers import Frame, ToolAnswer
from bedrock_marengo.agents.archive import Archive, Row, stored_items
from bedrock_marengo.agents.specs import TOOLS, Argument, ToolSpec
from bedrock_marengo.agents.tools import MomentTools
from bedrock_marengo.search.track_hits import stored_query

__all__ = [
    "TOOLS",
    "Archive",
    "Argument",
    "Frame",
    "MomentTools",
    "Row",
    "ToolAnswer",
    "ToolSpec",
    "stored_items",
    "stored_query",
]
