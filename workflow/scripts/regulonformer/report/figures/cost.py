"""Time and memory of every step of the workflow."""

import numpy as np
import pandas as pd

from regulonformer.report.style import BASELINE, OURS, panels
from regulonformer.report.words.names import spoken


def cost_bars(benchmarks: pd.DataFrame):
    """Time of all jobs of a step, of which the longest is dark, and peak memory.

    Parameters
    ----------
    benchmarks
        step, job, seconds, memory_mb.
    """
    steps = benchmarks.groupby("step").agg(
        seconds=("seconds", "sum"), longest=("seconds", "max"), memory=("memory_mb", "max")
    )
    steps = steps.sort_values("seconds")
    at = np.arange(len(steps))
    figure, (time, memory) = panels(2, 2, 1.0 + 0.24 * len(steps), sharey=True)
    unit, name = (60, "Minutes") if steps["seconds"].max() > 300 else (1, "Seconds")
    time.barh(at, steps["seconds"] / unit, color="#BFD7E8", height=0.7, label="all jobs")
    time.barh(at, steps["longest"] / unit, color=OURS, height=0.7, label="longest job")
    time.set(title="Time", xlabel=name)
    time.set_yticks(at, [spoken(step) for step in steps.index])
    time.legend(loc="lower right")
    memory.barh(at, steps["memory"] / 1024, color=BASELINE, height=0.7)
    memory.set(title="Peak memory of a job", xlabel="GB")
    for axis in (time, memory):
        axis.grid(axis="x")
        axis.tick_params(axis="y", length=0)
    return figure
