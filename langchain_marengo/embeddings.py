"""MarengoEmbeddings: LangChain's Embeddings over the shared core."""

from __future__ import annotations

import os
import uuid
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import numpy as np
from langchain_core.embeddings import Embeddings
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from bedrock_marengo import ConfigurationError, InputError, MarengoClient, MarengoWarning, Media, Query
from bedrock_marengo.contract.images import open_image
from bedrock_marengo.contract.inputs import ImageLike, check_images
from bedrock_marengo.errors import MarengoError, as_keyword
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.settings import ClientSettings
from bedrock_marengo.validation import is_number, reject_unknown, require_many, short_repr
from langchain_marengo.copies import SECRETS, ValidatedCopies

__all__ = ["MarengoEmbeddings"]

Vector = list[float]
Model = TypeVar("Model", bound=BaseModel)

HANDLE = "marengo-query:"
_HANDLES = 10_000
# Where a field has another name than the setting of MarengoClient: setting -> field.
_RENAMED = {"model": "model_id", "profile_name": "credentials_profile_name", "bedrock_client": "client"}


class MarengoEmbeddings(ValidatedCopies, Embeddings):
    """LangChain ``Embeddings`` for Marengo: text and image queries, and segments of video and audio.

    Fields have the same names as in ``BedrockEmbeddings`` of langchain-aws. All vectors are lists of Python floats: 512
    for Marengo 3.0, 1024 for 2.7. A text whose first line is a segment's URI is not embedded as text: it gets the
    segment's own vector.

    Examples:
        ```python
        embeddings = MarengoEmbeddings(region_name="us-east-1", output_s3_uri="s3://bucket/marengo/")
        embeddings.embed_query("a goal from a corner")
        ```
    """

    model_config = ConfigDict(
        extra="forbid", protected_namespaces=(), arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    client: Any = Field(default=None, exclude=True, repr=False)
    """Your own bedrock-runtime client. It can't be pickled."""
    model_id: str = "3.0"
    """"3.0", "2.7", a model ID, an inference profile ID, or the ARN of either."""
    region_name: str | None = None
    """us-east-1, eu-west-1 or ap-northeast-2 (3.0 ends there on 2027-03-22). Default: boto3's configuration."""
    credentials_profile_name: str | None = None
    """A profile in ~/.aws."""
    # Not read from the environment here: boto3 does that, and can refresh them.
    aws_access_key_id: SecretStr | None = None
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    endpoint_url: str | None = None
    """The Bedrock endpoint, such as that of a local stand-in."""
    s3_endpoint_url: str | None = None
    """The S3 endpoint."""
    transcribe_endpoint_url: str | None = None
    """The endpoint of Amazon Transcribe."""
    config: Any = Field(default=None, exclude=True, repr=False)
    """A ``botocore.config.Config``."""
    output_s3_uri: str | None = None
    """An S3 prefix that this package may write to. Required for segments."""
    invoke_model_id: str | None = None
    """The model ID for InvokeModel instead of the region's default, such as the ARN of an inference profile."""
    bucket_owner: str | dict[str, str] | None = None
    """The account that owns the buckets, or bucket -> account. Default: the caller's account, from STS."""
    max_concurrency: int = 16
    """The maximum number of calls in flight."""
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
    local_root: Path | None = None
    """A folder. Paths given as strings can open only the files in it."""
    provider: Literal["twelvelabs"] | None = None
    """For code written for BedrockEmbeddings."""
    dimensions: int | None = None
    """For code written for BedrockEmbeddings. Marengo's dimension is fixed; any other is refused."""
    model_kwargs: dict[str, Any] | None = None
    """For code written for BedrockEmbeddings. Marengo has no further parameters; any is refused."""

    _lock: ForkSafeLock = PrivateAttr(default_factory=ForkSafeLock)
    _built: tuple[dict[str, Any], MarengoClient] | None = PrivateAttr(default=None)
    _handles: OrderedDict[str, Query | Vector] = PrivateAttr(default_factory=OrderedDict)

    @field_validator("model_kwargs")
    @classmethod
    def _no_free_parameters(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value:
            raise ValueError(
                f"model_kwargs={sorted(value)}: Marengo has no other parameters. Use truncate= or the loader's options."
            )
        return value

    @model_validator(mode="after")
    def _settings_fit(self) -> MarengoEmbeddings:
        # Makes no call: a wrong model, owner or prefix is refused here.
        dimension = self.core.dimension
        if self.dimensions not in (None, dimension):
            raise ValueError(
                f"dimensions={self.dimensions}: {self.core.model_id} always has {dimension}. Leave the setting out."
            )
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _validate(cls, values: Any, handler: ModelWrapValidatorHandler[MarengoEmbeddings]) -> MarengoEmbeddings:
        return validate_without_secrets(cls, values, handler)

    # The methods of LangChain's Embeddings.

    def embed_documents(self, texts: list[str]) -> list[Vector]:
        """One vector for each text, in order. A segment's text gets the segment's own vector, without a billed call.

        Raises:
            bedrock_marengo.SegmentNotFoundError: The job of a segment isn't under ``output_s3_uri``.
            bedrock_marengo.InputError: An empty text.
            bedrock_marengo.ServiceError: AWS refused.
        """
        texts = list(require_many(texts, "embed_documents", "texts"))
        if texts == ["dummy_text"]:
            # Qdrant's constructor embeds this to find the dimension, which isn't worth a billed call.
            return [[self.core.dimension**-0.5] * self.core.dimension]
        return [self.floats(vector) for vector in self.core.document_vectors(texts)]

    def embed_query(self, text: str) -> Vector:
        """The vector of a query. Any string is text, even a segment's URI, except a ``query_handle``.

        Raises:
            bedrock_marengo.InputError: An empty text, or one that is too long with ``truncate="error"``.
            bedrock_marengo.ServiceError: AWS refused.
        """
        if isinstance(text, Query | Media | os.PathLike):
            raise InputError(
                f"A store and its as_retriever() search by text, not {type(text).__name__}. Pass "
                "embeddings.query_handle(Query(...)), or use MarengoRetriever, which takes a Query."
            )
        is_handle = isinstance(text, str) and text.startswith(HANDLE)
        query = self._handles.get(text) if is_handle else None
        if isinstance(query, list):
            return query
        if query is not None:
            vector = self.floats(self.core.embed_query(query))
            self._keep(text, vector)
            return vector
        if is_handle:
            warnings.warn(
                "This query handle is unknown: it comes from another process, or is too old. It is embedded as text.",
                MarengoWarning,
                stacklevel=2,
            )
        return self.floats(self.core.embed_text(text))

    async def aembed_documents(self, texts: list[str]) -> list[Vector]:
        """``embed_documents`` for asyncio."""
        return await self.core.run_async(self.embed_documents, texts)

    async def aembed_query(self, text: str) -> Vector:
        """``embed_query`` for asyncio."""
        return await self.core.run_async(self.embed_query, text)

    # Further inputs of Marengo.

    def query_handle(self, query: Query | Vector) -> str:
        """A string that stands for any query, or for a query's vector, wherever LangChain expects a string.

        ``store.as_retriever().invoke(embeddings.query_handle(Query(image=Path("goal.jpg"))))`` searches by image in any
        store. It works in this process and with these embeddings only, and opens only the files of ``query``.
        """
        if not isinstance(query, Query) and not self._is_vector(query):
            raise InputError(
                f"{short_repr(query)} is not a query: expected Query(...) or a list of {self.core.dimension} numbers."
            )
        handle = f"{HANDLE}{uuid.uuid4()}"
        self._keep(handle, query)
        return handle

    @overload
    def embed_image(self, image: ImageLike) -> Vector: ...
    @overload
    def embed_image(self, *, uris: Sequence[ImageLike]) -> list[Vector]: ...
    def embed_image(
        self, image: ImageLike | None = None, *, uris: Sequence[ImageLike] | None = None
    ) -> Vector | list[Vector]:
        """The vector of one image, as in langchain-aws; with ``uris=``, a list of vectors, as in Chroma and LanceDB.

        Args:
            image: bytes, ``Media``, ``pathlib.Path``, "s3://...", base64 or a data URI. A path given as a string needs
                ``local_files=True`` or ``local_root``.
            uris: several images.

        Raises:
            bedrock_marengo.InputError: Neither or both arguments, not an image, or a path that may not be opened.
            bedrock_marengo.ServiceError: AWS refused.
        """
        if (image is None) == (uris is None):
            raise InputError("embed_image takes either one image or uris=[...]: pass one of the two.")
        if uris is not None:
            return self.embed_images(uris)
        assert image is not None  # noqa: S101
        return self.floats(self.core.embed_image(self._image(image)))

    def embed_images(self, images: Iterable[ImageLike]) -> list[Vector]:
        """One vector for each image, in order, with concurrent calls. Raises the same errors as ``embed_image``."""
        images = require_many(images, "embed_images", "images")
        return [self.floats(vector) for vector in self.core.embed_images(map(self._image, images))]

    def embed_text_image(self, text: str, image: ImageLike) -> Vector:
        """A text and an image as one vector. Marengo 3.0.

        Raises:
            bedrock_marengo.InputError: The model doesn't support this input, or the text or the image can't be used.
            bedrock_marengo.ServiceError: AWS refused.
        """
        return self.floats(self.core.embed_text_image(text, self._image(image)))

    def embed_multi_input(self, text: str | None, images: Mapping[str, ImageLike] | Sequence[ImageLike]) -> Vector:
        """Up to 10 images as one vector, placed in the text by ``<@name>``. Marengo 3.0.

        Raises:
            bedrock_marengo.InputError: The model doesn't support this input, or a name in the text has no image.
            bedrock_marengo.ServiceError: AWS refused.
        """
        check_images(images)
        if isinstance(images, Mapping):
            opened: Any = {name: self._image(image) for name, image in images.items()}
        else:
            opened = [self._image(image) for image in images]
        return self.floats(self.core.embed_multi_input(text, opened))

    async def aembed_image(self, image: ImageLike | None = None, *, uris: Sequence[ImageLike] | None = None) -> Any:
        """``embed_image`` for asyncio."""
        if uris is not None:
            return await self.aembed_images(uris)
        return await self.core.run_async(self.embed_image, image)  # type: ignore[arg-type]

    async def aembed_images(self, images: Sequence[ImageLike]) -> list[Vector]:
        """``embed_images`` for asyncio."""
        return await self.core.run_async(self.embed_images, images)

    async def aembed_text_image(self, text: str, image: ImageLike) -> Vector:
        """``embed_text_image`` for asyncio."""
        return await self.core.run_async(self.embed_text_image, text, image)

    async def aembed_multi_input(
        self, text: str | None, images: Mapping[str, ImageLike] | Sequence[ImageLike]
    ) -> Vector:
        """``embed_multi_input`` for asyncio."""
        return await self.core.run_async(self.embed_multi_input, text, images)

    @property
    def core(self) -> MarengoClient:
        """The core's client behind these embeddings, created at the first use."""
        settings = {setting: _open(getattr(self, field)) for setting, field in _CLIENT.items()}
        with self._lock:
            # model_copy(update=...) and assignments can change settings after a client was made.
            if self._built is None or self._built[0] != settings:
                self._built = (settings, MarengoClient(**settings))
            return self._built[1]

    def _image(self, image: ImageLike) -> Media:
        return open_image(image, local_files=self.local_files, local_root=self.local_root)

    def _is_vector(self, value: Any) -> bool:
        return isinstance(value, list) and len(value) == self.core.dimension and all(map(is_number, value))

    def floats(self, vector: Any) -> Vector:
        """A vector of the core as LangChain wants it: a list of Python floats, of length 1 with ``normalize=True``."""
        if self.normalize:
            vector = vector / np.linalg.norm(vector)
        floats: Vector = vector.tolist()
        return floats

    def _keep(self, handle: str, query: Query | Vector) -> None:
        with self._lock:
            self._handles[handle] = query
            while len(self._handles) > _HANDLES:
                self._handles.popitem(last=False)

    def __getstate__(self) -> dict[Any, Any]:
        if self.client is not None:
            raise ConfigurationError(
                "Your own client (client=) can't be pickled: set region_name or a profile instead."
            )
        state = dict(super().__getstate__())
        # The copy uses the default credential chain; handles and clients belong to this process.
        state["__dict__"] = {**state["__dict__"], **dict.fromkeys(SECRETS)}
        state["__pydantic_private__"] = None
        return state

    def __setstate__(self, state: dict[Any, Any]) -> None:
        super().__setstate__(state)
        fresh: dict[str, Any] = {"_lock": ForkSafeLock(), "_built": None, "_handles": OrderedDict()}
        object.__setattr__(self, "__pydantic_private__", fresh)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> MarengoEmbeddings:
        # Within a process a copy keeps its credentials and shares the client.
        return self.__copy__()


# Setting of MarengoClient -> the field for it.
_CLIENT = {
    setting.name: field
    for setting in fields(ClientSettings)
    if (field := _RENAMED.get(setting.name, setting.name)) in MarengoEmbeddings.model_fields
}


def validate_without_secrets(cls: type[Model], values: Any, handler: ModelWrapValidatorHandler[Model]) -> Model:
    """Make a component from its settings. Errors name the settings and contain no values, which may be secret.

    Raises:
        ValidationError: A setting has a wrong value or an unknown name.
    """
    found: list[tuple[str, str, tuple[int | str, ...]]]
    try:
        if isinstance(values, dict):
            reject_unknown(values, cls.model_fields, cls.__name__)
        return handler(values)
    except InputError as error:
        found = [("value_error", _words_of(error), ())]
    except ValidationError as error:
        found = [
            (line["type"], _words_of(line.get("ctx", {}).get("error"), line["msg"]), line["loc"])
            for line in error.errors(include_url=False)
        ]
    lines = [InitErrorDetails(type=PydanticCustomError(kind, words), loc=loc, input=None) for kind, words, loc in found]
    raise ValidationError.from_exception_data(cls.__name__, lines, hide_input=True)


def _words_of(error: Any, otherwise: str = "") -> str:
    """An error of ours with its settings under our field names; ``otherwise`` for an error of pydantic's."""
    if not isinstance(error, MarengoError):
        return otherwise
    return f"Value error, {error.render(lambda setting, value: as_keyword(_RENAMED.get(setting, setting), value))}"


def _open(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value
