"""Peaks files, and peaks of a matrix."""

import pytest
from sound_inputs import PEAKS, write_matrix, wrong


def test_unsorted_repeated_and_overlapping_peaks(inputs):
    inputs.write_peaks(PEAKS[::-1])
    found = inputs.found()
    assert found["peaks.unsorted"]["level"] == "note" and wrong(found) == []
    inputs.write_peaks([PEAKS[0], *PEAKS])
    assert wrong(inputs.found()) == ["peaks.duplicated"]
    # A long peak reaches over the two that follow.
    inputs.write_peaks([("chr1", 900, 2600), *PEAKS])
    assert "2 of 22 peaks" in inputs.found()["peaks.overlapping"]["message"]


@pytest.mark.parametrize("row", [("chr1", 7, 7), ("chr1", 9, 7), ("chr1", -9, 7), ("chr1", "x", 7)])
def test_peaks_that_are_no_intervals(inputs, row):
    inputs.write_peaks([*PEAKS, row])
    assert inputs.found()["peaks.unreadable"]["level"] == "error"


def test_faults_of_the_peaks_in_a_matrix(inputs):
    inputs.samples = [inputs.sample("a", peaks=None)]
    write_matrix(inputs.matrix, peaks=[*PEAKS, PEAKS[0]])
    assert inputs.found()["matrix.duplicated_peaks"]["level"] == "error"
    write_matrix(inputs.matrix, peaks=[*PEAKS, ("chr2", 7, 7)])
    assert "chr2:7-7" in inputs.found()["peaks.intervals"]["message"]
    write_matrix(inputs.matrix, peaks=[*PEAKS, ("chr2", "a", "b")])
    assert "chr2:a-b" in inputs.found()["peaks.unreadable"]["message"]


def test_empty_peaks_and_windows_lines(inputs):
    inputs.write_peaks(PEAKS, end="\r\n")
    assert wrong(inputs.found()) == ["peaks.crlf"]
    inputs.write_peaks([])
    assert "peaks.empty" in inputs.found()
