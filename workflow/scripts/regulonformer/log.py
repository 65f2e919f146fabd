"""Logging of a rule and progress of long work."""

import logging
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from regulonformer.errors import InputError

LINES_PER_RUN = 20


@contextmanager
def rule_log(path: str) -> Iterator[None]:
    """Send log messages to a file and to stderr, and an uncaught traceback to the file.

    Parameters
    ----------
    path
        Log file of the rule.
    """
    handlers = [logging.FileHandler(path, mode="w"), logging.StreamHandler(sys.stderr)]
    for handler in handlers:
        # mudata tells the root logger each time its options change.
        handler.addFilter(_is_ours)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=handlers, force=True)
    logging.captureWarnings(True)
    for chatty in ("mudata", "matplotlib", "fontTools"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        yield
    except Exception as error:
        with open(path, "a") as log:
            log.write(traceback.format_exc())
        if isinstance(error, InputError):
            # The user needs the one line, not our call stack; the log keeps both.
            raise SystemExit(f"Error: {error}") from None
        raise
    finally:
        for handler in handlers:
            handler.flush()


def _is_ours(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(
        ("Using custom MuData options", "Returning to the previously defined options")
    )


def progress(iterable: Iterable, total: int, label: str, unit: str = "step") -> Iterator:
    """Iterate with a bar on a terminal, and with plain log lines (rate, time left) elsewhere.

    Parameters
    ----------
    iterable
        What to iterate over.
    total
        Number of items.
    label
        Name of the work, first on each line.
    unit
        What one item is.
    """
    if sys.stderr.isatty():
        yield from tqdm(iterable, total=total, desc=label, unit=unit)
        return
    started, every = time.monotonic(), max(1, total // LINES_PER_RUN)
    for done, item in enumerate(iterable, start=1):
        yield item
        if done % every == 0 or done == total:
            rate = done / max(time.monotonic() - started, 1e-9)
            left = (total - done) / rate
            logging.info("%s: %d/%d %ss, %.1f/s, %.0f s left", label, done, total, unit, rate, left)
