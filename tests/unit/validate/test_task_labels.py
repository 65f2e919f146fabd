"""Tasks and perturbations against the labels that were given."""

import re

from sound_inputs import BARCODES, wrong

from regulonformer.validate.judge import judge_inputs


def test_labels_of_perturbed_cells_need_a_column_and_a_control(inputs):
    def found(**settings):
        named = {"column": "state", "control": "A", "group": None} | settings
        verdict = judge_inputs(inputs.samples, {}, {}, [], perturbation=named)
        return {finding["code"]: finding for finding in verdict["findings"] if finding["level"] == "error"}

    assert found() == found(column=None, control="none") == {}
    assert "'stage'" in found(group="stage")["perturbation.no_column"]["message"]
    assert "state" in found(column="guide")["perturbation.no_column"]["fix"]
    assert "'A', 'B'" in found(control="none")["perturbation.no_control"]["message"]
    assert "'condition' are 'x'" in found(column="condition", control="x")["perturbation.none"]["message"]
    assert found(column=None, states="state") == {}
    inputs.labels.write_text(
        "barcode\tstate\n" + "".join(f"{b}\t{['B', 'all'][i % 2]}\n" for i, b in enumerate(BARCODES))
    )
    assert "names cells 'all'" in found(column=None, states="state")["perturbation.taken_name"]["message"]
    assert found(column=None, states=None) == {}


def test_tasks_need_a_column_with_two_classes(inputs):
    inputs.tasks = {"state": {"column": "stage"}, "other": {"column": "condition"}}
    found = inputs.found()
    assert "'stage'" in found["tasks.no_column"]["message"] and "two classes" in found["tasks.one_class"]["fix"]


def label_by(inputs, name, values, column="state"):
    """Write a labels file for the barcodes, in turn, and return its path."""
    path = inputs.folder / f"{name}.tsv"
    rows = (f"{barcode}\t{values[i % len(values)]}\n" for i, barcode in enumerate(BARCODES))
    path.write_text(f"barcode\t{column}\n" + "".join(rows))
    return str(path)


def test_a_column_that_no_cell_fills_is_an_error(inputs):
    inputs.samples[0]["labels"] = label_by(inputs, "empty", [""])
    assert inputs.found()["tasks.empty_column"]["level"] == "error"


def test_a_number_that_is_text_is_named_before_compute(inputs):
    inputs.samples[0]["labels"] = label_by(inputs, "dose", ["0.5", "2", "high"], "dose")
    inputs.tasks = {"dose": {"column": "dose", "type": "regression"}}
    finding = inputs.found()["tasks.unfit"]
    assert finding["level"] == "error" and "'high'" in finding["message"] and "classification" in finding["fix"]
    inputs.samples[0]["labels"] = label_by(inputs, "dose", ["2"], "dose")
    assert inputs.found()["tasks.one_number"]["level"] == "error"


def test_numbers_as_classes_are_pointed_out(inputs):
    inputs.samples[0]["labels"] = label_by(inputs, "time", [f"{i / 7:.3f}" for i in range(len(BARCODES))], "time")
    inputs.tasks = {"time": {"column": "time"}}
    assert "regression" in inputs.found()["tasks.numbers"]["fix"]
    inputs.tasks["time"]["type"] = "regression"
    assert wrong(inputs.found()) == []


def test_classes_that_cannot_be_judged_are_named(inputs):
    few = ["A", "B", "B", "A", "B"] * 10
    inputs.samples = [
        inputs.sample("a", labels=label_by(inputs, "a", ["lonely", *few[1 : len(BARCODES)]])),
        inputs.sample("b", labels=label_by(inputs, "b", ["A", "only_b"])),
    ]
    found = inputs.found()
    assert "'lonely'" in found["tasks.one_cell"]["message"] and "'only_b'" not in found["tasks.one_cell"]["message"]
    assert "'only_b'" in found["tasks.one_group_class"]["message"] and "donor" in found["tasks.one_group_class"]["fix"]
    assert "tasks.one_group" not in found


def test_what_becomes_of_a_library_without_labels_is_said(inputs):
    inputs.samples = [inputs.sample("a"), inputs.sample("b", labels=None)]
    found = inputs.found()
    assert "'b'" in found["tasks.unlabelled"]["message"] and "are predicted" in found["tasks.unlabelled"]["fix"]
    assert "cell by cell" in found["tasks.one_group"]["fix"]


def test_an_empty_column_in_a_labels_file_is_found_before_folds_are_missed(inputs):
    empty = label_by(inputs, "c", [""])
    inputs.samples = [inputs.sample("a"), inputs.sample("b"), inputs.sample("c", labels=empty)]
    found = inputs.found()
    assert "3 folds" in found["tasks.few_groups"]["message"] and "'c'" in found["tasks.few_groups"]["fix"]
    assert "transfer: always" in found["tasks.unlabelled"]["fix"]
    inputs.samples[2]["labels"] = None
    found = inputs.found()
    assert "tasks.few_groups" not in found and "are predicted" in found["tasks.unlabelled"]["fix"]


def test_a_filter_that_chooses_no_cell_is_an_error(inputs):
    inputs.tasks["state"]["train_on"] = {"column": "state", "values": ["A", "B"]}
    inputs.tasks["state"]["predict_on"] = {"column": "state", "values": ["progenitor"]}
    assert "progenitor" in inputs.found()["tasks.unfit"]["message"]
    inputs.tasks["state"]["predict_on"] = {"column": "stage", "values": ["progenitor"]}
    assert "predict_on/column" in inputs.found()["tasks.no_column"]["message"]


def test_predictions_that_are_asked_for_need_cells_without_a_label(inputs):
    inputs.tasks["state"]["predict_on"] = {"column": "state", "values": ["B"]}
    assert "predict_on" in inputs.found()["tasks.nothing_to_predict"]["message"]
    inputs.tasks["state"]["transfer"] = "never"
    assert "tasks.nothing_to_predict" not in inputs.found()
    inputs.tasks["state"] = {"column": "state", "transfer": "always"}
    assert "transfer: never" in inputs.found()["tasks.nothing_to_predict"]["fix"]
    inputs.samples[0]["labels"] = label_by(inputs, "some", ["A", "B", ""])
    assert "tasks.nothing_to_predict" not in inputs.found()


def test_a_fold_that_would_train_on_one_class_or_number_is_found_before_compute(inputs):
    inputs.samples = [inputs.sample(name, labels=label_by(inputs, name, [name])) for name in ("1", "2")]
    finding = inputs.found()["tasks.one_class_left"]
    assert finding["level"] == "error" and re.search("'[12]' alone where donor '[12]' is held out", finding["message"])
    inputs.tasks["state"]["type"] = "regression"
    assert inputs.found()["tasks.one_class_left"]["level"] == "error"
    inputs.samples.append(inputs.sample("3", labels=label_by(inputs, "3", ["1", "2"])))
    assert wrong(inputs.found()) == []
