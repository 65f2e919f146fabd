"""The section on space: labels, predictions and active regulons where the cells lie in the tissue."""

import pandas as pd

from regulonformer.report.activity import most_specific, top_of_groups
from regulonformer.report.blocks import Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.cells import UNLABELLED, as_groups
from regulonformer.report.figures.spatial import tissue_groups, tissue_values
from regulonformer.report.words.names import column_name, listed, slug, spoken

MAPPED_TFS = 4


def spatial_section(evidence: Evidence, studio: Studio, columns: dict[str, str]) -> Section:
    """Maps in space, where the cells have places."""
    section = Section(
        "spatial", "In the tissue", "The same cells where they lie: labels, held-out predictions and active regulons."
    )
    view = evidence.multiome
    if view is None or view.spatial is None:
        return section
    places, libraries = view.spatial, view.obs["sample"].astype(str)
    for task, column in columns.items():
        if column not in view.obs:
            continue
        shown = {column_name(column).capitalize(): view.obs[column]}
        if task in evidence.predictions:
            shown["Predicted, held out"] = _predicted(evidence.predictions[task])
        section.blocks.append(
            studio.draw(
                tissue_groups(places, libraries, shown),
                f"tissue_{slug(task)}",
                f"{spoken(task).capitalize()} in space",
                caption=(
                    "Each point is a cell at its place; rows are libraries. Predictions are of models that did not see "
                    "the library. Scattered wrong cells are noise of single cells; a wrong patch is a region that the "
                    "model does not know."
                ),
                alt=f"Maps of the tissue, coloured by {listed(shown)}.",
                source=f"features/multiome.h5mu, finetune/{task}/*/predictions.parquet",
            )
        )
        section.blocks.append(_regulons(evidence, places, libraries, column, studio))
    return section


def _predicted(predictions: pd.DataFrame) -> pd.Series:
    """Label predicted for each held-out cell, with the first seed."""
    first = predictions[predictions["seed"] == predictions["seed"].min()]
    return first.drop_duplicates("cell").set_index("cell")["predicted"].astype(str)


def _regulons(evidence: Evidence, places: pd.DataFrame, libraries: pd.Series, column: str, studio: Studio):
    """Activity of the regulons that stand out in single groups."""
    activity = evidence.regulon_activity
    if activity is None or column not in activity.obs:
        return None
    groups = as_groups(activity.obs[column])
    top = top_of_groups(activity.differences(groups.where(groups != UNLABELLED)), 2)
    tfs = list(most_specific(top, MAPPED_TFS))
    if not tfs:
        return None
    return studio.draw(
        tissue_values(places, libraries, activity.of_regulons(tfs)),
        f"tissue_regulons_{slug(column)}",
        f"Regulons that stand out by {column_name(column)}, in space",
        caption=(
            "Activity of the regulons that stand out most in one group each: yellow where their targets are expressed "
            "more than in the average cell, dark blue where less."
        ),
        alt=f"Maps of the tissue, coloured by the activity of {listed(tfs)}.",
        source="regulons/activity.h5ad",
    )
