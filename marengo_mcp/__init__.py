"""An MCP server over your own videos: assistants and agents search moments, read their words, and look at frames.

Needs the extra ``mcp``. ``marengo mcp`` runs it. In Python, it is
``run_stdio(create_server(MomentTools(archive_of(retriever))))``, with ``archive_of`` from ``langchain_marengo.tools``
or ``llama_index_marengo.tools``.
"""

try:
    from marengo_mcp.server import create_server, run_http, run_stdio
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"marengo_mcp needs {error.name}: pip install 'bedrock-marengo[mcp]'", name=error.name
    ) from error

__all__ = ["create_server", "run_http", "run_stdio"]
