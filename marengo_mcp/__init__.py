"""An MCP server over your own videos: assistants and agents search moments, read their words, and look at frames.

Needs the extra ``mcp``. ``marengo mcp`` runs it.

Examples:
    ```python
    from langchain_marengo.tools import archive_of
    from bedrock_marengo.agents import MomentTools
    from marengo_mcp import create_server, run_stdio

    run_stdio(create_server(MomentTools(archive_of(retriever))))
    ```
"""

try:
    from marengo_mcp.server import create_server, run_http, run_stdio
except ModuleNotFoundError as error:
    raise ImportError(f"marengo_mcp needs {error.name}: pip install 'bedrock-marengo[mcp]'") from error

__all__ = ["create_server", "run_http", "run_stdio"]
