"""Tables of the model itself: what it is made of, and what training reached."""

from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import duration, listed, number


def model_table(config: dict, run: dict) -> Table:
    """Sizes, data and cost of the model, and where its card is.

    Parameters
    ----------
    config, run
        `config.json` and `run.json` of the model folder.
    """
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
    return Table("model_facts", "Sizes and data", ["", ""], rows, caption, "pretrain/*/config.json, run.json")


def gain_table(gains: dict[str, float]) -> Table | None:
    """How far the held-out loss lies below its floor, per modality, in percent."""
    if not gains:
        return None
    rows = [[name, f"{gain:+.1f} %"] for name, gain in gains.items()]
    caption = (
        "At the last validation, on held-out cells: how far the loss lies below the mean-profile floor, in percent of "
        "the floor (negative: above it)."
    )
    columns = ["Modality", "Gain"]
    return Table("pretraining_gain", "Gain over the mean profile", columns, rows, caption, "pretrain/*/metrics.tsv")
