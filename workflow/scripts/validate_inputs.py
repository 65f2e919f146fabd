"""Judge the inputs of a run before any compute, and stop with one line per fault."""

import logging

from regulonformer.config.inputs import ERROR, Finding, judge_inputs
from regulonformer.io.store import write_json
from regulonformer.log import rule_log


def main(*, samples: list[dict], reference: dict, tasks: dict, confidence: list[str], output: str) -> None:
    """Write the verdict, or end the run when there is an error in it."""
    verdict = judge_inputs(samples, reference, tasks, confidence)
    findings = [Finding(**finding) for finding in verdict["findings"]]
    for finding in findings:
        logging.info("%s: %s", finding.level.capitalize(), finding)
    if any(finding.level == ERROR for finding in findings):
        raise SystemExit(1)
    write_json(output, verdict)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(
            samples=job.params.samples,
            reference={name: job.input.get(name) or None for name in ("annotation", "fasta", "network")},
            tasks=job.params.tasks,
            confidence=job.params.network_confidence,
            output=job.output.verdict,
        )
