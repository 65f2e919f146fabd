"""Methods against metrics as a heat map with its numbers."""

import numpy as np
import pandas as pd

from regulonformer.report.comparison import LOWER_IS_BETTER, is_ours, methods_in_order, metrics_in_order
from regulonformer.report.style import FULL_WIDTH, MATRIX, panels
from regulonformer.report.words.names import method_name, score_name


def score_heatmap(scores: pd.DataFrame):
    """Numbers of every method and metric; the darker, the better within a column.

    Parameters
    ----------
    scores
        Pooled scores of one dataset.
    """
    methods, metrics = methods_in_order(scores), metrics_in_order(scores)
    values = scores.pivot(index="method", columns="metric", values="value").loc[methods, metrics]
    worth = values * [-1 if metric in LOWER_IS_BETTER else 1 for metric in metrics]
    spread = (worth.max() - worth.min()).replace(0, np.nan)
    shade = ((worth - worth.min()) / spread).fillna(0.5)
    figure, (axis,) = panels(1, 1, 1.7 + 0.34 * len(methods), min(FULL_WIDTH, 3.6 + 0.8 * len(metrics)))
    axis.imshow(shade.where(values.notna()), aspect="auto", cmap=MATRIX, vmin=-0.15, vmax=1.1, interpolation="nearest")
    for (row, column), value in np.ndenumerate(values.to_numpy()):
        if not np.isnan(value):
            colour = "white" if shade.iat[row, column] > 0.6 else "black"
            axis.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axis.set_xticks(range(len(metrics)), map(score_name, metrics), rotation=35, ha="left", rotation_mode="anchor")
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(methods)), map(method_name, methods))
    for tick, method in zip(axis.get_yticklabels(), methods, strict=True):
        tick.set_fontweight("bold" if is_ours(method) else "normal")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    return figure
