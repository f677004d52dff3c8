"""Prices where nothing is paid: those of the stand-in."""

from __future__ import annotations

from dataclasses import fields

from bedrock_marengo import Prices

__all__ = ["FREE"]

FREE = Prices(**{price.name: 0.0 for price in fields(Prices)})
