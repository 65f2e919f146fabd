"""The section with the maps of the cells."""

import pandas as pd

from regulonformer.errors import InputError
from regulonformer.report.blocks import Section, Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.cells import cell_maps
from regulonformer.report.words.names import column_name, listed, slug


def cell_section(evidence: Evidence, studio: Studio, columns: dict[str, str]) -> Section:
    """Maps of the cells: raw RNA, raw ATAC, and the model."""
    section = Section("cells", "Cell map", "The same cells seen by raw RNA, by raw ATAC and by the model.")
    views = [view for view in (evidence.multiome, evidence.embedding) if view is not None and view.maps]
    if not views:
        return section
    maps = {name: coordinates for view in views for name, coordinates in view.maps.items()}
    obs = views[0].obs
    for column in colour_columns(obs, studio.settings["colour_by"], columns):
        by_origin = column in ("sample", "donor")
        reading = (
            "Where libraries or donors form islands of their own within one cell type, technical differences are left."
            if by_origin
            else (
                "Groups that lie apart are easy to tell from this view alone; distances between far groups mean little."
            )
        )
        section.blocks.append(
            studio.draw(
                cell_maps(maps, obs[column], studio.settings["max_cells_plot"], on_map=not by_origin),
                f"cells_by_{slug(column)}",
                f"Cells by {column_name(column)}",
                caption=f"UMAPs coloured by {column_name(column)}; each point is a cell. {reading}",
                alt=f"UMAPs of {listed(maps)}, coloured by {column_name(column)}.",
                source="features/multiome.h5mu, embed/*.h5ad",
            )
        )
    return section


def colour_columns(obs: pd.DataFrame, asked: str | None, columns: dict[str, str]) -> list[str]:
    """Columns that colour the maps: library, donor where it says more, and the label.

    Raises
    ------
    InputError
        If `report.colour_by` names a column that the cells do not have.
    """
    if asked and asked not in obs:
        raise InputError(
            "report.colour_by",
            f"the cells have no column '{asked}'",
            f"Choose one of {listed(obs.columns, 20)}, or null",
        )
    label = asked or next(iter(columns.values()), None)
    donor_is_library = "donor" in obs and "sample" in obs and obs["donor"].nunique() in (1, obs["sample"].nunique())
    wanted = ["sample", *([] if donor_is_library else ["donor"]), label]
    return list(dict.fromkeys(column for column in wanted if column in obs))
