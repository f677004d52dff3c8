"""Copies of components with other settings, which are validated like new ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from llama_index.core.bridge.pydantic import BaseModel, SecretStr

__all__ = ["SECRETS", "ValidatedCopies"]

SECRETS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")


class ValidatedCopies(BaseModel):
    """What pydantic sets without validating it: a misspelled name would change nothing, and a bare secret be shown."""

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, with new settings if they are valid. It keeps the credentials.

        Raises:
            ValidationError: A setting has a wrong value or an unknown name.
        """
        copied = super().model_copy(deep=deep)
        if not update:
            return copied
        return type(self)(**{**{name: getattr(copied, name) for name in self.model_fields_set}, **update})

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, SecretStr(value) if name in SECRETS and isinstance(value, str) else value)
