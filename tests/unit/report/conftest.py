"""A report of an invented run, made once for all tests of the report."""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

sys.path.append(str(Path(__file__).parent))

from invented_run import InventedRun


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Result files of an invented run."""
    return InventedRun(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="session")
def page(made, tmp_path_factory):
    """Folder and HTML of its report."""
    folder = tmp_path_factory.mktemp("report")
    return folder, made.write(folder)


@pytest.fixture(scope="session")
def text(page):
    """What the page says, without its tags."""
    import re

    return " ".join(re.sub(r"<[^>]+>", " ", page[1]).split())


@pytest.fixture
def unrendered(monkeypatch):
    """Figures are made but not written, which takes most of a page's time; `page` writes every one of them."""

    def anchor(figure, name, folder, dpi):
        plt.close(figure)
        return f'<svg data-name="{name}"></svg>'

    monkeypatch.setattr("regulonformer.report.blocks.write_figure", anchor)
