"""The section on label transfer: cells without a label, and those that stay unknown."""

from regulonformer.report.blocks import Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.cells import cell_maps
from regulonformer.report.tables.table import filter_table
from regulonformer.report.tables.transfer import transfer_table
from regulonformer.report.words.names import slug, spoken


def transfer_section(evidence: Evidence, studio: Studio) -> Section:
    """Predicted labels, table and map, per task."""
    section = Section(
        "transfer",
        "Cells without a label",
        "Labels given to cells that had none, and cells that stay unknown: the models are not sure, or the cell lies "
        "further from all labelled cells than held-out cells do.",
    )
    view = evidence.multiome
    for task, labels in evidence.transferred.items():
        section.blocks.append(transfer_table(labels, task))
        if view is not None and view.maps:
            predicted = labels.set_index("cell")["predicted"].astype(str)
            section.blocks.append(
                studio.draw(
                    cell_maps(view.maps, predicted, studio.settings["max_cells_plot"], on_map=True),
                    f"transferred_{slug(task)}",
                    f"Predicted labels on the map: {spoken(task)}",
                    caption=(
                        "Only cells that had no label. Known classes belong where the labelled cells of the "
                        "same class lie on the cell map; a group of its own that stays unknown may be a type "
                        "of cell that no label names."
                    ),
                    alt=f"UMAPs of cells without a label, coloured by the predicted {spoken(task)}.",
                    source=f"finetune/{task}/*/labels.parquet, features/multiome.h5mu",
                )
            )
        if task in evidence.transfer_summary:
            source, heading = f"finetune/{task}/*/labels.json", f"How labels were given: {spoken(task)}"
            section.blocks.append(
                filter_table(f"transfer_summary_{slug(task)}", heading, evidence.transfer_summary[task], source)
            )
    return section
