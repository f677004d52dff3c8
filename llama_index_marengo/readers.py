"""MarengoReader: media files as Documents, one for each file, for MarengoSegmenter."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from llama_index.core.bridge.pydantic import ConfigDict, Field, PrivateAttr, model_validator
from llama_index.core.readers.base import BasePydanticReader, ResourcesReaderMixin
from llama_index.core.schema import Document
from pydantic import ModelWrapValidatorHandler

from bedrock_marengo import InputError, MarengoError, MarengoWarning, Media, MediaResult
from bedrock_marengo.contract.inputs import Sources
from bedrock_marengo.s3.listing import MediaListing
from bedrock_marengo.search.records import Failures, OnError, user_fields
from bedrock_marengo.validation import short_repr
from llama_index_marengo.copies import ValidatedCopies
from llama_index_marengo.embeddings import MarengoEmbedding, validate_with_embed_model

__all__ = ["DOCUMENT_KEYS", "MarengoReader"]

DOCUMENT_KEYS = ("source", "media_type", "size", "etag", "captions")
"""The reader's own keys of a Document's metadata; all others are the user's, and are passed on to the segments."""


class MarengoReader(ValidatedCopies, BasePydanticReader, ResourcesReaderMixin):
    """Lists video, audio and images as Documents, lazily: only names, sizes and ETags are read.

    A Document's ``id_`` is the S3 URI of the file. Its text and metadata include size and ETag, so that a docstore can
    distinguish a changed file from an unchanged one. A local file is uploaded under ``output_s3_uri``, with the digest
    of its bytes in the key, and the Document refers to the upload. Any machine can process it, and a changed file
    becomes a new Document (``DocstoreStrategy.UPSERTS_AND_DELETE`` removes the old one). Captions next to a local file
    are in ``metadata["captions"]``.

    Examples:
        ```python
        media = MarengoReader("s3://bucket/videos/", embed_model=embed_model).load_data()
        ```
    """

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True)

    is_remote: bool = True
    source: Any
    """``s3://bucket/prefix/``, ``s3://bucket/key``, a ``pathlib.Path`` of a file or folder, ``Media``, a ``Manifest``,
    or a list of these.
    """
    embed_model: MarengoEmbedding
    """The S3 settings, credentials and output prefix to use. You can pass its settings as keywords instead."""
    suffixes: Sequence[str] | None = None
    """Load only files with these suffixes, such as [".mp4"], from a prefix or folder."""
    exclude: Sequence[str] = ()
    """Glob patterns of keys to leave out."""
    modified_after: datetime | None = None
    """Load only files modified after this time (with a time zone) from a prefix, folder or manifest."""
    limit: int | None = None
    """The maximum number of files."""
    metadata: Callable[[str], Mapping[str, Any]] | None = Field(default=None, exclude=True)
    """Source URI -> flat dict of your own fields, such as a tenant; each segment gets them."""
    object_tags: Sequence[str] = ()
    """The S3 object tags to add as your own fields; "" if an object lacks one."""
    on_error: OnError = Field(default="raise", exclude=True)
    """"raise" (after all other files), "skip", or a callable that gets the source and the error."""

    _skipped: Counter[str] = PrivateAttr(default_factory=Counter)

    def __init__(self, source: Sources, **settings: Any) -> None:
        super().__init__(**{"source": source, **settings})

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoReader]) -> MarengoReader:
        return validate_with_embed_model(cls, values, handler)

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized form."""
        return "MarengoReader"

    @property
    def skipped(self) -> Counter[str]:
        """How many files of a prefix or folder the last load skipped, by reason: "hidden", "not media", ..."""
        return self._skipped

    def lazy_load_data(self, *args: Any, **load_kwargs: Any) -> Iterator[Document]:
        """Yield Documents while the listing continues.

        Raises:
            bedrock_marengo.MarengoError: The error of the file that failed, or ``MediaFailedError``, at the end.
        """
        failures = Failures(self.on_error)
        for given, media in self._listing().items():
            try:
                if isinstance(media, MarengoError):
                    raise media
                document = self._document(media)
            except MarengoError as error:
                failures.note(MediaResult(given, None, error=error))
            else:
                yield document
        failures.raise_noted()

    async def alazy_load_data(self, *args: Any, **load_kwargs: Any) -> Iterable[Document]:
        """``lazy_load_data`` for asyncio, as one list. LlamaIndex's default would block the event loop."""
        return await self.aload_data()

    async def aload_data(self, *args: Any, **load_kwargs: Any) -> list[Document]:
        """``load_data`` for asyncio."""
        return await self.embed_model.core.run_async(self.load_data)

    def list_resources(self, *args: Any, **kwargs: Any) -> list[str]:
        """The files, as ``s3://bucket/key`` or local path."""
        return [media.name for media in self._listing()]

    def get_resource_info(self, resource_id: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """``source``, ``media_type``, ``size`` in bytes and ``etag`` of one file.

        Raises:
            bedrock_marengo.InputError: A local path that ``list_resources`` doesn't list.
            bedrock_marengo.MediaNotFoundError: There is no such object.
        """
        return self._info(self._resource(resource_id))

    def load_resource(self, resource_id: str, *args: Any, **kwargs: Any) -> list[Document]:
        """The Document of one file, in a list. Raises the same errors as ``get_resource_info``."""
        return [self._document(self._resource(resource_id))]

    async def alist_resources(self, *args: Any, **kwargs: Any) -> list[str]:
        """``list_resources`` for asyncio."""
        return await self.embed_model.core.run_async(self.list_resources)

    async def aget_resource_info(self, resource_id: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """``get_resource_info`` for asyncio."""
        return await self.embed_model.core.run_async(self.get_resource_info, resource_id)

    async def aload_resource(self, resource_id: str, *args: Any, **kwargs: Any) -> list[Document]:
        """``load_resource`` for asyncio."""
        return await self.embed_model.core.run_async(self.load_resource, resource_id)

    def _listing(self) -> MediaListing:
        listing = self.embed_model.core.list_media(
            self.source,
            suffixes=self.suffixes,
            exclude=self.exclude,
            modified_after=self.modified_after,
            limit=self.limit,
        )
        self._skipped = listing.skipped
        return listing

    def _resource(self, resource_id: str) -> Media:
        if not isinstance(resource_id, str):
            raise InputError(f"{short_repr(resource_id)} is not a resource: expected one of list_resources().")
        if resource_id.startswith("s3://"):
            return Media.from_s3(resource_id)
        # A string opens only files of the source that the user gave.
        media = next((media for media in self._listing() if media.name == resource_id), None)
        if media is None:
            raise InputError(f"{resource_id!r} is not a file of this reader: expected one of list_resources().")
        return media

    def _info(self, media: Media) -> dict[str, Any]:
        found = self.embed_model.core.locate(media)
        return {"source": found.uri, "media_type": media.kind, "size": found.size, "etag": found.etag}

    def _document(self, media: Media) -> Document:
        info = self._info(media)
        uri = info["source"]
        fields = user_fields(self.embed_model.core, uri, metadata=self.metadata, object_tags=self.object_tags)
        if taken := set(fields) & set(DOCUMENT_KEYS):
            raise InputError(
                f"metadata for {uri!r} sets {', '.join(sorted(taken))}, which the Document itself uses: choose other "
                "names."
            )
        metadata = {**info, **fields}
        if captions := self._captions(media):
            metadata["captions"] = captions
        return Document(
            id_=uri,
            text=f"{uri}\n{info['size']} bytes, ETag {info['etag']}",
            metadata=metadata,
            excluded_embed_metadata_keys=list(metadata),
            excluded_llm_metadata_keys=["size", "etag", "captions"],
        )

    def _captions(self, media: Media) -> str | None:
        """The captions next to a local file, which are not next to its upload."""
        if not isinstance(media.path, os.PathLike):
            return None
        try:
            transcript = self.embed_model.core.captions_of(media)
        except MarengoError as error:
            warnings.warn(f"{media.name} is loaded without its captions: {error}", MarengoWarning, stacklevel=2)
            return None
        return transcript.captions if transcript else None
