"""Retrieved moments for a language model: a block of a prompt, or content with text and frames."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages.content import ImageContentBlock, TextContentBlock

from bedrock_marengo.search.prompt import MAX_CHARS, MAX_FRAMES, moment_parts, moment_text
from bedrock_marengo.search.results import results_and_texts
from langchain_marengo.embeddings import MarengoEmbeddings

__all__ = ["amoment_content", "content_block", "format_moments", "moment_content"]


def format_moments(documents: Iterable[Document], *, max_chars: int = MAX_CHARS) -> str:
    """Format retrieved segments or moments as text for a prompt, numbered so that an answer can cite them.

    Each has its file, its time code and its words, if it has any: what is said and what is seen on a line each if both
    are there. Other documents are kept in their place, each as its title or file and its text on one line.

    Args:
        documents: as a store or a retriever returned them, best first.
        max_chars: the maximum number of characters. Words are cut first, then the last moments are left out.

    Raises:
        bedrock_marengo.InputError: ``max_chars`` is too small for one moment.

    Examples:
        ```python
        chain = {"context": retriever | format_moments, "question": RunnablePassthrough()} | prompt | llm
        ```
    """
    return moment_text(results_and_texts(documents), max_chars=max_chars)


def moment_content(
    documents: Iterable[Document],
    *,
    embeddings: MarengoEmbeddings,
    max_chars: int = MAX_CHARS,
    max_frames: int = MAX_FRAMES,
    frames_per_moment: int = 1,
    width: int = 512,
    allowed_prefixes: Sequence[str] | None = None,
) -> list[TextContentBlock | ImageContentBlock]:
    """Format moments as message content for a vision model: the text of each moment, followed by its frames.

    Needs the extra ``media``. Frames are JPEGs in the content, evenly spaced within each moment. From S3, only the
    required byte ranges are read. If a file can't be read, its moments have no frames and you get a warning.

    Args:
        documents: as a store or a retriever returned them, best first.
        embeddings: reads the files, with its credentials.
        max_chars: the maximum number of characters of text.
        max_frames: the maximum number of frames in total.
        frames_per_moment: the maximum number of frames per moment.
        width: the maximum width of a frame, in pixels.
        allowed_prefixes: read only from these S3 prefixes and objects. Set it if others can write to your store.

    Raises:
        bedrock_marengo.ConfigurationError: PyAV is not installed.
        bedrock_marengo.InputError: A budget, the width or a prefix has a wrong value.

    Examples:
        ```python
        content = moment_content(retriever.invoke("a goal"), embeddings=embeddings)
        llm.invoke([HumanMessage(content=[{"type": "text", "text": "When is the goal?"}, *content])])
        ```
    """
    parts = moment_parts(
        embeddings.core,
        results_and_texts(documents),
        max_chars=max_chars,
        max_frames=max_frames,
        frames_per_moment=frames_per_moment,
        width=width,
        allowed_prefixes=allowed_prefixes,
    )
    return [content_block(part) for part in parts]


async def amoment_content(
    documents: Iterable[Document], *, embeddings: MarengoEmbeddings, **settings: Any
) -> list[TextContentBlock | ImageContentBlock]:
    """``moment_content`` for asyncio."""
    call = functools.partial(moment_content, embeddings=embeddings, **settings)
    return await embeddings.core.run_async(call, documents)


def content_block(part: str | bytes) -> TextContentBlock | ImageContentBlock:
    """A text, or a JPEG, as a block of a message."""
    # Without the random IDs of create_text_block and create_image_block, which would defeat caches of answers.
    if isinstance(part, str):
        return TextContentBlock(type="text", text=part)
    return ImageContentBlock(type="image", base64=base64.b64encode(part).decode(), mime_type="image/jpeg")
