"""What a section of the page is made of, and how figures get onto it."""

from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from regulonformer.report.comparison import fold_scores, is_ours
from regulonformer.report.figures.scores import forest_plot
from regulonformer.report.questions import task_of
from regulonformer.report.style import write_figure
from regulonformer.report.tables.scores import score_table
from regulonformer.report.words.names import capital, slug


@dataclass
class Figure:
    """A drawn figure.

    Attributes
    ----------
    name
        Anchor on the page and stem of the files.
    heading
        What it shows.
    svg, width
        Drawing, and its width on the page in pixels.
    caption
        How to read it.
    alt
        Description for those who do not see it.
    source
        Result files behind it.
    """

    name: str
    heading: str
    svg: str
    width: int
    caption: str
    alt: str
    source: str
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

    def draw(self, figure, name: str, heading: str, *, caption: str, alt: str, source: str) -> Figure | None:
        """Write a figure; None stays None, so that a figure without data is left out."""
        if figure is None:
            return None
        width = round(figure.get_figwidth() * 96)
        svg = write_figure(figure, name, self.folder, self.settings["dpi"])
        return Figure(name, heading, svg, width, caption, alt, source)


def score_blocks(scores: pd.DataFrame, dataset: str, judged: str, source: str, studio: Studio) -> list:
    """Forest plot and table of every method on one dataset."""
    mine = scores[scores["dataset"] == dataset]
    reading = "Where our interval crosses the dashed line of the best baseline, the two cannot be told apart by it."
    if mine["ci_low"].isna().all():
        reading = "There are no intervals here: a small gap means nothing."
    elif not any(is_ours(method) for method in mine["method"]):
        reading = "Our model was not scored here."
    folds = ", faint points single folds" if len(fold_scores(mine)) else ""
    name = f"{Path(source).stem}_{slug(task_of(dataset))}"
    return [
        studio.draw(
            forest_plot(scores, dataset),
            f"forest_{name}",
            capital(f"all methods on {judged}"),
            caption=(
                f"Methods from best to worst. Diamonds are ours, discs baselines, lines intervals{folds}. {reading}"
            ),
            alt=f"Forest plot of scores with intervals for every method on {judged}.",
            source=source,
        ),
        score_table(mine, f"scores_{name}", judged, source),
    ]
