"""Retrieved moments for a language model: a block of a prompt, or blocks of text and frames."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.llms import ImageBlock, TextBlock
from llama_index.core.schema import BaseNode, NodeWithScore

from bedrock_marengo.search.prompt import MAX_CHARS, MAX_FRAMES, moment_parts, moment_text
from bedrock_marengo.search.results import results_and_texts
from bedrock_marengo.search.videos import MAX_VIDEO_BYTES, MAX_VIDEOS, VideoPart
from llama_index_marengo.embeddings import MarengoEmbedding

if TYPE_CHECKING:
    from llama_index.core.llms import VideoBlock

__all__ = ["amoment_blocks", "content_block", "format_moments", "moment_blocks"]


def format_moments(nodes: Iterable[NodeWithScore | BaseNode], *, max_chars: int = MAX_CHARS) -> str:
    """Format retrieved segments or moments as text for a prompt, numbered so that an answer can cite them.

    Each has its file, its time code and its words, if it has any: what is said and what is seen on a line each if both
    are there. Other nodes are kept in their place, each as its title or file and its text on one line.

    Args:
        nodes: as a store or a retriever returned them, best first.
        max_chars: the maximum number of characters. Words are cut first, then the last moments are left out.

    Raises:
        bedrock_marengo.InputError: ``max_chars`` is too small for one moment.

    Examples:
        ```python
        moments = format_moments(retriever.retrieve(question))
        llm.complete(f"Answer the question from these moments. {moments} Question: {question}")
        ```
    """
    return moment_text(results_and_texts(nodes), max_chars=max_chars)


def moment_blocks(
    nodes: Iterable[NodeWithScore | BaseNode],
    *,
    embed_model: MarengoEmbedding,
    max_chars: int = MAX_CHARS,
    max_frames: int = MAX_FRAMES,
    frames_per_moment: int = 1,
    width: int = 512,
    allowed_prefixes: Sequence[str] | None = None,
    video: bool = False,
    max_videos: int = MAX_VIDEOS,
    max_video_bytes: int = MAX_VIDEO_BYTES,
) -> list[TextBlock | ImageBlock | VideoBlock]:
    """Format moments as message blocks for a vision model: the text of each moment, followed by its frames.

    Needs the extra ``media``. Frames are JPEGs in the blocks, evenly spaced within each moment. From S3, only the
    required byte ranges are read. If a file can't be read, its moments have no frames and you get a warning.

    Args:
        nodes: as a store or a retriever returned them, best first.
        embed_model: reads the files, with its credentials.
        max_chars: the maximum number of characters of text.
        max_frames: the maximum number of frames in total.
        frames_per_moment: the maximum number of frames per moment.
        width: the maximum width of a frame, in pixels.
        allowed_prefixes: read only from these S3 prefixes and objects. Set it if others can write to your store.
        video: for models that accept video: the best moments come as clips (MP4) of at most 60 s instead of frames.
            Needs a llama-index-core that has ``VideoBlock``.
        max_videos: the maximum number of clips; Amazon Nova accepts one. The other moments have frames.
        max_video_bytes: the maximum size of all clips. A moment whose clip doesn't fit has frames.

    Raises:
        bedrock_marengo.ConfigurationError: PyAV is not installed.
        bedrock_marengo.InputError: A budget, the width or a prefix has a wrong value.

    Examples:
        ```python
        blocks = moment_blocks(retriever.retrieve("a goal"), embed_model=embed_model)
        llm.chat([ChatMessage(role="user", blocks=[TextBlock(text="When is the goal?"), *blocks])])
        ```
    """
    parts = moment_parts(
        embed_model.core,
        results_and_texts(nodes),
        max_chars=max_chars,
        max_frames=max_frames,
        frames_per_moment=frames_per_moment,
        width=width,
        allowed_prefixes=allowed_prefixes,
        video=bool(video),
        max_videos=max_videos,
        max_video_bytes=max_video_bytes,
    )
    return [content_block(part) for part in parts]


async def amoment_blocks(
    nodes: Iterable[NodeWithScore | BaseNode], *, embed_model: MarengoEmbedding, **settings: Any
) -> list[TextBlock | ImageBlock | VideoBlock]:
    """``moment_blocks`` for asyncio."""
    call = functools.partial(moment_blocks, embed_model=embed_model, **settings)
    return await embed_model.core.run_async(call, nodes)


def content_block(part: str | bytes | VideoPart) -> TextBlock | ImageBlock | VideoBlock:
    """A text, a JPEG, or a clip as a block of a message."""
    if isinstance(part, VideoPart):
        # Newer than 0.14.0 of llama-index-core.
        from llama_index.core.llms import VideoBlock

        return VideoBlock(video=part.data, video_mimetype=part.mime_type)
    return TextBlock(text=part) if isinstance(part, str) else ImageBlock(image=part, image_mimetype="image/jpeg")
