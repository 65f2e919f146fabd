"""Tables of time, memory and versions."""

import pandas as pd

from regulonformer.report.tables.table import Table
from regulonformer.report.words.names import duration, number, spoken


def cost_table(benchmarks: pd.DataFrame) -> Table:
    """Time and memory per step of the workflow, in the order of cost."""
    steps = benchmarks.groupby("step").agg(
        jobs=("job", "size"), seconds=("seconds", "sum"), longest=("seconds", "max"), memory=("memory_mb", "max")
    )
    steps = steps.sort_values("seconds", ascending=False)
    rows = [
        [spoken(step), number(int(row.jobs)), duration(row.seconds), duration(row.longest), _memory(row.memory)]
        for step, row in steps.iterrows()
    ]
    total = [
        [
            "all steps",
            number(int(steps["jobs"].sum())),
            duration(steps["seconds"].sum()),
            duration(steps["longest"].max()),
            _memory(steps["memory"].max()),
        ]
    ]
    caption = (
        "Wall time and peak memory as measured when each step last ran. Steps that run side by side overlap in "
        "time, so the whole run takes less than the sum."
    )
    columns = ["Step", "Jobs", "Time, all jobs", "Longest job", "Peak memory"]
    return Table("costs", "Time and memory", columns, rows + total, caption, "benchmarks/*.tsv", {len(rows)})


def _memory(megabytes: float) -> str:
    return "–" if pd.isna(megabytes) else f"{megabytes / 1024:.2f} GB"


def version_table(records: list[dict]) -> Table | None:
    """Versions of what computed the models."""
    versions = {}
    for record in records:
        versions |= {"Python": record["python"]} if "python" in record else {}
        versions |= record.get("packages", {})
    if not versions:
        return None
    rows = [[name, str(version)] for name, version in versions.items()]
    return Table("versions", "Versions", ["Software", "Version"], rows, "As recorded beside the models.", "run.json")
