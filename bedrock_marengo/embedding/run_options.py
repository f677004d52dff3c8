"""How one run embeds its files, and what it says of each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from bedrock_marengo import instrumentation
from bedrock_marengo.contract.inputs import Media
from bedrock_marengo.embedding.file_words import RunWords
from bedrock_marengo.embedding.job_costs import JobCosts
from bedrock_marengo.errors import BudgetError, ClosedError, MarengoError, visible

__all__ = ["Progress", "RunOptions", "Stage", "bar_settings", "log_failure", "log_stage"]

Stage = Literal["uploading", "reused", "joined", "started", "running", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class Progress:
    """What happens to one file. ``uri`` is None for a local file that is not on S3 yet."""

    stage: Stage
    name: str
    uri: str | None = None

    def __str__(self) -> str:
        return f"{self.stage} {visible(self.name.rsplit('/', 1)[-1])}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How one run embeds its files.

    Attributes:
        costs: charges its starts.
        force: pay again for jobs that are done or have failed permanently.
        repay_expired: pay again for jobs that were done and whose output is missing.
        timeout_sec: how long to wait for each job.
        on_progress: called with each file's progress.
        validate: called with each file's S3 URI before anything is started for it; what it raises is that file's error.
        only_done: read finished jobs only; upload, start and wait for nothing.
        jobs_at_once: how many jobs may run.
        words: the sources of words; None if there are none.
    """

    costs: JobCosts
    force: bool = False
    repay_expired: bool = False
    timeout_sec: float | None = None
    on_progress: Callable[[Progress], None] = lambda progress: None
    validate: Callable[[str], None] = lambda uri: None
    only_done: bool = False
    jobs_at_once: int | None = None
    words: RunWords | None = None

    def report(self, stage: Stage, media: Media, **facts: Any) -> None:
        """Log a file's stage, and tell the caller."""
        if stage != "failed":
            log_stage(stage, media.uri or media.name, media.kind, **facts)
        self.on_progress(Progress(stage, media.name, media.uri))


def bar_settings(show: bool | None, total: int | None) -> dict[str, Any]:
    """How tqdm draws a run's bar; by default only in a terminal or a notebook, never into a log."""
    if show is None:
        show = "ipykernel" in sys.modules or (sys.stderr is not None and sys.stderr.isatty())
    return {"desc": "media", "unit": " files", "total": total, "disable": not show}


def log_failure(source: str, error: MarengoError, **facts: Any) -> None:
    """Log that a file was not embedded, once; one that the next run continues is no error."""
    continues = isinstance(error, BudgetError | ClosedError) or getattr(error, "running", False)
    log_stage("left" if continues else "failed", source, error=error, **facts)


def log_stage(stage: str, source: str, kind: str | None = None, **facts: Any) -> None:
    """Log what happens to one file."""
    instrumentation.emit(f"file {stage}", stage=stage, source=source, kind=kind, **facts)
