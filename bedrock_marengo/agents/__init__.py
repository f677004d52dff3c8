"""Tools for agents over a retriever: what LangChain's toolkit, LlamaIndex's tool spec and the MCP server share."""

from bedrock_marengo.agents.answers import Frame, ToolAnswer
from bedrock_marengo.agents.archive import Archive, Row, stored_items, stored_query
from bedrock_marengo.agents.specs import TOOLS, Argument, ToolSpec
from bedrock_marengo.agents.tools import MomentTools

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
