"""Calls that return vectors: of texts, images and segments."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bedrock_marengo.async_calls import async_twin, in_batches
from bedrock_marengo.aws.parallel import in_order
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.inputs import Media, MediaLike, check_images
from bedrock_marengo.contract.segment_texts import find_segment
from bedrock_marengo.contract.segments import Segment
from bedrock_marengo.errors import MarengoWarning, SegmentNotFoundError
from bedrock_marengo.runtime import ClientBase
from bedrock_marengo.validation import require_many

__all__ = ["Vector", "VectorCalls"]

Vector = npt.NDArray[np.float32]


class VectorCalls(ClientBase):
    """The part of ``MarengoClient`` that returns vectors: one InvokeModel call for each text or image."""

    def embed_text(self, text: str) -> Vector:
        """Embed one text as float32 ``(dimension,)``.

        Raises:
            InputError: The text is empty, not a string, or too long with ``truncate="error"``.
            ServiceError: AWS refused the call.
        """
        invoker = self._runtime.invoker
        return invoker.vector(invoker.text_body(text))

    def embed_texts(self, texts: Iterable[str]) -> npt.NDArray[np.float32]:
        """Embed many texts as float32 ``(n, dimension)``, in order. Identical texts are sent once.

        All texts are checked before the first call. The first failure stops the rest.

        Raises:
            InputError: As for ``embed_text``, with the position of the text.
            ServiceError: AWS refused a call.
        """
        texts = list(require_many(texts, "embed_texts", "texts"))
        return self._embed_texts(texts, range(len(texts)), len(texts))

    def iter_embed_texts(self, texts: Iterable[str]) -> Iterator[Vector]:
        """Embed any number of texts in bounded memory. Yields one float32 ``(dimension,)`` per text, in order.

        Texts are read as needed, and many calls run at once. Identical texts among the last 4,096 are sent once. The
        first failure ends the iteration, after the vectors of all earlier texts.

        Raises:
            InputError: As for ``embed_text``, with the position of the text.
            ServiceError: AWS refused a call.
        """
        texts = require_many(texts, "iter_embed_texts", "texts")
        return self._runtime.invoker.iter_embed(self._runtime.pool("calls"), texts, ahead=self._ahead)

    def embed_image(self, image: MediaLike) -> Vector:
        """Embed one image as float32 ``(dimension,)``. A local image is sent in the request.

        Args:
            image: ``s3://bucket/key``, a ``pathlib.Path`` or ``Media``; JPEG or PNG of at most 5 MB.

        Raises:
            InputError: It is not an image, or it is too large.
            ConfigurationError: The bucket is in another region, or the account that owns it is unknown.
            ServiceError: AWS refused the call.
        """
        media = Media.of(image, "image")
        return self._invoke(payloads.image(self.model, self._location(media)), media.name)

    def embed_images(self, images: Iterable[MediaLike]) -> npt.NDArray[np.float32]:
        """Embed many images as float32 ``(n, dimension)``, in order. Each image is read when it is sent.

        The first failure stops the rest. Raises the errors of ``embed_image``.
        """
        images = require_many(images, "embed_images", "images")
        vectors = list(in_order(self._runtime.pool("calls"), self.embed_image, images, ahead=self._ahead))
        return np.stack(vectors) if vectors else np.empty((0, self.dimension), np.float32)

    def embed_text_image(self, text: str, image: MediaLike) -> Vector:
        """Embed a text and an image as one vector, float32 ``(dimension,)``. Marengo 3.0.

        Raises:
            InputError: The model doesn't support this input, the text is empty or the image can't be used.
            ServiceError: AWS refused.
        """
        media = Media.of(image, "image")
        body = payloads.text_image(self.model, text, self._location(media))
        self._runtime.invoker.check_length(text)
        return self._invoke(body, f"a text with {media.name}")

    def embed_multi_input(self, text: str | None, images: Mapping[str, MediaLike] | Sequence[MediaLike]) -> Vector:
        """Embed up to 10 images as one vector, with an optional text that refers to them. Marengo 3.0.

        Args:
            text: a text that names images as ``<@name>``, such as "<@a> next to <@b>"; None for the images alone.
            images: name -> image, or a plain list if the text names no images.

        Returns:
            float32 ``(dimension,)``.

        Raises:
            InputError: The model doesn't support this input, a name in the text has no image, or there are too many.
            ServiceError: AWS refused.
        """
        check_images(images)
        if isinstance(images, Mapping):
            located: Any = {name: self._location(Media.of(image, "image")) for name, image in images.items()}
        else:
            located = [self._location(Media.of(image, "image")) for image in images]
        body = payloads.multi_input(self.model, text, located)
        if text is not None:
            self._runtime.invoker.check_length(text)
        return self._invoke(body, f"{len(images)} images")

    def segment_vectors(self, segments: Iterable[Segment | str]) -> list[Vector]:
        """The vectors of segments (or of their URIs), each float32 ``(dimension,)``, in order.

        They come from a bounded cache or from the job's output.json under the output prefix. Each output is read once.

        Raises:
            InputError: A string is not a segment's URI.
            SegmentNotFoundError: No job under the output prefix has the segment.
            ServiceError: AWS refused a call.
        """
        wanted = [Segment.of(segment) for segment in require_many(segments, "segment_vectors", "segments")]
        if wanted and self._settings.output_s3_uri is None:
            raise SegmentNotFoundError(
                f"{wanted[0].uri!r} is a segment, and its vector is in a job's output on S3: set {{output_s3_uri}}.",
                setting="output_s3_uri",
                remedy={"output_s3_uri": ...},
            )
        return self._runtime.embedder.segment_vectors(wanted) if wanted else []

    def vectors_of(self, inputs: Sequence[str | Segment]) -> list[Vector]:
        """The vectors of texts and segments, each float32 ``(dimension,)``. Only the texts are embedded.

        Raises:
            InputError: As for ``embed_texts``, with the position of the text among all inputs.
            SegmentNotFoundError: As for ``segment_vectors``.
            ServiceError: AWS refused a call.
        """
        # Segments first: an unknown one is refused before a text costs.
        known = iter(self.segment_vectors([given for given in inputs if isinstance(given, Segment)]))
        texts = {place: given for place, given in enumerate(inputs) if not isinstance(given, Segment)}
        plain = iter(self._embed_texts(list(texts.values()), texts, len(inputs)))
        return [next(known if isinstance(given, Segment) else plain) for given in inputs]

    def document_vectors(self, texts: Iterable[str]) -> list[Vector]:
        """The vectors of texts that a framework wants embedded, each float32 ``(dimension,)``, in order.

        A text that stands for a segment gets the segment's own vector: it begins with the segment's URI in a line, or
        has it by itself in a template ("Content: s3://..."). In a template that isn't LlamaIndex's own, it may also be
        a text that cites a segment: if no such job is under ``output_s3_uri``, it is embedded as text, with a warning.

        Raises:
            InputError: As for ``embed_texts``, or a text is a piece that a text splitter cut from a segment's text.
            SegmentNotFoundError: As for ``segment_vectors``.
            ServiceError: AWS refused a call.
        """
        texts = list(require_many(texts, "document_vectors", "texts"))
        named = [find_segment(text) for text in texts]
        self._runtime.words.refuse_pieces(texts, named)
        cited = {found.segment for found in named if found is not None and not found.is_certain}
        foreign = {segment for segment in cited if not self._has_vector(segment)}
        return self.vectors_of(
            [
                text if found is None or (found.segment in foreign and not found.is_certain) else found.segment
                for text, found in zip(texts, named, strict=True)
            ]
        )

    def remember_words(self, segment: Segment, words: str) -> None:
        """Keep the words of a segment's text, by which ``document_vectors`` recognizes pieces of it."""
        self._runtime.words.remember(segment, words)

    # The same for asyncio.

    aembed_text = async_twin(embed_text)
    aembed_texts = async_twin(embed_texts)
    aembed_image = async_twin(embed_image)
    aembed_images = async_twin(embed_images)
    aembed_text_image = async_twin(embed_text_image)
    aembed_multi_input = async_twin(embed_multi_input)
    asegment_vectors = async_twin(segment_vectors)

    def aiter_embed_texts(self, texts: Iterable[str]) -> AsyncIterator[Vector]:
        """``iter_embed_texts`` for asyncio: ``async for vector in client.aiter_embed_texts(...)``."""
        return in_batches(self.iter_embed_texts(texts), self.run_async)

    # How.

    def _has_vector(self, segment: Segment) -> bool:
        try:
            self.segment_vectors([segment])
        except SegmentNotFoundError as error:
            warnings.warn(
                f"A text that cites {segment.uri!r} is embedded as text: there is no vector of that segment. {error}",
                MarengoWarning,
                stacklevel=4,
            )
            return False
        return True

    def _location(self, image: Media) -> dict[str, Any]:
        return self._runtime.invoker.location(image)

    def _invoke(self, body: dict[str, Any], what: str) -> Vector:
        return self._runtime.invoker.vector(payloads.encode(body), what, kind="image")

    def _embed_texts(self, texts: Sequence[str], places: Iterable[int], total: int) -> npt.NDArray[np.float32]:
        runtime = self._runtime
        return runtime.invoker.embed_texts(runtime.pool("calls"), texts, places, total, ahead=self._ahead)
