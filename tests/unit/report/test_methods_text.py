"""The model's section and the methods text: what was done, as the settings and records say, and nothing else."""

import re

from invented_run import CONFIG

from regulonformer.report.evidence import read_evidence
from regulonformer.report.style import palette
from regulonformer.report.words.methods import methods
from regulonformer.report.words.names import duration, listed, percent


def test_the_model_is_described_and_its_card_is_named(text):
    assert "Parameters 54,321 Genes 900 Regulons 2 Layers regulon, explorer, regulon, explorer" in text
    assert "Held out 400 cells of donor" in text and "README.md, says how to use it" in text


def test_methods_say_what_pretraining_saw(page):
    html = page[1]
    assert "without any label" in html and "except those held out for validation (donor2)" in html
    assert "simulated, with a known regulatory network" in html


def test_methods_follow_layers_and_objective(made, text):
    assert "2 regulon layers and 2 explorer layers of width 64" in text and "negative binomial likelihood" in text
    assert "regulon layers have one slot per regulon" in text and "are added to the cell embedding" in text
    evidence = read_evidence(made.paths)
    evidence.pretrain_config["model"] |= {"layers": ["tf", "explorer"], "linear_path": False, "predicts": "values"}
    text = " ".join(paragraph.sentences for paragraph in methods(evidence, CONFIG))
    assert "1 tf layer and 1 explorer layer" in text and "tf layers have free slots, pooled from the TFs alone" in text
    assert "with a Huber loss" in text and "each gene's mean value over the training cells that show it" in text
    assert not re.search("negative binomial likelihood|regulon layers|are added to the cell embedding", text)


def test_palette_is_distinct_and_numbers_are_written_for_people():
    assert len(set(palette(map(str, range(40))).values())) == 40
    assert [percent(1, 3), percent(0, 5), percent(99, 100)] == ["33 %", "0 %", "99.0 %"]
    assert listed("abc") == "a, b and c" and listed("abcdefgh", 3) == "a, b, c and 5 more"
    assert [duration(3), duration(90), duration(600), duration(9000)] == ["3.0 s", "90 s", "10.0 min", "2.5 h"]


def test_every_stage_that_ran_has_a_paragraph_with_its_citations(made, page):
    headings = re.findall(r'<div class="method">\s*<h3>([^<]+)</h3>', page[1])
    assert headings[:2] == ["Workflow", "Quality control"]
    assert {"Label transfer", "Translation", "Embedding", "Explanation", "Perturbation"} <= set(headings)
    cited = {int(number) for number in re.findall(r'href="#ref-(\d+)"', page[1])}
    assert cited == set(range(1, page[1].count('<li id="ref-') + 1))
    evidence = read_evidence({"qc": made.paths["qc"]})
    assert [paragraph.heading for paragraph in methods(evidence, CONFIG)] == ["Workflow", "Quality control"]
