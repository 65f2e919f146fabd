"""Judge the inputs of a run before any compute, and stop with one line per fault."""

import logging
from pathlib import Path

from regulonformer.io.store import write_json
from regulonformer.log import rule_log
from regulonformer.validate.findings import ERROR, Finding
from regulonformer.validate.judge import judge_inputs
from regulonformer.validate.resources import budget_lines


def main(*, inputs: dict, results: str, rules_mb: dict, outputs: list[str]) -> None:
    """Write the verdict; with an error in it, say so in one line each and end the run."""
    verdict = judge_inputs(**inputs, results=results, rules_mb=rules_mb)
    findings = [Finding(**finding) for finding in verdict["findings"]]
    for output in outputs:
        write_json(output, verdict)
    for finding in findings:
        logging.info("%s: %s", finding.level.capitalize(), finding)
    for line in budget_lines(verdict["budget"], results):
        logging.info("%s", line)
    if any(finding.level == ERROR for finding in findings):
        raise SystemExit(1)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        reference = ("annotation", "fasta", "network", "tfs", "aliases", "blacklist")
        main(
            inputs={
                "samples": job.params.samples,
                "reference": {name: job.input.get(name) or None for name in reference},
                "tasks": job.params.tasks,
                "splits": job.params.splits,
                "perturbation": job.params.perturbation,
                "variants": job.params.variants,
                "ingest": job.params.ingest,
                "confidence": job.params.network_confidence,
                "goal": job.params.goal,
            },
            results=Path(job.output.verdict).parent,
            rules_mb=job.params.rules_mb,
            outputs=[job.log.verdict, job.output.verdict],
        )
