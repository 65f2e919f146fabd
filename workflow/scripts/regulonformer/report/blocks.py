"""What a section of the page is made of, and how figures get onto it."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from regulonformer.report import figures_model, tables
from regulonformer.report.comparison import fold_scores, is_ours
from regulonformer.report.names import slug, spoken
from regulonformer.report.style import write_figure
from regulonformer.report.text import task_of


@dataclass
class Figure:
    """A drawn figure with its caption (how to read it) and its description for those who do not see it."""

    name: str
    svg: str
    width: int
    caption: str
    alt: str
    kind: str = "figure"


@dataclass
class Note:
    """A short list of remarks."""

    heading: str
    items: list[str]
    kind: str = "note"


@dataclass
class Section:
    """A section of the page: an anchor, a title, one sentence of introduction and its blocks."""

    name: str
    title: str
    lead: str
    blocks: list = field(default_factory=list)


@dataclass
class Studio:
    """Where figures are written, at which resolution, and with which of the report's settings."""

    folder: Path
    settings: dict

    def draw(self, figure, name: str, caption: str, alt: str) -> Figure | None:
        """Write a figure; None stays None, so that a figure without data is left out."""
        if figure is None:
            return None
        width = round(figure.get_figwidth() * 96)
        return Figure(name, write_figure(figure, name, self.folder, self.settings["dpi"]), width, caption, alt)


def score_blocks(scores: pd.DataFrame, dataset: str, judged: str, source: str, studio: Studio) -> list:
    """Table and forest plot of every method on one dataset."""
    mine = scores[scores["dataset"] == dataset]
    reading = "Where our interval crosses the dashed line of the best baseline, the two cannot be told apart."
    if mine["ci_low"].isna().all():
        reading = "There are no intervals here: a small gap means nothing."
    elif not any(is_ours(method) for method in mine["method"]):
        reading = "Our model was not scored here."
    name = task_of(dataset)
    folds = ", faint points single folds" if len(fold_scores(mine)) else ""
    return [
        tables.score_table(scores, dataset, judged, source),
        studio.draw(
            figures_model.forest_plot(scores, dataset),
            f"forest_{slug(name)}",
            f"Methods from best to worst. Diamonds are ours, discs baselines, lines intervals{folds}. {reading}",
            f"Forest plot of scores with intervals for every method on {spoken(name)}.",
        ),
    ]
