"""Time, memory and versions."""

from regulonformer.report.blocks import Studio
from regulonformer.report.evidence import Evidence
from regulonformer.report.figures.cost import cost_bars
from regulonformer.report.tables.cost import cost_table, version_table


def cost_blocks(evidence: Evidence, studio: Studio) -> list:
    """Time, memory and versions."""
    records = [record for record in [evidence.pretrain_run, *evidence.finetune_runs] if record]
    blocks = []
    if evidence.benchmarks is not None:
        blocks += [
            studio.draw(
                cost_bars(evidence.benchmarks),
                "costs_by_step",
                "What each step took",
                caption=(
                    "Time of all jobs of a step together, of which the longest is dark, and the memory of its "
                    "largest job."
                ),
                alt="Bar charts of time and peak memory per step of the workflow.",
                source="benchmarks/*.tsv",
            ),
            cost_table(evidence.benchmarks),
        ]
    return [block for block in [*blocks, version_table(records)] if block is not None]
