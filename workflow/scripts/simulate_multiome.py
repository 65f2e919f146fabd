"""Simulate 10x Multiome libraries of a branching differentiation, with the regulatory network that made them."""

import logging
from pathlib import Path

import numpy as np

from regulonformer.log import rule_log
from regulonformer.simulate.library import write_library
from regulonformer.simulate.world import draw_world, write_reference, write_truth


def main(*, root, samples: list[str], settings: dict) -> None:
    """Write a genome, the truth and one Cell Ranger ARC folder per library.

    Parameters
    ----------
    root
        Folder to write: ``{sample}/outs``, ``{sample}/labels.tsv``, ``reference`` and ``truth``.
    samples
        Names of the libraries; each is a donor.
    settings
        The config section ``simulate``.
    """
    root = Path(root)
    shared, *per_library = np.random.SeedSequence(settings["seed"]).spawn(1 + len(samples))
    world = draw_world(np.random.default_rng(shared), settings)
    n_genes, n_cres, n_edges = (len(table) for table in (world.genes, world.cres, world.edges))
    logging.info("%d genes, %d CREs, %d TF-gene edges", n_genes, n_cres, n_edges)
    write_reference(world, root / "reference")
    libraries = []
    for sample, seed in zip(samples, per_library, strict=True):
        libraries.append(write_library(np.random.default_rng(seed), world, sample, root / sample, settings))
        logging.info("%s: %d cells", sample, len(libraries[-1]))
    write_truth(world, libraries, root / "truth")


if job := globals().get("snakemake"):
    with rule_log(job.log[0]):
        main(root=Path(job.output.grn).parents[1], samples=list(job.params.samples), settings=job.params.simulate)
