"""What Amazon Transcribe and Pegasus would have billed, for tests that compare it with a client's own count."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import Final

__all__ = ["Usage"]

# us-east-1, in USD. Transcribe: billed by the second, at least 15, in the first tier of its price.
TRANSCRIBE_USD_PER_SEC: Final = 0.024 / 60
TRANSCRIBE_LEAST_SEC: Final = 15
PEGASUS_USD_PER_SEC: Final = 0.00049
PEGASUS_USD_PER_OUTPUT_TOKEN: Final = 7.5e-6


@dataclass
class Usage:
    """Completed transcription jobs and answered Pegasus calls. Failed jobs and refused calls are free. Thread-safe."""

    transcribe_jobs: int = 0
    transcribe_sec: int = 0
    pegasus_calls: int = 0
    pegasus_sec: float = 0.0
    pegasus_output_tokens: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def transcribe_usd(self) -> float:
        """The price of the transcription jobs."""
        return self.transcribe_sec * TRANSCRIBE_USD_PER_SEC

    @property
    def pegasus_usd(self) -> float:
        """The price of the Pegasus calls."""
        return self.pegasus_sec * PEGASUS_USD_PER_SEC + self.pegasus_output_tokens * PEGASUS_USD_PER_OUTPUT_TOKEN

    def add_transcription(self, duration_sec: float) -> None:
        """Count a completed job."""
        with self._lock:
            self.transcribe_jobs += 1
            self.transcribe_sec += max(TRANSCRIBE_LEAST_SEC, math.ceil(duration_sec))

    def add_pegasus(self, video_sec: float, output_tokens: int) -> None:
        """Count an answered call, whether its response reached the client or not."""
        with self._lock:
            self.pegasus_calls += 1
            self.pegasus_sec += video_sec
            self.pegasus_output_tokens += output_tokens

    def reset(self) -> None:
        """Set all counts to zero."""
        with self._lock:
            self.transcribe_jobs = self.transcribe_sec = self.pegasus_calls = self.pegasus_output_tokens = 0
            self.pegasus_sec = 0.0
