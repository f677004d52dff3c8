"""Retrieved moments for a language model: a block of a prompt, or content with text and frames."""

from __future__ import annotations

import base64
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages.content import ImageContentBlock, TextContentBlock, VideoContentBlock

from bedrock_marengo.search.prompt import MAX_CHARS, MAX_FRAMES, moment_parts, moment_text
from bedrock_marengo.search.results import results_and_texts
from bedrock_marengo.search.videos import MAX_VIDEO_BYTES, MAX_VIDEOS, VideoPart, Videos
from langchain_marengo.embeddings import MarengoEmbeddings

__all__ = ["amoment_content", "content_block", "format_moments", "moment_content"]

ContentBlock = TextContentBlock | ImageContentBlock | VideoContentBlock | dict[str, Any]
"""The last one is a video on S3."""


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
    video: Videos = False,
    max_videos: int = MAX_VIDEOS,
    max_video_bytes: int = MAX_VIDEO_BYTES,
) -> list[ContentBlock]:
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
        video: for models that accept video. True: the best moments come as clips (MP4) of at most 60 s in the content
            instead of frames. "s3": as whole files, which ``ChatBedrockConverse`` has the model read from S3; the text
            of the moment says which part is meant.
        max_videos: the maximum number of videos; Amazon Nova accepts one. The other moments have frames.
        max_video_bytes: the maximum size of all clips. A moment whose clip doesn't fit has frames.

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
        video=video,
        max_videos=max_videos,
        max_video_bytes=max_video_bytes,
    )
    return [content_block(part) for part in parts]


async def amoment_content(
    documents: Iterable[Document], *, embeddings: MarengoEmbeddings, **settings: Any
) -> list[ContentBlock]:
    """``moment_content`` for asyncio."""
    call = functools.partial(moment_content, embeddings=embeddings, **settings)
    return await embeddings.core.run_async(call, documents)


def content_block(part: str | bytes | VideoPart) -> ContentBlock:
    """A text, a JPEG, or a video as a block of a message."""
    # Without the random IDs of create_text_block and create_image_block, which would defeat caches of answers.
    if isinstance(part, str):
        return TextContentBlock(type="text", text=part)
    if isinstance(part, bytes):
        return ImageContentBlock(type="image", base64=base64.b64encode(part).decode(), mime_type="image/jpeg")
    if part.data is not None:
        return VideoContentBlock(type="video", base64=base64.b64encode(part.data).decode(), mime_type=part.mime_type)
    # LangChain's own block has no place for it; ChatBedrockConverse reads this one.
    location = {"type": "s3Location", "media_type": part.mime_type, "data": {"uri": part.s3_uri}}
    return {"type": "video", "source": location}
