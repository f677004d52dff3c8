"""MarengoEmbedding: LlamaIndex's MultiModalEmbedding over the shared core."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from llama_index.core.bridge.pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.embeddings.multi_modal_base import MultiModalEmbedding
from llama_index.core.schema import BaseNode
from pydantic import ModelWrapValidatorHandler
from pydantic_core import InitErrorDetails, PydanticCustomError

from bedrock_marengo import ConfigurationError, InputError, MarengoClient, Media, Query, Segment
from bedrock_marengo.aws.fork_safety import ForkSafeLock
from bedrock_marengo.contract.inputs import ImageLike, check_images, open_image
from bedrock_marengo.validation import reject_unknown, require_many, short_repr

__all__ = ["MarengoEmbedding", "check_nodes", "made_with_embed_model"]

Image = ImageLike | BytesIO
Vector = list[float]
Model = TypeVar("Model", bound=BaseModel)

_SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
# Fields of ours -> keyword arguments of MarengoClient.
_CLIENT = {
    "model_name": "model",
    "region_name": "region_name",
    "profile_name": "profile_name",
    "aws_access_key_id": "aws_access_key_id",
    "aws_secret_access_key": "aws_secret_access_key",
    "aws_session_token": "aws_session_token",
    "client": "bedrock_client",
    "endpoint_url": "endpoint_url",
    "s3_endpoint_url": "s3_endpoint_url",
    "botocore_config": "config",
    "output_s3_uri": "output_s3_uri",
    "invoke_model_id": "invoke_model_id",
    "bucket_owner": "bucket_owner",
    "max_concurrency": "max_concurrency",
    "truncate": "truncate",
    "token_counter": "token_counter",
    "tags": "tags",
    "output_kms_key_id": "output_kms_key_id",
    "role_arn": "role_arn",
    "staging_s3_uri": "staging_s3_uri",
    "identity": "identity",
}
# What LlamaIndex puts before a node's text begins so: "key: value".
_METADATA = re.compile(r"[^\s:][^\n:]*: ")
_PARAGRAPH = re.compile(r"\n\n(s3://[^\n]*)")


class MarengoEmbedding(MultiModalEmbedding):
    """Marengo as LlamaIndex's embedding model: text, image and combined queries, and segments of video and audio.

    Field names are LlamaIndex's Bedrock classes'. All vectors are lists of Python floats: 512 for Marengo 3.0, 1024
    for 2.7. A text that is a segment's, also behind the metadata that LlamaIndex puts first, is not embedded as text:
    it gets the segment's own vector, without a call that costs.

    Examples:
        ```python
        Settings.embed_model = MarengoEmbedding(region_name="us-east-1", output_s3_uri="s3://bucket/marengo/")
        ```
    """

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    model_name: str = "3.0"
    """"3.0", "2.7", a model ID, an inference profile's ID, or an ARN of these."""
    embed_batch_size: int = Field(default=512, gt=0, le=2048)
    """Texts handed to the core at once, which sends ``max_concurrency`` of them at a time: keep it well above that."""
    region_name: str | None = None
    """us-east-1, eu-west-1 or ap-northeast-2; left out, boto3's own settings."""
    profile_name: str | None = None
    """A profile of ~/.aws."""
    # Not read from the environment here: boto3 does, and can renew them.
    aws_access_key_id: SecretStr | None = Field(default=None, exclude=True)
    aws_secret_access_key: SecretStr | None = Field(default=None, exclude=True)
    aws_session_token: SecretStr | None = Field(default=None, exclude=True)
    client: Any = Field(default=None, exclude=True, repr=False)
    """A bedrock-runtime client of your own. It can't leave the process."""
    endpoint_url: str | None = None
    """Bedrock's endpoint, such as a local stand-in's."""
    s3_endpoint_url: str | None = None
    """S3's endpoint."""
    botocore_config: Any = Field(default=None, exclude=True, repr=False)
    """A ``botocore.config.Config``."""
    output_s3_uri: str | None = None
    """An S3 prefix that this package may write to. Needed for segments."""
    invoke_model_id: str | None = None
    """What InvokeModel gets in place of the region's ID, such as an application inference profile's ARN."""
    bucket_owner: str | dict[str, str] | None = None
    """The account that owns the buckets, or bucket -> account. Left out, STS tells one's own."""
    max_concurrency: int = 16
    """Calls in flight at once, however many tasks and batches LlamaIndex starts."""
    truncate: Literal["end", "error"] = "end"
    """What becomes of a text that is too long: cut by the service, or refused."""
    token_counter: Callable[[str], int] | None = Field(default=None, exclude=True, repr=False)
    """Text -> tokens, in place of our estimate."""
    tags: dict[str, str] | None = None
    """Tags of the jobs."""
    output_kms_key_id: str | None = None
    """The key that Bedrock encrypts outputs with."""
    role_arn: str | None = None
    """A role to work in, whose credentials are fetched anew before they run out."""
    staging_s3_uri: str | None = None
    """An S3 prefix in the model's region that media of other regions are copied to while their jobs run."""
    identity: Literal["etag", "checksum"] | Callable[..., str] = Field(default="etag", repr=False)
    """What tells one version of an object from another: see ``MarengoClient``."""
    normalize: bool = False
    """Scale vectors to length 1: Marengo's are off by up to 0.4%, which matters for dot product and L2."""
    local_files: bool = False
    """Whether a path as a string, where an image is taken, opens that file. ``pathlib.Path`` always does."""
    local_root: Path | None = None
    """A folder whose files a path as a string may open."""

    _lock: ForkSafeLock = PrivateAttr(default_factory=ForkSafeLock)
    _built: tuple[dict[str, Any], MarengoClient] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _settings_fit(self) -> MarengoEmbedding:
        # Makes no client and no call: finds a wrong model, owner or prefix when it is typed.
        _ = self.core
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _made(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoEmbedding]) -> MarengoEmbedding:
        return validate_without_secrets(cls, values, handler)

    @classmethod
    def class_name(cls) -> str:
        """The name in serialised form."""
        return "MarengoEmbedding"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """What changes results, and so the key of an IngestionCache: not where, how fast or by whom we are called."""
        return {
            "class_name": self.class_name(),
            "model_name": self.core.model_id,
            "truncate": self.truncate,
            "normalize": self.normalize,
        }

    # What LlamaIndex calls. Its own public methods around these tell its events.

    def _get_query_embedding(self, query: str) -> Vector:
        # A pasted citation is text, too.
        return self.floats(self.core.embed_text(query))

    async def _aget_query_embedding(self, query: str) -> Vector:
        return await self.core.run_async(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> Vector:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Vector:
        return await self.core.run_async(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        vectors = self.core.vectors_of([find_segment(text) or text for text in texts])
        return [self.floats(vector) for vector in vectors]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return await self.core.run_async(self._get_text_embeddings, texts)

    def _get_image_embedding(self, img_file_path: Image) -> Vector:
        return self.floats(self.core.embed_image(self._image(img_file_path)))

    async def _aget_image_embedding(self, img_file_path: Image) -> Vector:
        return await self.core.run_async(self._get_image_embedding, img_file_path)

    def _get_image_embeddings(self, img_file_paths: Sequence[Image]) -> list[Vector]:
        return [self.floats(vector) for vector in self.core.embed_images(map(self._image, img_file_paths))]

    async def _aget_image_embeddings(self, img_file_paths: Sequence[Image]) -> list[Vector]:
        return await self.core.run_async(self._get_image_embeddings, img_file_paths)

    def get_text_embedding_batch(self, texts: list[str], show_progress: bool = False, **kwargs: Any) -> list[Vector]:
        """LlamaIndex's own, but for a string in place of a list, whose letters would be paid for."""
        texts = list(require_many(texts, "get_text_embedding_batch", "texts"))
        return super().get_text_embedding_batch(texts, show_progress, **kwargs)

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Vector]:
        """``get_text_embedding_batch`` for asyncio."""
        texts = list(require_many(texts, "aget_text_embedding_batch", "texts"))
        return await super().aget_text_embedding_batch(texts, show_progress, **kwargs)

    def get_agg_embedding_from_queries(self, queries: list[str], agg_fn: Any = None) -> Vector:
        """LlamaIndex's own, but for a string in place of a list, whose letters would be paid for, and an empty list."""
        return super().get_agg_embedding_from_queries(_queries(queries), agg_fn)

    async def aget_agg_embedding_from_queries(self, queries: list[str], agg_fn: Any = None) -> Vector:
        """``get_agg_embedding_from_queries`` for asyncio."""
        return await super().aget_agg_embedding_from_queries(_queries(queries), agg_fn)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Embed the nodes that have no vector yet; a segment keeps its own."""
        check_nodes(nodes, "MarengoEmbedding")
        super().__call__([node for node in nodes if node.embedding is None], **kwargs)
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """``__call__`` for asyncio."""
        check_nodes(nodes, "MarengoEmbedding")
        await super().acall([node for node in nodes if node.embedding is None], **kwargs)
        return nodes

    # What Marengo has beyond that.

    def get_text_image_embedding(self, text: str, image: Image) -> Vector:
        """A text and an image as one vector. Marengo 3.0.

        Args:
            text: the text.
            image: bytes, ``BytesIO``, ``Media``, ``pathlib.Path``, "s3://...", base64, a data URI; a path as a string
                only with ``local_files=True`` or below ``local_root``.

        Raises:
            bedrock_marengo.InputError: The model has no such input, or one of the two can't be used.
        """
        if text is None:
            raise InputError("This text is None: give one, or embed the image alone by get_image_embedding.")
        return self._embed(Query(text=text, image=self._image(image)))

    def get_multi_input_embedding(self, text: str | None, images: Mapping[str, Image] | Sequence[Image]) -> Vector:
        """Up to 10 images as one vector, placed in the text by ``<@name>`` if there is one. Marengo 3.0.

        Raises:
            bedrock_marengo.InputError: The model has no such input, or a name in the text has no image.
        """
        check_images(images)
        if isinstance(images, Mapping):
            return self._embed(Query(text=text, images={name: self._image(image) for name, image in images.items()}))
        return self._embed(Query(text=text, images=[self._image(image) for image in images]))

    async def aget_text_image_embedding(self, text: str, image: Image) -> Vector:
        """``get_text_image_embedding`` for asyncio."""
        return await self.core.run_async(self.get_text_image_embedding, text, image)

    async def aget_multi_input_embedding(
        self, text: str | None, images: Mapping[str, Image] | Sequence[Image]
    ) -> Vector:
        """``get_multi_input_embedding`` for asyncio."""
        return await self.core.run_async(self.get_multi_input_embedding, text, images)

    @property
    def core(self) -> MarengoClient:
        """The core's client behind this model, made at first use."""
        settings = {name: _open(getattr(self, field)) for field, name in _CLIENT.items()}
        with self._lock:
            # model_copy(update=...) and assignments change settings under a client that was built before.
            if self._built is None or self._built[0] != settings:
                self._built = (settings, MarengoClient(**settings))
            return self._built[1]

    def floats(self, vector: Any) -> Vector:
        """A vector of the core's as LlamaIndex wants it: a list of Python floats, of length 1 if so set."""
        if self.normalize:
            vector = vector / np.linalg.norm(vector)
        found: Vector = vector.tolist()
        return found

    def _image(self, image: Image) -> Media:
        given = image.getvalue() if isinstance(image, BytesIO) else image
        return open_image(given, local_files=self.local_files, local_root=self.local_root)

    def _embed(self, query: Query) -> Vector:
        with self.callback_manager.event(
            CBEventType.EMBEDDING, payload={EventPayload.SERIALIZED: self.to_dict()}
        ) as event:
            vector = self.floats(self.core.embed_query(query))
            event.on_end(payload={EventPayload.CHUNKS: [query.text or ""], EventPayload.EMBEDDINGS: [vector]})
        return vector

    def __getstate__(self) -> dict[str, Any]:
        # Not LlamaIndex's own, which takes what can't be pickled out of the living object and goes on without.
        if self.client is not None:
            raise ConfigurationError(
                "A client that you handed in can't be pickled: give region_name or a profile instead, so that the "
                "other process can make its own."
            )
        state = dict(BaseModel.__getstate__(self))
        # The copy uses the default credential chain; callbacks and clients are this process's.
        gone = (*_SECRETS, "callback_manager")
        state["__dict__"] = {name: value for name, value in state["__dict__"].items() if name not in gone}
        state["__pydantic_private__"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Not LlamaIndex's own, which would hide why settings don't fit.
        self.__init__(**state["__dict__"])  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> MarengoEmbedding:
        # Within a process a copy keeps its credentials, and shares the client.
        return self.__copy__()


def find_segment(text: str) -> Segment | None:
    """The segment that a text is, at once or behind metadata as ``node.get_content(MetadataMode.EMBED)`` puts them."""
    segment = Segment.find(text)
    if segment is not None or not isinstance(text, str) or not _METADATA.match(text):
        return segment
    found = (Segment.find(paragraph[1]) for paragraph in _PARAGRAPH.finditer(text))
    return next((segment for segment in found if segment is not None), None)


def check_nodes(nodes: Any, where: str) -> None:
    """Refuse what is no list of nodes.

    Raises:
        InputError: As said.
    """
    for node in require_many(nodes, where, "nodes"):
        if not isinstance(node, BaseNode):
            raise InputError(f"{short_repr(node)} is no node: {where} takes a list of LlamaIndex's nodes or Documents.")


def validate_without_secrets(
    cls: type[Model], values: Any, handler: Callable[[Any], Model], known: Iterable[str] = ()
) -> Model:
    """Make a component of its settings, with errors that name them and never hold what was handed in: it may be secret.

    Raises:
        ValidationError: A setting does not fit, or none is called so.
    """
    said: list[tuple[str, str, tuple[int | str, ...]]]
    try:
        if isinstance(values, dict):
            reject_unknown(values, dict.fromkeys([*cls.model_fields, *known]), cls.__name__)
        return handler(values)
    except (ConfigurationError, InputError) as error:
        said = [("value_error", f"Value error, {error}", ())]
    except ValidationError as error:
        said = [(line["type"], line["msg"], line["loc"]) for line in error.errors(include_url=False)]
    lines = [InitErrorDetails(type=PydanticCustomError(kind, words), loc=loc, input=None) for kind, words, loc in said]
    raise ValidationError.from_exception_data(cls.__name__, lines, hide_input=True)


def with_embed_model(values: Any) -> Any:
    """Settings of a component that has an ``embed_model``, where it may be given by its own settings in its place.

    Raises:
        ConfigurationError: Both were given.
    """
    if not isinstance(values, dict):
        return values
    own = {name: value for name, value in values.items() if name in MarengoEmbedding.model_fields}
    own.pop("callback_manager", None)
    if values.get("embed_model") is None:
        rest = {name: value for name, value in values.items() if name not in own}
        return {**rest, "embed_model": MarengoEmbedding(**own)}
    if own:
        raise ConfigurationError(f"Give embed_model=, or its settings ({', '.join(own)}), not both.")
    return values


def made_with_embed_model(cls: type[Model], values: Any, handler: ModelWrapValidatorHandler[Model]) -> Model:
    """``validate_without_secrets`` for a component that has an ``embed_model``, or takes its settings in its place."""
    return validate_without_secrets(
        cls, values, lambda given: handler(with_embed_model(given)), MarengoEmbedding.model_fields
    )


def _queries(queries: list[str]) -> list[str]:
    found = list(require_many(queries, "get_agg_embedding_from_queries", "queries"))
    if not found:
        raise InputError("An empty query has no vector: give at least one word, or a Query.")
    return found


def _open(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
