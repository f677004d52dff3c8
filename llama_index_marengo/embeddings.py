"""MarengoEmbedding: LlamaIndex's MultiModalEmbedding over the shared core."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

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
from llama_index.core.schema import BaseNode, MetadataMode
from pydantic import ModelWrapValidatorHandler, PlainSerializer
from pydantic_core import InitErrorDetails, PydanticCustomError

from bedrock_marengo import ConfigurationError, InputError, MarengoClient, Media, Query
from bedrock_marengo.contract.images import open_image
from bedrock_marengo.contract.inputs import ImageLike, check_images
from bedrock_marengo.contract.segments import METADATA_KEYS, Segment
from bedrock_marengo.errors import MarengoError, as_keyword
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.settings import ClientSettings
from bedrock_marengo.validation import reject_unknown, require_many, short_repr
from llama_index_marengo.copies import SECRETS, ValidatedCopies

__all__ = ["MarengoEmbedding", "check_nodes", "validate_with_embed_model"]

Image = ImageLike | BytesIO
Vector = list[float]
Model = TypeVar("Model", bound=BaseModel)

# Where a field has another name than the setting of MarengoClient: setting -> field.
_RENAMED = {"model": "model_name", "bedrock_client": "client", "config": "botocore_config"}


class MarengoEmbedding(ValidatedCopies, MultiModalEmbedding):
    """LlamaIndex embedding model for Marengo: text, image and combined queries, and segments of video and audio.

    Fields have the same names as in LlamaIndex's Bedrock classes. All vectors are lists of Python floats: 512 for
    Marengo 3.0, 1024 for 2.7. The text of a segment, with whatever metadata and template LlamaIndex puts around it, is
    not embedded as text: it gets the segment's own vector, without a billed call.

    Examples:
        ```python
        Settings.embed_model = MarengoEmbedding(region_name="us-east-1", output_s3_uri="s3://bucket/marengo/")
        ```
    """

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    model_name: str = "3.0"
    """"3.0", "2.7", a model ID, an inference profile ID, or the ARN of either."""
    embed_batch_size: int = Field(default=512, gt=0, le=2048)
    """Texts per batch. The core sends ``max_concurrency`` of them at a time: keep this well above that."""
    region_name: str | None = None
    """us-east-1, eu-west-1 or ap-northeast-2 (3.0 ends there on 2027-03-22). Default: boto3's configuration."""
    profile_name: str | None = None
    """A profile in ~/.aws."""
    # Not read from the environment here: boto3 does that, and can refresh them.
    aws_access_key_id: SecretStr | None = Field(default=None, exclude=True)
    aws_secret_access_key: SecretStr | None = Field(default=None, exclude=True)
    aws_session_token: SecretStr | None = Field(default=None, exclude=True)
    client: Any = Field(default=None, exclude=True, repr=False)
    """Your own bedrock-runtime client. It can't be pickled."""
    endpoint_url: str | None = None
    """The Bedrock endpoint, such as that of a local stand-in."""
    s3_endpoint_url: str | None = None
    """The S3 endpoint."""
    transcribe_endpoint_url: str | None = None
    """The endpoint of Amazon Transcribe."""
    botocore_config: Any = Field(default=None, exclude=True, repr=False)
    """A ``botocore.config.Config``."""
    output_s3_uri: str | None = None
    """An S3 prefix that this package may write to. Required for segments."""
    invoke_model_id: str | None = None
    """The model ID for InvokeModel instead of the region's default, such as the ARN of an inference profile."""
    bucket_owner: str | dict[str, str] | None = None
    """The account that owns the buckets, or bucket -> account. Default: the caller's account, from STS."""
    max_concurrency: int = 16
    """The maximum number of calls in flight, no matter how many tasks and batches LlamaIndex starts."""
    truncate: Literal["end", "error"] = "end"
    """What happens to a text that is too long: "end" lets the service truncate it, "error" refuses it."""
    token_counter: Callable[[str], int] | None = Field(default=None, exclude=True, repr=False)
    """Text -> number of tokens, instead of our estimate."""
    tags: dict[str, str] | None = None
    """Tags for the jobs, which appear on the AWS bill."""
    job_slots: Any = Field(default=None, exclude=True, repr=False)
    """Limits the running jobs of several processes together, such as ``marengo_ray.RayJobSlots``."""
    output_kms_key_id: str | None = None
    """The KMS key that Bedrock encrypts outputs with."""
    role_arn: str | None = None
    """A role to assume; its credentials are refreshed before they expire."""
    staging_s3_uri: str | None = None
    """An S3 prefix in the model's region. Files from other regions are copied there while their jobs run."""
    identity: Literal["etag", "checksum"] | Callable[..., str] = Field(default="etag", repr=False)
    """How to distinguish versions of an object: see ``MarengoClient``."""
    normalize: bool = False
    """Scale vectors to length 1. Marengo's are off by up to 0.4%, which matters for dot product and L2."""
    local_files: bool = False
    """Whether a path given as a string opens that file as an image. ``pathlib.Path`` always does."""
    local_root: Annotated[Path, PlainSerializer(str)] | None = None
    """A folder. Paths given as strings can open only the files in it."""

    _lock: ForkSafeLock = PrivateAttr(default_factory=ForkSafeLock)
    _built: tuple[dict[str, Any], MarengoClient] | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _settings_fit(self) -> MarengoEmbedding:
        # Makes no call: a wrong model, owner or prefix is refused here.
        _ = self.core
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoEmbedding]) -> MarengoEmbedding:
        return validate_without_secrets(cls, values, handler)

    @classmethod
    def class_name(cls) -> str:
        """The name in serialized form."""
        return "MarengoEmbedding"

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The settings that change results, for the key of an IngestionCache: no region, concurrency or credentials.

        ``from_dict`` makes a model of these, with boto3's defaults and no ``output_s3_uri``: pass the rest as keywords.
        ``model_dump`` holds all settings but credentials, objects and callables other than ``identity``.
        """
        return {
            "class_name": self.class_name(),
            "model_name": self.core.model_id,
            "truncate": self.truncate,
            "normalize": self.normalize,
        }

    # What LlamaIndex's public methods call; they send the events.

    def _get_query_embedding(self, query: str) -> Vector:
        if isinstance(query, Query | Media | os.PathLike):
            raise InputError(
                f"A query of an index is a text, not {type(query).__name__}. Use MarengoRetriever, which takes a "
                "Query, or QueryBundle('', embedding=embed_model.get_image_embedding(path))."
            )
        # A pasted citation is text, too.
        return self.floats(self.core.embed_text(query))

    async def _aget_query_embedding(self, query: str) -> Vector:
        return await self.core.run_async(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> Vector:
        return self._get_text_embeddings([text])[0]

    async def _aget_text_embedding(self, text: str) -> Vector:
        return await self.core.run_async(self._get_text_embedding, text)

    def _get_text_embeddings(self, texts: list[str]) -> list[Vector]:
        return [self.floats(vector) for vector in self.core.document_vectors(texts)]

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
        """As in LlamaIndex, but refuses a string instead of a list, because each letter would be billed."""
        texts = list(require_many(texts, "get_text_embedding_batch", "texts"))
        return super().get_text_embedding_batch(texts, show_progress, **kwargs)

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Vector]:
        """``get_text_embedding_batch`` for asyncio."""
        texts = list(require_many(texts, "aget_text_embedding_batch", "texts"))
        return await super().aget_text_embedding_batch(texts, show_progress, **kwargs)

    def get_agg_embedding_from_queries(self, queries: list[str], agg_fn: Any = None) -> Vector:
        """As in LlamaIndex, but refuses an empty list, and a string instead of a list."""
        return super().get_agg_embedding_from_queries(_queries(queries), agg_fn)

    async def aget_agg_embedding_from_queries(self, queries: list[str], agg_fn: Any = None) -> Vector:
        """``get_agg_embedding_from_queries`` for asyncio."""
        return await super().aget_agg_embedding_from_queries(_queries(queries), agg_fn)

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Embed the nodes that have no vector yet; a segment keeps its own, whatever its template.

        Raises:
            bedrock_marengo.InputError: A node is a piece that a text splitter cut from a segment.
        """
        without, texts = _to_embed(nodes)
        for node, vector in zip(without, self.get_text_embedding_batch(texts, **kwargs), strict=True):
            node.embedding = vector
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """``__call__`` for asyncio."""
        without, texts = _to_embed(nodes)
        for node, vector in zip(without, await self.aget_text_embedding_batch(texts, **kwargs), strict=True):
            node.embedding = vector
        return nodes

    # Further inputs of Marengo.

    def get_text_image_embedding(self, text: str, image: Image) -> Vector:
        """A text and an image as one vector. Marengo 3.0.

        Args:
            text: the text.
            image: bytes, ``BytesIO``, ``Media``, ``pathlib.Path``, "s3://...", base64, a data URI; a string that is a
                path only with ``local_files=True`` or in ``local_root``.

        Raises:
            bedrock_marengo.InputError: The model doesn't support this input, or the text or the image can't be used.
        """
        if text is None:
            raise InputError("text=None: expected a string. To embed only the image, use get_image_embedding.")
        return self._embed(Query(text=text, image=self._image(image)))

    def get_multi_input_embedding(self, text: str | None, images: Mapping[str, Image] | Sequence[Image]) -> Vector:
        """Up to 10 images as one vector, placed in the text by ``<@name>`` if there is one. Marengo 3.0.

        Raises:
            bedrock_marengo.InputError: The model doesn't support this input, or a name in the text has no image.
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
        """The core's client behind this model, created at the first use."""
        settings = {setting: _open(getattr(self, field)) for setting, field in _CLIENT.items()}
        with self._lock:
            # model_copy(update=...) and assignments can change settings after a client was made.
            if self._built is None or self._built[0] != settings:
                self._built = (settings, MarengoClient(**settings))
            return self._built[1]

    def floats(self, vector: Any) -> Vector:
        """A vector of the core as LlamaIndex wants it: a list of Python floats, of length 1 with ``normalize=True``."""
        if self.normalize:
            vector = vector / np.linalg.norm(vector)
        floats: Vector = vector.tolist()
        return floats

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
        # Not LlamaIndex's own, which removes what can't be pickled from the object itself and continues without it.
        if self.client is not None:
            raise ConfigurationError(
                "Your own client (client=) can't be pickled: set region_name or a profile instead, so that the "
                "other process can make its own."
            )
        state = dict(BaseModel.__getstate__(self))
        # The copy uses the default credential chain; callbacks and clients belong to this process.
        dropped = (*SECRETS, "callback_manager")
        state["__dict__"] = {name: value for name, value in state["__dict__"].items() if name not in dropped}
        state["__pydantic_private__"] = None
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Not LlamaIndex's own, which would hide why settings are refused.
        self.__init__(**state["__dict__"])  # type: ignore[misc]

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> MarengoEmbedding:
        # Within a process a copy keeps its credentials and shares the client.
        return self.__copy__()


# Setting of MarengoClient -> the field for it.
_CLIENT = {
    setting.name: field
    for setting in fields(ClientSettings)
    if (field := _RENAMED.get(setting.name, setting.name)) in MarengoEmbedding.model_fields
}


def check_nodes(nodes: Any, where: str) -> None:
    """Refuse what is not a list of nodes.

    Raises:
        InputError: Not a list, or something in it that isn't a node.
    """
    for node in require_many(nodes, where, "nodes"):
        if not isinstance(node, BaseNode):
            raise InputError(
                f"{short_repr(node)} is not a node: {where} takes a list of LlamaIndex's nodes or Documents."
            )


def _to_embed(nodes: Sequence[BaseNode]) -> tuple[list[BaseNode], list[str]]:
    """The nodes without a vector, and the text of each: a segment's own, else what its template makes of it."""
    check_nodes(nodes, "MarengoEmbedding")
    without, texts = [], []
    for node in nodes:
        text = node.get_content(MetadataMode.NONE)
        is_segment = Segment.find(text) is not None
        if not is_segment and node.metadata.keys() >= set(METADATA_KEYS):
            raise InputError(
                f"The node {node.node_id!r} has a segment's metadata and not its text, {short_repr(text)}: a text "
                "splitter has cut it. A segment has one vector, and a piece of its text has none. Put the splitter "
                "before MarengoSegmenter, which leaves its nodes unchanged."
            )
        if node.embedding is None:
            without.append(node)
            texts.append(text if is_segment else node.get_content(MetadataMode.EMBED))
    return without, texts


def validate_without_secrets(
    cls: type[Model], values: Any, handler: Callable[[Any], Model], known: Iterable[str] = ()
) -> Model:
    """Make a component from its settings. Errors name the settings and contain no values, which may be secret.

    Raises:
        ValidationError: A setting has a wrong value or an unknown name.
    """
    found: list[tuple[str, str, tuple[int | str, ...]]]
    try:
        if isinstance(values, dict):
            # LlamaIndex's dumps hold the class.
            values = {name: value for name, value in values.items() if (name, value) != ("class_name", cls.__name__)}
            reject_unknown(values, dict.fromkeys([*cls.model_fields, *known]), cls.__name__)
        return handler(values)
    except (ConfigurationError, InputError) as error:
        found = [("value_error", _words_of(error), ())]
    except ValidationError as error:
        found = [
            (line["type"], _words_of(line.get("ctx", {}).get("error"), line["msg"]), line["loc"])
            for line in error.errors(include_url=False)
        ]
    lines = [InitErrorDetails(type=PydanticCustomError(kind, words), loc=loc, input=None) for kind, words, loc in found]
    raise ValidationError.from_exception_data(cls.__name__, lines, hide_input=True)


def with_embed_model(values: Any) -> Any:
    """The settings of a component, with ``embed_model`` made from its own settings if these are given instead.

    Raises:
        ConfigurationError: Both are given.
    """
    if not isinstance(values, dict):
        return values
    model_settings = {name: value for name, value in values.items() if name in MarengoEmbedding.model_fields}
    model_settings.pop("callback_manager", None)
    if values.get("embed_model") is None:
        rest = {name: value for name, value in values.items() if name not in model_settings}
        return {**rest, "embed_model": MarengoEmbedding(**model_settings)}
    if model_settings:
        raise ConfigurationError(f"Pass embed_model= or its settings ({', '.join(model_settings)}), not both.")
    return values


def validate_with_embed_model(cls: type[Model], values: Any, handler: ModelWrapValidatorHandler[Model]) -> Model:
    """``validate_without_secrets`` for a component that takes an ``embed_model``, or its settings instead."""
    return validate_without_secrets(
        cls, values, lambda given: handler(with_embed_model(given)), MarengoEmbedding.model_fields
    )


def _queries(queries: list[str]) -> list[str]:
    given = list(require_many(queries, "get_agg_embedding_from_queries", "queries"))
    if not given:
        raise InputError("The query is empty, so it has no vector: pass at least one word, or a Query.")
    return given


def _words_of(error: Any, otherwise: str = "") -> str:
    """An error of ours with its settings under our field names; ``otherwise`` for an error of pydantic's."""
    if not isinstance(error, MarengoError):
        return otherwise
    return f"Value error, {error.render(lambda setting, value: as_keyword(_RENAMED.get(setting, setting), value))}"


def _open(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
