"""Open a report in headless Chromium: what its console says, what its page holds, and how it looks."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

# Nothing may be fetched, asked or remembered: a fresh profile without the browser's own services.
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]
# One message of the page: [pid:tid:date:INFO:CONSOLE:12] "text", source: file:///... (12)
CONSOLE = re.compile(r':CONSOLE[:(]\d+\)?\] "(.*?)", source:', flags=re.DOTALL)


def browser() -> str | None:
    """Path of Chromium or Chrome, or None where there is none."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def console_errors(html_path) -> list[str]:
    """Everything that the page writes to the console while it loads; a good page writes nothing."""
    done = _chromium("--enable-logging=stderr", "--v=0", "--virtual-time-budget=5000", "--dump-dom", _url(html_path))
    return CONSOLE.findall(done.stderr)


def loaded_page(html_path) -> str:
    """The page's HTML after its scripts have run."""
    return _chromium("--virtual-time-budget=5000", "--dump-dom", _url(html_path)).stdout


def screenshot(html_path, png_path, width: int = 1280, height: int = 2400) -> None:
    """Write a picture of the page's first `height` pixels."""
    _chromium(f"--screenshot={png_path}", f"--window-size={width},{height}", _url(html_path))


def print_pdf(html_path, pdf_path) -> None:
    """Print the page to PDF."""
    _chromium(f"--print-to-pdf={pdf_path}", "--no-pdf-header-footer", _url(html_path))


def _url(html_path) -> str:
    return Path(html_path).resolve().as_uri()


def _chromium(*arguments) -> subprocess.CompletedProcess:
    program = browser()
    if program is None:
        raise FileNotFoundError("chromium: not installed. Install it, e.g. apt-get install chromium.")
    with tempfile.TemporaryDirectory() as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=180, check=True)
