"""Labels, fragments and metrics against the barcodes of the matrix."""

import pytest
from sound_inputs import BARCODES, fragment_lines, wrong

from regulonformer.validate.barcodes import naming_hint


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda name: name.removesuffix("-1"), "labels lack the suffix '-1'"),
        (lambda name: name.replace("-1", "-7"), "labels have the suffix '-7' instead of '-1'"),
        (lambda name: f"donor_{name}", "labels have the prefix 'donor_' too much"),
        (lambda name: f"donor#{name}", "labels have the prefix 'donor#' too much"),
        (lambda name: f"{name}_donor", "labels have the suffix '-1_donor' instead of '-1'"),
    ],
)
def test_labels_with_another_prefix_or_suffix(inputs, change, hint):
    inputs.labels.write_text("barcode\tstate\n" + "".join(f"{change(name)}\tA\n" for name in BARCODES))
    found = inputs.found()["labels.no_match"]
    assert found["level"] == "error" and hint in found["message"]


def test_hint_for_a_matrix_with_a_prefix_and_none_for_other_cells():
    assert (
        naming_hint(["ACGTACGTAC"], ["s1_ACGTACGTAC-1"], "labels")
        == "labels lack the prefix 's1_' and lack the suffix '-1'"
    )
    assert naming_hint(["ACGTACGTAC-1"], ["TTTTTTTTTT-1"], "labels") == ""


def test_labels_behind_the_name_of_the_sample_fit(inputs):
    inputs.labels.write_text("barcode\tstate\n" + "".join(f"a_{b}\t{'AB'[i % 2]}\n" for i, b in enumerate(BARCODES)))
    assert wrong(inputs.found()) == []


def test_cells_without_a_label_and_windows_lines(inputs):
    text = inputs.labels.read_text().splitlines()[:31]
    inputs.labels.write_text("\r\n".join(text) + "\r\n", newline="")
    found = inputs.found()
    assert "10 of 40 cells" in found["labels.missing"]["message"] and wrong(found) == ["labels.crlf"]


def test_fragments_and_metrics_of_other_barcodes(inputs):
    bare = [name.removesuffix("-1") for name in BARCODES]
    inputs.write_fragments(fragment_lines(bare))
    inputs.metrics.write_text("barcode,x\n" + "".join(f"a#{name},1\n" for name in BARCODES))
    found = inputs.found()
    assert "fragments lack the suffix '-1'" in found["fragments.no_match"]["message"]
    assert "metrics have the prefix 'a#' too much" in found["metrics.no_match"]["message"]
    inputs.metrics.write_text("cell,x\n")
    assert "metrics.unreadable" in inputs.found()


def test_fragments_mostly_of_other_cells(inputs):
    inputs.write_fragments(
        fragment_lines([BARCODES[0]] + [f"{'ACGT' * 3}{i:04d}".replace("0", "A") for i in range(60)])
    )
    assert "2% of" in inputs.found()["fragments.few_match"]["message"]
