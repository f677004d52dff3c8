"""``marengo doctor``: finds out why Marengo would not work on AWS, step by step, each with its fix."""

from __future__ import annotations

from marengo_cli.doctor.report import context_of, print_policy, run

__all__ = ["context_of", "print_policy", "run"]
