"""The report of a real run opens in a browser without a complaint, and shows its figures."""

import importlib.util
import re
from pathlib import Path

import pytest

CHECK = Path(__file__).with_name("check_report.py")
spec = importlib.util.spec_from_file_location("check_report", CHECK)
check_report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_report)

pytestmark = pytest.mark.skipif(check_report.browser() is None, reason="Chromium is not installed")


@pytest.fixture(scope="module")
def page(small_run):
    return small_run.root / "results/small/report/report.html"


def test_console_is_silent(page):
    assert check_report.console_errors(page) == []


def test_every_section_has_its_figures(page):
    html = check_report.loaded_page(page)
    assert len(re.findall("<svg", html)) >= 8
    headings = ["Data and quality control", "Model and training", "Cell map", "Prediction of labels", "Regulons"]
    for heading in [*headings, "Drivers", "Methods"]:
        assert heading in html
    assert check_report.faults(page) == {"empty": [], "broken": [], "wide": []}


def test_page_needs_no_network(page):
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["']https?://[^"']+\.(?:js|css|png|woff2?)""", text)
    assert len(text) < 15e6
