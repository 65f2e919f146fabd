"""The page in headless Chromium: a silent console, every figure drawn, nothing wider than a phone."""

import importlib.util
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "integration" / "check_report.py"
spec = importlib.util.spec_from_file_location("check_report", CHECK)
check_report = importlib.util.module_from_spec(spec)
spec.loader.exec_module(check_report)

pytestmark = pytest.mark.skipif(check_report.browser() is None, reason="Chromium is not installed")


def test_page_is_quiet_and_complete_in_a_browser(page, tmp_path):
    html = page[0] / "report.html"
    assert check_report.console_errors(html) == []
    loaded = check_report.loaded_page(html)
    assert 'class="here"' in loaded
    assert check_report.faults(html) == {"empty": [], "broken": [], "wide": []}
    broken = tmp_path / "broken.html"
    broken.write_text("<script>console.error('one'); missing();</script>")
    assert len(check_report.console_errors(broken)) == 2


def test_faults_are_found(tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<!DOCTYPE html><style>#wide { width: 3000px }</style><figure id='hollow'><svg style='height:0'></svg></figure>"
        "<a href='#nowhere'>x</a><div id='wide'>x</div>"
    )
    faults = check_report.faults(bad)
    assert faults["empty"] == ["hollow"] and faults["broken"] == ["#nowhere"] and faults["wide"]
