"""The section on the model itself: what it is made of, and what it was trained on."""

from regulonformer.report.blocks import Section
from regulonformer.report.evidence import Evidence
from regulonformer.report.names import duration, listed, number
from regulonformer.report.tables import Table


def model_section(evidence: Evidence) -> Section:
    """Sizes, data and cost of the model, and where its card is."""
    section = Section("model", "The model", "What was pretrained, on what, and at what cost.")
    config, run = evidence.pretrain_config, evidence.pretrain_run
    if not config or not run:
        return section
    shape = config["model"]
    held_out = f"{number(run['n_validation_cells'])} cells of {listed(run['held_out'])}" if run["held_out"] else "none"
    rows = [
        ["Recipe", config["recipe"]],
        ["Parameters", number(run["n_parameters"])],
        ["Genes", number(config["n_genes"])],
        ["Regulons", number(len(config["regulons"]))],
        ["Layers", ", ".join(shape["layers"])],
        ["Width, heads, free slots", f"{shape['width']}, {shape['heads']}, {shape['slots']}"],
        ["Trained on", f"{number(run['n_train_cells'])} cells of {listed(run['trained_on'])}"],
        ["Held out", held_out],
        ["Steps", number(run["steps_taken"])],
        ["Time", duration(run["wall_seconds"])],
    ]
    caption = (
        "The model folder loads with one call, regulonformer.load(folder). Its card, README.md, says how to use it and "
        "what it is not good for."
    )
    section.blocks.append(Table("model_facts", "Sizes and data", ["", ""], rows, caption, "pretrain/*/README.md"))
    return section
