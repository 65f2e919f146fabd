"""Open a report in headless Chromium: what its console says, what its page holds, and how it looks."""

import html
import json
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

LOOK_FOR_FAULTS = """<script>
addEventListener("load", () => {
  const name = element => element.id || element.closest("[id]")?.id || element.tagName;
  const drawn = figure => [...figure.querySelectorAll("svg")].some(svg => svg.getBoundingClientRect().height > 20);
  const scrolls = element => { for (; element; element = element.parentElement) {
    if (["auto", "scroll", "hidden"].includes(getComputedStyle(element).overflowX)) return true; } return false; };
  const beyond = element => element.getBoundingClientRect().right > innerWidth + 1 && !scrolls(element);
  const links = [...document.querySelectorAll('a[href^="#"]')].map(link => link.getAttribute("href"));
  const found = {
    empty: [...document.querySelectorAll("figure")].filter(figure => !drawn(figure)).map(name),
    broken: links.filter(link => !document.getElementById(link.slice(1))),
    wide: [...document.querySelectorAll("body *:not(svg *)")].filter(beyond).map(name),
  };
  const out = document.createElement("pre");
  out.id = "faults";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
});
</script>"""


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


def faults(html_path, width: int = 500) -> dict[str, list[str]]:
    """What a reader would miss: figures that draw nothing, links that lead nowhere, and what is wider than a phone.

    Returns
    -------
    dict
        `empty`: ids of figures; `broken`: links within the page; `wide`: elements that reach beyond a window of that
        width and cannot be scrolled, by tag and id.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "page.html"
        copy.write_text(Path(html_path).read_text(encoding="utf-8") + LOOK_FOR_FAULTS, encoding="utf-8")
        size = f"--window-size={width},900"
        loaded = _chromium(size, "--virtual-time-budget=5000", "--dump-dom", _url(copy)).stdout
    return json.loads(html.unescape(re.search(r'<pre id="faults">(.*?)</pre>', loaded, flags=re.DOTALL)[1]))


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
