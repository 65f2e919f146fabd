"""From counts to regulons: time and peak memory of motif scan, peak-gene links and regulons.

    python benchmarks/regulons.py [--cells 10000 | --scaling] [--json FILE] [--quick]

Cells with RNA and ATAC are generated (about 1,500 genes and 3,000 peaks per cell) as mixtures of some programs, in
which part of the peaks go with the next gene, on a genome of their own. The scripts of the workflow then run
with the settings' defaults, each in a fresh process on the same two CPUs. `--scaling` does it for 2,000, 10,000 and
50,000 cells.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from motifs import PEAK_WIDTH, RELEASE, THREADS, write_genome
from scipy import sparse

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "workflow/scripts"))

# 10 kb of genome per peak: some 30 peaks in the window of a gene.
GENOME_PER_PEAK = 10_000
PROGRAMS, COMPONENTS, LIBRARIES, BLOCK_CELLS = 12, 50, 2, 1000
# Draws per cell, and the spread of the features' log means, that give the stated numbers of genes and peaks per cell.
UMIS, FRAGMENTS, SPREAD_RNA, SPREAD_ATAC = 2100, 3100, 1.5, 0.8
FOLLOWING, EFFECT = 0.3, 1.0
CELLS = (2_000, 10_000, 50_000)


def generate(folder: Path, n_cells: int, n_peaks: int, n_genes: int) -> None:
    """Write genome, peaks.bed and multiome.h5mu."""
    import anndata

    from regulonformer.io.multiome import add_elements, write_in_blocks
    from regulonformer.io.peaks import peak_names

    rng = np.random.default_rng(0)
    peaks = write_genome(folder / "genome.fa", n_peaks, GENOME_PER_PEAK)
    peaks.to_csv(folder / "peaks.bed", sep="\t", header=False, index=False)
    genes, home = gene_table(rng, peaks, n_genes)
    effects = rng.normal(0, EFFECT, (n_genes, PROGRAMS))
    gene_ahead = np.searchsorted(home, np.arange(n_peaks)).clip(max=n_genes - 1)
    follows = rng.random(n_peaks)[:, None] < FOLLOWING
    of_peaks = np.where(follows, effects[gene_ahead], rng.normal(0, EFFECT, (n_peaks, PROGRAMS)))
    profiles = {"rna": (effects, SPREAD_RNA, UMIS), "atac": (of_peaks, SPREAD_ATAC, FRAGMENTS)}
    profiles = {
        name: (np.exp(log + rng.normal(0, spread, len(log))[:, None]).T.cumsum(axis=1), depth)
        for name, (log, spread, depth) in profiles.items()
    }
    mixtures = rng.dirichlet(np.full(PROGRAMS, 0.3), n_cells)
    obs = pd.DataFrame({"sample": [f"library{cell % LIBRARIES}" for cell in range(n_cells)]})
    obs.index = [f"cell{cell}" for cell in range(n_cells)]
    var = {"rna": genes, "atac": peaks.set_axis(peak_names(peaks))}
    tables = {name: anndata.AnnData(obs=obs[[]], var=var[name]) for name in profiles}
    blocks = (
        {name: draw_counts(rng, mixtures[first : first + BLOCK_CELLS], *profiles[name])}
        for name in profiles
        for first in range(0, n_cells, BLOCK_CELLS)
    )
    write_in_blocks(folder / "multiome.h5mu", obs, tables, blocks)
    # Stands for the PCA, which finds the mixtures, and noise.
    components = mixtures @ rng.normal(0, 1, (PROGRAMS, COMPONENTS)) + rng.normal(0, 0.1, (n_cells, COMPONENTS))
    add_elements(folder / "multiome.h5mu", "rna", obsm={"X_pca": components.astype(np.float32)})


def gene_table(rng, peaks: pd.DataFrame, n_genes: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Genes, each with its TSS in a peak, the first of them TFs of the motifs; and the numbers of those peaks."""
    from regulonformer.prior.motifs import motif_symbols, read_jaspar

    home = np.sort(rng.choice(len(peaks), n_genes, replace=False))
    symbols = sorted({symbol.upper() for motif in read_jaspar(RELEASE) for symbol in motif_symbols(motif.name)})
    symbols = rng.permutation([*symbols, *(f"Gene{number}" for number in range(n_genes))][:n_genes])
    place = peaks.iloc[home]
    table = {"gene_id": symbols, "symbol": symbols, "chrom": place["chrom"].to_numpy()}
    table |= {"tss": place["start"].to_numpy() + PEAK_WIDTH // 2, "strand": rng.choice(["+", "-"], n_genes)}
    return pd.DataFrame(table, index=pd.Index(symbols, dtype=object)), home


def draw_counts(rng, mixtures: np.ndarray, cumulated: np.ndarray, depth: int) -> sparse.csr_matrix:
    """Counts of some cells: each draw takes a program of its cell, and a feature of that program."""
    n_cells, n_features = len(mixtures), cumulated.shape[1]
    draws = rng.multinomial(rng.poisson(depth * rng.lognormal(0, 0.3, n_cells)), mixtures)
    cells, features = [], []
    for program, totals in enumerate(cumulated):
        cells.append(np.repeat(np.arange(n_cells), draws[:, program]))
        features.append(np.searchsorted(totals, rng.random(len(cells[-1])) * totals[-1]))
    cell, feature = np.concatenate(cells), np.concatenate(features).clip(max=n_features - 1)
    ones = np.ones(len(cell), np.int32)
    return sparse.coo_matrix((ones, (cell, feature)), shape=(n_cells, n_features)).tocsr()


def settings() -> dict:
    """Defaults of the section `regulons`."""
    from regulonformer.config.schema import check_settings, read_yaml

    schema = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")["properties"]["regulons"]
    return check_settings({}, schema, "defaults")


def scan(folder: Path) -> None:
    import scan_motifs

    scan_motifs.main(
        peaks=folder / "peaks.bed",
        fasta=folder / "genome.fa",
        multiome=folder / "multiome.h5mu",
        settings=settings(),
        output=folder / "motif_hits.npz",
        threads=THREADS,
    )


def links(folder: Path) -> None:
    import link_peaks

    link_peaks.main(
        multiome=folder / "multiome.h5mu",
        fasta=folder / "genome.fa",
        settings=settings(),
        output=folder / "links.parquet",
        summary=folder / "links.json",
    )


def regulons(folder: Path) -> None:
    import build_regulons

    files = {"regulons": "parquet", "gmt": "gmt", "summary": "json", "unmapped": "tsv"}
    build_regulons.main(
        links=folder / "links.parquet",
        multiome=folder / "multiome.h5mu",
        motif_hits=folder / "motif_hits.npz",
        settings=settings(),
        **{name: folder / f"regulons_{name}.{suffix}" for name, suffix in files.items()},
    )


def measured(function, *arguments) -> dict:
    """Run a step; its time, and its process's peak memory. Not `ru_maxrss`, in which the parent has a part."""
    started = time.perf_counter()
    function(*arguments)
    seconds = time.perf_counter() - started
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    return {"seconds": seconds, "cpu_seconds": time.process_time(), "peak_gb": peak / 1e6}


def run(folder: Path, n_cells: int, n_peaks: int, n_genes: int) -> pd.DataFrame:
    """Generate the input and run all steps, each in a fresh process; step -> figures."""
    rows = {}
    jobs = [(generate, folder, n_cells, n_peaks, n_genes), (scan, folder), (links, folder), (regulons, folder)]
    for job in jobs:
        name = job[0].__name__
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows[name] = pool.submit(measured, *job).result()
        print(f"{n_cells} cells, {name}: {rows[name]['seconds']:.1f} s", file=sys.stderr, flush=True)
    return pd.DataFrame(rows).T


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=10_000)
    parser.add_argument("--peaks", type=int, default=100_000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--scaling", action="store_true", help="2,000, 10,000 and 50,000 cells")
    parser.add_argument("--scratch", type=Path, help="folder for the data (2 GB); a temporary one by default")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--quick", action="store_true", help="500 cells, 5,000 peaks, 2,000 genes")
    options = parser.parse_args()
    if options.quick:
        options.cells, options.peaks, options.genes = 500, 5_000, 2_000
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:THREADS])
    result = {}
    for n_cells in CELLS if options.scaling else [options.cells]:
        with tempfile.TemporaryDirectory(dir=options.scratch) as folder:
            table = run(Path(folder), n_cells, options.peaks, options.genes)
        print(table.to_string(float_format="{:.2f}".format))
        ours = table.drop(index="generate")
        size = f"{n_cells / 1000:g}k"
        result[f"links_seconds_{size}"] = ours.at["links", "seconds"]
        result[f"total_seconds_{size}"] = ours["seconds"].sum()
        result[f"total_cpu_seconds_{size}"] = ours["cpu_seconds"].sum()
        result[f"peak_gb_{size}"] = ours["peak_gb"].max()
    # Without a size: those of 10,000 cells, or of the only run.
    size = "10k" if options.scaling else size
    result |= {name: result[f"{name}_{size}"] for name in ("links_seconds", "peak_gb")}
    for key, value in result.items():
        print(f"{key}: {value:,.2f}")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
