"""Build the regulons again from resampled cells, with other seeds and without donors, and say what comes back."""

import tempfile
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

import build_regulons
import link_peaks
from regulonformer.evaluate.grn import folds_of
from regulonformer.evaluate.grn_methods import Edges, correlations, log_normalise
from regulonformer.io.multiome import make_mudata
from regulonformer.io.store import read_mudata, read_parquet, write_mudata, write_parquet, write_tsv
from regulonformer.log import progress, rule_log


def main(*, multiome, inputs, settings, prior, regulons, output, output_folds):
    """Write how alike the edges of every two draws are (tsv).

    Parameters
    ----------
    multiome, regulons
        Results of the run.
    inputs
        What links and regulons are made from besides: fasta, tss, motif_hits, network, tfs, aliases; each or None.
    settings, prior
        Sections `grn` and `regulons` of the configuration.
    output
        TSV to write: method, kind (`seeds` or `cells`), draw_a, draw_b, jaccard, rank_correlation.
    output_folds
        Parquet to write: the edges built without each fold of donors: fold, source, target, score.
    """
    data, n_draws, first = read_mudata(multiome), settings["draws"], prior["seed"]
    edges, rng = {}, np.random.default_rng(settings["seed"])
    table = read_parquet(regulons)
    tfs, n_edges = sorted(table["source"].unique()), len(table)
    with tempfile.TemporaryDirectory(dir=Path(output).parent) as folder:
        for draw in progress(range(n_draws), n_draws, "draws", "draw"):
            seeded = prior | {"seed": first + draw}
            edges["regulonformer (regulons)", "seeds", draw] = _build(multiome, inputs, seeded, Path(folder))
            resampled = _draw_cells(data, rng)
            write_mudata(resampled, f"{folder}/multiome.h5mu")
            edges["regulonformer (regulons)", "cells", draw] = _build(
                f"{folder}/multiome.h5mu", inputs, prior, Path(folder)
            )
            edges["Pearson", "cells", draw] = _strongest_correlations(resampled["rna"], tfs, n_edges)
        fold, parts = folds_of(data.obs["donor"].astype(str).to_numpy()), []
        for held in range(fold.max() + 1):
            write_mudata(_take(data, np.flatnonzero(fold != held)), f"{folder}/multiome.h5mu")
            found = _build(f"{folder}/multiome.h5mu", inputs, prior, Path(folder))
            parts.append(found.reset_index().assign(fold=held))
    write_parquet(pd.concat(parts, ignore_index=True), output_folds)
    rows = []
    for (method, kind, a), (other, same, b) in combinations(sorted(edges), 2):
        if (method, kind) == (other, same):
            rows.append((method, kind, a, b, *_likeness(edges[method, kind, a], edges[method, kind, b])))
    columns = ["method", "kind", "draw_a", "draw_b", "jaccard", "rank_correlation"]
    write_tsv(pd.DataFrame(rows, columns=columns), output)


def _draw_cells(data, rng):
    """Draw as many cells with replacement within each library, under new names."""
    samples = data.obs["sample"].astype(str).to_numpy()
    groups = [np.flatnonzero(samples == name) for name in np.unique(samples)]
    return _take(data, np.sort(np.concatenate([rng.choice(group, len(group)) for group in groups])))


def _take(data, rows):
    """Some cells, each under a name of its own even if it comes twice."""
    names = np.array([f"{data.obs_names[row]}:{number}" for number, row in enumerate(rows)], dtype=object)
    tables, cells = {}, data.obs_names[rows]
    for name in ("rna", "atac"):
        at = data[name].obs_names.get_indexer(cells)
        tables[name] = data[name][at[at >= 0]].copy()
        tables[name].obs_names = names[at >= 0]
    return make_mudata(tables, data.obs.iloc[rows].set_axis(names))


def _build(multiome, inputs, prior, folder: Path) -> pd.Series:
    """Scores of the edges that links and regulons give, by TF and target."""
    made = {name: folder / f"{name}.parquet" for name in ("links", "regulons")}
    chosen = {name: inputs[name] for name in ("fasta", "tss")}
    link_peaks.main(multiome=multiome, settings=prior, output=made["links"], summary=folder / "links.json", **chosen)
    chosen = {name: inputs[name] for name in ("motif_hits", "network", "tfs", "aliases")}
    chosen |= {"gmt": folder / "edges.gmt", "summary": folder / "edges.json", "unmapped": folder / "unmapped.tsv"}
    build_regulons.main(multiome=multiome, settings=prior, **made, **chosen)
    return read_parquet(made["regulons"]).set_index(["source", "target"])["score"]


def _strongest_correlations(rna, tfs, n_edges: int) -> pd.Series:
    """As many edges as we keep, by correlation alone."""
    edges = Edges(pd.Index(tfs), pd.Index(rna.var_names.astype(str)))
    scores = correlations(log_normalise(rna.X), edges, "pearson") * edges.judged()
    table = pd.DataFrame(scores, edges.tfs, edges.genes).stack()
    return table.sort_values(ascending=False, kind="stable").head(n_edges)


def _likeness(first: pd.Series, second: pd.Series) -> tuple[float, float]:
    """Share of edges that both have, and Spearman correlation of the scores over the edges of either (absent: 0)."""
    both = pd.concat([first, second], axis=1).fillna(0).to_numpy()
    shared = (both > 0).all(axis=1).mean()
    return round(float(shared), 5), round(float(pd.DataFrame(both).corr("spearman").iloc[0, 1]), 5)


if job := globals().get("snakemake"):
    with rule_log(job.log[0]), threadpool_limits(1):
        optional = ("fasta", "tss", "motif_hits", "network", "tfs", "aliases")
        main(
            multiome=job.input.multiome,
            inputs={name: job.input.get(name) or None for name in optional},
            settings=job.params.grn,
            prior=job.params.regulons,
            regulons=job.input.regulons,
            output=job.output.stability,
            output_folds=job.output.fold_regulons,
        )
