"""The page as a whole: sections follow the inputs, nothing is fetched, links lead somewhere, the same bytes twice."""

import re

import pytest

from regulonformer.report.evidence import read_evidence

MATRICES = ["validation", "qc", "cells", "peaks_summary", "merge_summary", "multiome"]
SECTIONS = ["data", "model", "cells", "annotation", "fusion", "transfer", "regression", "translation", "embedding"]
SECTIONS += ["regulons", "drivers", "perturbation"]


def sections_of(html):
    return re.findall(r'<section id="(\w+)">', html)


def test_every_section_and_figure_is_there(page):
    folder, html = page
    assert sections_of(html) == ["summary", *SECTIONS, "methods", "settings"]
    drawn = {suffix: {file.stem for file in (folder / "figures").glob(f"*.{suffix}")} for suffix in ("svg", "png")}
    assert drawn["svg"] == drawn["png"] == set(re.findall(r'<figure class="block" id="([^"]+)"', html))
    assert len(drawn["svg"]) == html.count("<svg") >= 38
    assert html.count('role="img"') == html.count("<figcaption")


def test_every_figure_and_table_names_its_files(page):
    folder, html = page
    start = r'<(?:figure|div) class="block(?: tabular)?" id="([^"]+)">'
    blocks = re.findall(rf'{start}(.*?)(?=<(?:figure|div) class="block|</section>)', html, flags=re.DOTALL)
    assert len(blocks) > 60
    assert [name for name, block in blocks if not re.search(r"From <code>[\w/*.:, {}-]+</code>", block)] == []
    tables = {name for name, block in blocks if "save as TSV" in block}
    assert {path.stem for path in (folder / "tables").glob("*.tsv")} >= tables
    first = (folder / "tables" / "libraries.tsv").read_text().splitlines()
    assert first[0] == "Library\tBarcodes\tKept\tShare kept\tRemoved" and first[1].startswith("donor1\t60\t")


def test_page_fetches_nothing_and_links_lead_somewhere(page):
    html = page[1]
    assert re.findall(r'(?:src|href)="(?!#|data:)([^"]+)"', html) == []
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    links = set(re.findall(r'href="#([^"]+)"', html))
    assert links <= set(ids) and {"summary", "annotation", "perturbation", "ref-1"} <= links
    assert len(html) < 15e6


def test_text_from_files_is_escaped(page):
    assert "Check &lt;the&gt; labels" in page[1]


def test_same_inputs_give_same_bytes(made, page, tmp_path):
    # Sections do not depend on each other, so a few inputs tell of all.
    some = ["regulons", "links", "perturbed_tfs", "perturbed_targets", "multiome", "embedding"]
    html = made.write(tmp_path, only=some)
    for name in ("cells", "perturbation"):
        section = re.compile(rf'<section id="{name}">.*?</section>', flags=re.DOTALL)
        mine, other = section.search(html)[0], section.search(page[1])[0]
        assert mine.count("<svg") >= 2 and all(
            drawing in other for drawing in re.findall(r"<svg.*?</svg>", mine, re.DOTALL)
        )
    figures = sorted((tmp_path / "figures").iterdir())
    assert len(figures) >= 16
    for figure in figures:
        assert figure.read_bytes() == (page[0] / "figures" / figure.name).read_bytes(), figure.name


@pytest.mark.usefixtures("unrendered")
def test_smaller_goal_leaves_sections_out(made, tmp_path):
    html = made.write(tmp_path, only=MATRICES)
    assert sections_of(html) == ["summary", "data", "cells", "methods", "settings"]
    assert "LoRA" not in html and "Linformer" not in html


def test_no_results_at_all_still_make_a_page(tmp_path, made):
    assert sections_of(made.write(tmp_path, only=[])) == ["summary", "methods", "settings"]


@pytest.mark.usefixtures("unrendered")
def test_each_input_may_be_missing(made, tmp_path):
    """Inputs are left out by turns: no section may fall because another one lost its table."""
    for number in range(2):
        some = [name for at, name in enumerate(made.paths) if at % 2 == number]
        assert sections_of(made.write(tmp_path, only=some))[0] == "summary"


def test_unknown_input_is_refused():
    with pytest.raises(ValueError, match="regulon_tabel"):
        read_evidence({"regulon_tabel": "x"})
