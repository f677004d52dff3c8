"""InvokeModel: texts and images to vectors, checked first, retried together."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from bedrock_marengo.aws.parallel import in_order
from bedrock_marengo.aws.retries import RetryLimiter
from bedrock_marengo.aws.session import Aws
from bedrock_marengo.contract import payloads
from bedrock_marengo.contract.inputs import Media, check_content, split_s3_uri
from bedrock_marengo.contract.models import KINDS, Model
from bedrock_marengo.contract.responses import read_vector
from bedrock_marengo.contract.tokens import estimate_tokens, most_tokens
from bedrock_marengo.embedding.pricing import Usage
from bedrock_marengo.errors import ConfigurationError, InputError, warn_once
from bedrock_marengo.s3.objects import S3Objects
from bedrock_marengo.validation import is_int, short_repr

__all__ = ["Invoker", "check_size"]

Vector = npt.NDArray[np.float32]

WINDOW = 4096
"""Among this many texts, equal ones are sent once: about 8 MB of vectors."""


class Invoker:
    """One model's synchronous calls."""

    def __init__(
        self,
        aws: Aws,
        objects: S3Objects,
        limiter: RetryLimiter,
        model: Model,
        *,
        invoke_model_id: str | None = None,
        truncate: Literal["end", "error"] = "end",
        token_counter: Callable[[str], int] | None = None,
        usage: Usage | None = None,
    ) -> None:
        self._usage = usage or Usage()
        self._aws = aws
        self._objects = objects
        self._limiter = limiter
        self._model = model
        self._given_id = invoke_model_id
        self._truncate: Literal["end", "error"] = truncate
        self._token_counter = token_counter

    def invoke_id(self) -> str:
        """The ID that InvokeModel gets. Warns, once, if AWS ends the model in this region.

        Raises:
            ConfigurationError: No region is set, or one without the model, as far as we know.
        """
        region = self._aws.region
        warn_of_end(self._model, region)
        return self._given_id or self._model.invoke_id(region)

    def text_body(self, text: str) -> bytes:
        """A text's request, checked."""
        body = payloads.encode(payloads.text(self._model, text, truncate=self._truncate))
        self.check_length(text)
        return body

    def location(self, image: Media) -> dict[str, Any]:
        """Where the service finds an image: inside the request, or on S3 with the bucket's owner."""
        if image.uri is None:
            check_size(self._model, image)
            check_content(image)
            return payloads.inline(image.read())
        bucket, _ = split_s3_uri(image.uri)
        self._objects.check_bucket(bucket)
        return payloads.s3_location(image.uri, self._aws.owner(bucket))

    def check_length(self, text: str) -> None:
        """Warn about, or refuse, a text that the service would truncate."""
        limit = self._model.text_tokens
        if 4 * len(text) <= limit and self._token_counter is None:
            return
        if self._truncate == "end":
            tokens = self._tokens(text, estimate_tokens)
            if tokens > limit:
                warn_once(
                    f"length {self._model.version}",
                    f"A text has about {tokens} tokens: Marengo {self._model.version} uses only the first {limit}. "
                    "Split long texts, or set {truncate} to refuse them. (Shown once.)",
                    remedy={"truncate": "error"},
                )
        elif self._token_counter is not None or not self._model.text_truncate:
            tokens = self._tokens(text, most_tokens)
            if tokens > limit:
                counted = "" if self._token_counter else "up to "
                raise InputError(
                    f"This text has {counted}{tokens} tokens; Marengo {self._model.version} accepts at most {limit}: "
                    "split it, set {token_counter} for an exact count, or set {truncate}.",
                    remedy={"token_counter": ..., "truncate": "end"},
                )

    def _tokens(self, text: str, estimate: Callable[[str], int]) -> int:
        tokens = (self._token_counter or estimate)(text)
        if not is_int(tokens, least=0):
            raise ConfigurationError(
                f"token_counter returned {short_repr(tokens)}: expected a whole number of tokens, 0 or more.",
                setting="token_counter",
            )
        return tokens

    def vector(self, body: bytes, what: str = "a text", *, kind: Literal["text", "image"] = "text") -> Vector:
        """One call, one float32 vector of ``(dimension,)``."""
        reply = self._limiter.call(lambda: self.reply(body), "InvokeModel", what)
        # Paid for, whatever it contains.
        (self._usage.text if kind == "text" else self._usage.image)()
        return read_vector(reply, self._model.dimension)

    def embed_texts(
        self, executor: Executor, texts: Sequence[str], places: Iterable[int], total: int, *, ahead: int
    ) -> npt.NDArray[np.float32]:
        """One vector for each text as float32 ``(n, dimension)``, in order; equal texts are sent once.

        Args:
            executor: makes the calls.
            texts: the texts, all checked before the first call.
            places: the position of each among ``total`` inputs, for errors.
            total: the number of inputs.
            ahead: how many calls may be running or queued.
        """
        bodies: dict[str, bytes] = {}
        for place, text in zip(places, texts, strict=True):
            if not isinstance(text, str) or text not in bodies:
                try:
                    bodies[text] = self.text_body(text)
                except InputError as error:
                    raise InputError(f"Text {place} of {total}: {error}") from None
        rows = {text: row for row, text in enumerate(bodies)}
        vectors = np.empty((len(bodies), self._model.dimension), np.float32)
        for row, vector in enumerate(in_order(executor, self.vector, bodies.values(), ahead=ahead)):
            vectors[row] = vector
        return vectors if len(rows) == len(texts) else vectors[[rows[text] for text in texts]]

    def iter_embed(self, executor: Executor, texts: Iterable[str], *, ahead: int) -> Iterator[Vector]:
        """One vector for each text, in order, texts read as needed; equal ones among the latest 4,096 are sent once."""
        failed: list[BaseException] = []
        refused: InputError | None = None

        def ask(body: bytes) -> Vector:
            # Results after a failure are never used: not worth a call.
            if failed:
                raise failed[0]
            try:
                return self.vector(body)
            except BaseException as error:
                failed.append(error)
                raise

        latest: OrderedDict[str, Future[Vector]] = OrderedDict()
        pending: deque[Future[Vector]] = deque()
        try:
            for number, text in enumerate(texts):
                if not isinstance(text, str) or text not in latest:
                    try:
                        body = self.text_body(text)
                    except InputError as error:
                        refused = InputError(f"Text {number}: {error}")
                        break
                    latest[text] = executor.submit(ask, body)
                    if len(latest) > WINDOW:
                        latest.popitem(last=False)
                pending.append(latest[text])
                if len(pending) >= ahead:
                    # A copy: equal texts must not share an array.
                    yield pending.popleft().result().copy()
            while pending:
                yield pending.popleft().result().copy()
            if refused is not None:
                raise refused
        finally:
            for future in pending:
                future.cancel()

    def reply(self, body: bytes) -> bytes:
        """The body of one response."""
        reply = self._aws.bedrock.invoke_model(
            modelId=self.invoke_id(), body=body, contentType="application/json", accept="application/json"
        )
        return reply["body"].read()


def warn_of_end(model: Model, region: str | None) -> None:
    """Warn, once per process, if AWS ends a model in all regions, or in this one if it is known already."""
    day = model.ends_on(region)
    if day is None:
        return
    ends = f"AWS ends Marengo {model.version}{f' in {region}' * bool(model.active_regions)} on {day.isoformat()}"
    if model.active_regions:
        advice = (
            f"It is Legacy there: new customers can't use it, access may be lost after 15 idle days, and prices may "
            f"rise. It is active in {' and '.join(model.active_regions)}: use {{region_name}}, with buckets there."
        )
        remedy = {"region_name": model.active_regions[0]}
    else:
        advice = (
            "After that, the service may refuse calls to it. Its vectors can't be compared with those of another "
            "version: embed again with {model}. To move a store, use migrate, which makes no call to "
            f"{model.version}."
        )
        remedy = {"model": "3.0"}
    warn_once(f"end {model.version} {day}", f"{ends}. {advice} (Shown once.)", remedy=remedy, stacklevel=4)


def check_size(model: Model, media: Media) -> None:
    """Refuse a file over the model's limit.

    Raises:
        InputError: It is too large.
    """
    limit: int = getattr(model, KINDS[media.kind].size_limit)
    if media.size is not None and media.size > limit:
        raise InputError(
            f"{media.name} is {media.size:,} bytes; Marengo {model.version} accepts {media.kind} files of at "
            f"most {limit:,} bytes. Cut or compress it."
        )
