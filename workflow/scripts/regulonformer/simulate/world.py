"""What all simulated libraries share: genome, regulatory network and parameters; and its files, reference and truth."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from regulonformer.io.store import write_tsv
from regulonformer.simulate import cells, genome, grn, lineage, motifs
from regulonformer.simulate.fragments import Layout


class World(NamedTuple):
    """The world of one simulation.

    Attributes
    ----------
    genes, cres, tfs
        Tables as `genome.place_genes`, `genome.place_cres` and `lineage.draw_tfs` give them.
    edges
        TF -> gene edges: source, target, sign.
    placed
        The CREs that carry the edges: source, target, sign, cre, effect.
    bindings
        Every TF-CRE pair, those of decoys included: source, cre.
    motifs
        Motif of each TF.
    sites
        Motif sites written into the genome: source, cre, chrom, start, end, strand.
    sequences
        ASCII codes of each chromosome.
    layout
        Nuclear chromosomes end to end.
    parameters
        Base expression and accessibility.
    """

    genes: pd.DataFrame
    cres: pd.DataFrame
    tfs: pd.DataFrame
    edges: pd.DataFrame
    placed: pd.DataFrame
    bindings: pd.DataFrame
    motifs: list[motifs.Motif]
    sites: pd.DataFrame
    sequences: dict[str, np.ndarray]
    layout: Layout
    parameters: cells.Parameters


def draw_world(rng: np.random.Generator, settings: dict) -> World:
    """Draw genome, network and parameters from the config section ``simulate``.

    Raises
    ------
    InputError
        If the genes do not fit on the chromosomes, or the release has too few motifs.
    """
    chosen = motifs.choose_motifs(settings["tfs"], settings["jaspar_release"])
    # Familiar names should not all fall into the early states.
    chosen = [chosen[i] for i in rng.permutation(len(chosen))]
    symbols = [motif.symbol for motif in chosen]
    genes = genome.place_genes(rng, symbols, settings)
    cres = genome.place_cres(rng, genes, settings)
    tfs = lineage.draw_tfs(rng, symbols)
    edges = grn.draw_edges(rng, tfs, settings["genes"])
    placed = grn.place_edges(rng, edges, cres)
    bindings = pd.concat([placed[["source", "cre"]].drop_duplicates(), grn.place_decoys(rng, cres, len(tfs))])
    sequences = genome.draw_sequences(rng, cres, settings)
    sites = genome.plant_sites(rng, sequences, cres, bindings, chosen)
    layout = Layout({name: len(codes) for name, codes in sequences.items() if name != "chrM"})
    parameters = cells.draw_parameters(rng, genes, cres, len(tfs))
    return World(genes, cres, tfs, edges, placed, bindings, chosen, sites, sequences, layout, parameters)


def write_reference(world: World, folder: Path) -> None:
    """Write ``genome.fa`` with its index and ``genes.gtf``."""
    folder.mkdir(parents=True, exist_ok=True)
    genome.write_fasta(world.sequences, folder / "genome.fa")
    genome.write_gtf(world.genes, folder / "genes.gtf")


def write_truth(world: World, libraries: list[pd.DataFrame], folder: Path) -> None:
    """Write the truth: ``grn.tsv``, ``links.tsv``, ``tfs.tsv``, ``motif_sites.tsv`` and ``cells.tsv``.

    Parameters
    ----------
    libraries
        Table of the cells of each library.
    """
    folder.mkdir(parents=True, exist_ok=True)
    symbol, cre = world.genes["symbol"].to_numpy(), genome.cre_names(world.cres)
    network = world.placed.sort_values(["source", "target", "cre"])
    columns = {"source": symbol[network["source"]], "target": symbol[network["target"]], "sign": network["sign"]}
    write_tsv(pd.DataFrame(columns | {"cre": cre[network["cre"]]}), folder / "grn.tsv")

    # A CRE that carries no edge regulates nothing, unless it is the promoter itself.
    linked = world.cres["kind"] == "promoter"
    linked |= world.cres.index.isin(world.placed["cre"])
    links = world.cres[linked]
    columns = {"cre": cre[links.index], "gene": symbol[links["gene"]], "kind": links["kind"]}
    write_tsv(pd.DataFrame(columns), folder / "links.tsv")

    home = np.array(lineage.STATE_NAMES)[world.tfs["home"]]
    by_state = world.tfs["kind"].isin(["state", "broad"])
    columns = {
        "tf": world.tfs["symbol"],
        "motif": [motif.matrix_id for motif in world.motifs],
        "program": world.tfs["kind"],
    }
    columns |= {"state": np.where(by_state, home, ""), "knockout": world.tfs["knockout"]}
    write_tsv(pd.DataFrame(columns), folder / "tfs.tsv")

    sites = world.sites
    decoy = (world.cres["kind"] == "decoy").to_numpy()[sites["cre"]]
    columns = {name: sites[name] for name in ("chrom", "start", "end", "strand")}
    columns |= {"source": symbol[sites["source"]], "cre": cre[sites["cre"]], "decoy": decoy}
    write_tsv(pd.DataFrame(columns), folder / "motif_sites.tsv")
    write_tsv(pd.concat(libraries), folder / "cells.tsv")
