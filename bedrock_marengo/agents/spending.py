"""What calls that cost may cost: one call, and all calls of one set of tools. Charged before the call."""

from __future__ import annotations

from bedrock_marengo.errors import BudgetError, ConfigurationError
from bedrock_marengo.fork_safety import ForkSafeLock
from bedrock_marengo.validation import is_number

__all__ = ["MAX_SESSION_USD", "MAX_USD", "SpendingLimit"]

MAX_USD = 0.25
"""US dollars of one call: about 8 minutes of video. Ours."""
MAX_SESSION_USD = 1.0
"""US dollars of all calls of one set of tools. Ours."""


class SpendingLimit:
    """Refuses a call that may cost too much. A refused call does not stop cheaper ones. Thread-safe.

    Args:
        max_usd: US dollars of one call.
        max_session_usd: US dollars of all calls together.

    Raises:
        ConfigurationError: One is not a number of US dollars, 0 or more.
    """

    def __init__(self, max_usd: float, max_session_usd: float) -> None:
        for setting, value in (("max_usd", max_usd), ("max_session_usd", max_session_usd)):
            if not (is_number(value) and 0 <= value < float("inf")):
                raise ConfigurationError("expected US dollars, 0 or more.", setting=setting, value=value)
        self.max_usd = float(max_usd)
        self.max_session_usd = float(max_session_usd)
        self._spent_usd = 0.0
        self._lock = ForkSafeLock()

    @property
    def spent_usd(self) -> float:
        """US dollars of all calls so far, those that are running at the most that they may cost."""
        return self._spent_usd

    @property
    def left_usd(self) -> float:
        """US dollars that the next call may cost."""
        return max(0.0, min(self.max_usd, self.max_session_usd - self._spent_usd))

    def charge(self, usd: float) -> None:
        """Charge a call before it is made.

        Raises:
            BudgetError: It may cost more than one call may, or than is left.
        """
        with self._lock:
            refused = self._why_not(usd)
            if refused is None:
                self._spent_usd += usd
                return
            raise BudgetError(refused, spent_usd=self._spent_usd, exhausted=self._spent_usd >= self.max_session_usd)

    def settle(self, charged_usd: float, usd: float) -> None:
        """The call that was charged has cost ``usd``; 0 if nothing was billed."""
        with self._lock:
            self._spent_usd += usd - charged_usd

    def _why_not(self, usd: float) -> str | None:
        # A tolerance for sums of floats.
        if usd > self.max_usd + 1e-9:
            return (
                f"Not called, nothing was billed: this may cost {usd:.4f} US dollars, and one call may cost at most "
                f"{self.max_usd:.4f}. Ask about a shorter range (start_sec, end_sec) or one moment."
            )
        if self._spent_usd + usd > self.max_session_usd + 1e-9:
            return (
                f"Not called, nothing was billed: this may cost {usd:.4f} US dollars, and only "
                f"{max(0.0, self.max_session_usd - self._spent_usd):.4f} of the session's {self.max_session_usd:.4f} "
                "are left. Ask about a shorter range, or tell the user that the budget is used up."
            )
        return None
