"""The file that a page is written to: never over a file that is not such a page, and all of it or nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from bedrock_marengo import InputError

__all__ = ["Page"]

MARK = "<!-- made by marengo search -->\n"
"""The end of a page that this command wrote: the next search may overwrite it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Where to write the page. An existing file is kept, unless this command wrote it or ``force`` is given.

    Raises:
        InputError: The page can't be written there.
    """

    path: Path
    force: bool = False

    def __post_init__(self) -> None:
        if not self.path.absolute().parent.is_dir() or (self.path.exists() and not self.path.is_file()):
            raise InputError(f"--html {self.path}: expected a file in an existing folder.")
        if self.path.exists() and not self.force and not self._is_ours():
            raise InputError(
                f"--html {self.path}: this file exists and is not a search page. To overwrite it, use --force."
            )

    def write(self, html: str) -> None:
        """Write the page, all of it or nothing."""
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            temporary.write_text(f"{html.rstrip()}\n{MARK}", "utf-8")
            temporary.replace(self.path)
        except OSError as error:
            raise InputError(f"--html {self.path}: {error.strerror}.") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _is_ours(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(max(0, self.path.stat().st_size - len(MARK)))
            return file.read() == MARK.encode()
