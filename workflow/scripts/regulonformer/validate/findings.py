"""What validation has to say: findings with a level, a stable code and a fix."""

import csv
import struct
import zlib
from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass

from regulonformer.errors import InputError

ERROR, WARNING, NOTE = "error", "warning", "note"

# What the readers of compressed, tabular and HDF5 files raise when their bytes are damaged.
DAMAGE = (OSError, EOFError, ValueError, LookupError, TypeError, RuntimeError, OverflowError)
DAMAGE += (zlib.error, struct.error, csv.Error)


@dataclass(frozen=True)
class Finding:
    """One thing a user should know about an input.

    Attributes
    ----------
    level
        `error` stops the run, `warning` may surprise later, `note` is only told.
    code
        Stable name of the check, "{input}.{what}", for machines.
    file, message, fix
        Where, what and what to do.
    """

    level: str
    code: str
    file: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}. {self.fix}."


class Findings(list):
    """Findings in the order in which they were made; every one is kept, none stops the next check."""

    def error(self, code: str, file, message: str, fix: str) -> None:
        """Add what stops the run."""
        self.append(Finding(ERROR, code, str(file), message, fix))

    def warning(self, code: str, file, message: str, fix: str) -> None:
        """Add what may surprise later."""
        self.append(Finding(WARNING, code, str(file), message, fix))

    def note(self, code: str, file, message: str, fix: str) -> None:
        """Add what is only told."""
        self.append(Finding(NOTE, code, str(file), message, fix))

    def has_error(self, file=None) -> bool:
        """Whether there is an error, or one about a file."""
        return any(item.level == ERROR and file in (None, item.file) for item in self)

    @contextmanager
    def reading(self, code: str, file, fix: str):
        """Turn whatever a reader raises for a bad file into an error among the findings."""
        try:
            yield
        except InputError as error:
            self.error(code, error.where, error.problem, error.fix)
        except DAMAGE as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self.error(code, file, f"not readable ({reason})", fix)


def some(values: Iterable, limit: int = 3) -> str:
    """The first few of many values, for a message."""
    values = list(values)
    shown = ", ".join(repr(str(value)) for value in values[:limit])
    return shown if len(values) <= limit else f"{shown} and {len(values) - limit:,} more"


def judge_line_ends(code: str, path, text: bytes, findings: Findings) -> None:
    """Warn of lines that end as on Windows, in a file whose readers take them."""
    if b"\r\n" in text:
        fix = "They are read as they should be; dos2unix is rid of them"
        findings.warning(code, path, "lines end as on Windows (CRLF)", fix)
