"""The simulator writes what Cell Ranger ARC would, and its truth is what it simulated."""

import gzip

import numpy as np
import pandas as pd
import pysam
import pytest

from regulonformer.errors import InputError
from regulonformer.io.store import file_hash
from regulonformer.simulate import genome, lineage, motifs
from simulate_multiome import main

SAMPLES = ["donor1", "donor2"]
SETTINGS = {
    "seed": 3,
    "cells_per_library": 60,
    "genes": 120,
    "tfs": 12,
    "chromosomes": 3,
    "chromosome_mb": 1,
    "jaspar_release": "JASPAR2024",
    "doublet_rate": 0.1,
    "dying_rate": 0.1,
    "mean_umis": 1500,
    "mean_fragments": 2500,
    "knockout_share": 0.25,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulate")
    main(root=folder, samples=SAMPLES, settings=SETTINGS)
    return folder


@pytest.fixture(scope="module")
def truth(root):
    return pd.read_csv(root / "truth/cells.tsv", sep="\t", keep_default_na=False, na_values={"pseudotime": ""})


@pytest.fixture(scope="module")
def matrices(root):
    import scanpy as sc

    return {s: sc.read_10x_h5(root / s / "outs/filtered_feature_bc_matrix.h5", gex_only=False) for s in SAMPLES}


@pytest.fixture(scope="module")
def expression(matrices):
    """Counts, cells x genes, of both libraries."""
    tables = []
    for sample, matrix in matrices.items():
        rna = matrix[:, matrix.var["feature_types"] == "Gene Expression"]
        tables.append(
            pd.DataFrame(rna.X.toarray(), index=[f"{sample}_{b}" for b in rna.obs_names], columns=rna.var_names)
        )
    return pd.concat(tables)


def read_fragments(root, sample):
    path = root / sample / "outs/atac_fragments.tsv.gz"
    names = ["chrom", "start", "end", "barcode", "reads"]
    return pd.read_csv(path, sep="\t", comment="#", header=None, names=names)


def read_grn(root):
    return pd.read_csv(root / "truth/grn.tsv", sep="\t")


def test_matrix_is_laid_out_as_10x(matrices, root, truth):
    for sample, matrix in matrices.items():
        kinds = matrix.var["feature_types"].tolist()
        n_genes = SETTINGS["genes"] + len(genome.MITO_GENES)
        assert kinds == ["Gene Expression"] * n_genes + ["Peaks"] * (len(kinds) - n_genes)
        assert matrix.var_names.is_unique and matrix.obs_names.is_unique and matrix.obs_names.is_monotonic_increasing
        assert matrix.obs_names.str.fullmatch("[ACGT]{16}-1").all()
        assert (matrix.var["genome"] == genome.GENOME_NAME).all()
        bed = pd.read_csv(root / sample / "outs/atac_peaks.bed", sep="\t", comment="#", header=None)
        assert matrix.var_names[n_genes:].tolist() == [f"{c}:{s}-{e}" for c, s, e in bed.to_numpy()]
        known = truth[truth["sample"] == sample]
        assert known["barcode"].tolist() == matrix.obs_names.tolist()
        assert known["cell"].tolist() == [f"{sample}_{barcode}" for barcode in matrix.obs_names]


def test_peaks_are_disjoint_and_differ_between_libraries(root):
    beds = [pd.read_csv(root / s / "outs/atac_peaks.bed", sep="\t", comment="#", header=None) for s in SAMPLES]
    for bed in beds:
        for _, chrom in bed.groupby(0):
            assert (chrom[1].to_numpy()[1:] >= chrom[2].to_numpy()[:-1]).all()
    shared = set(map(tuple, beds[0].to_numpy())) & set(map(tuple, beds[1].to_numpy()))
    assert len(shared) < 0.2 * len(beds[0])


def test_fragments_are_sorted_indexed_and_agree_with_the_metrics(root, matrices):
    for sample, matrix in matrices.items():
        table = read_fragments(root, sample)
        for _, chrom in table.groupby("chrom", sort=False):
            assert chrom["start"].is_monotonic_increasing
        assert not table.duplicated(["chrom", "start", "end", "barcode"]).any()
        assert (table["start"] >= 0).all() and (table["end"] <= 1_000_000).all() and (table["reads"] >= 1).all()
        with pysam.TabixFile(str(root / sample / "outs/atac_fragments.tsv.gz")) as tabix:
            assert tabix.contigs == ["chr1", "chr2", "chr3"]
            assert tabix.header[-1] == "# primary_contig=chr3"
            near = table.query("chrom == 'chr2' and start < 300000 and end > 200000")
            assert sum(1 for _ in tabix.fetch("chr2", 200_000, 300_000)) == len(near)
        metrics = pd.read_csv(root / sample / "outs/per_barcode_metrics.csv").set_index("barcode")
        assert metrics["atac_fragments"].sum() == len(table)
        cells = metrics[metrics["is_cell"] == 1]
        assert set(cells.index) == set(matrix.obs_names) and len(metrics) > len(cells)
        counts = matrix[cells.index]
        is_gene = (counts.var["feature_types"] == "Gene Expression").to_numpy()
        assert (cells["gex_umis_count"] == counts.X[:, is_gene].sum(axis=1).A1).all()
        assert (cells["atac_peak_region_cutsites"] == counts.X[:, ~is_gene].sum(axis=1).A1).all()


def test_peak_counts_equal_a_naive_count_of_cut_sites(root, matrices):
    matrix, table = matrices["donor1"], read_fragments(root, "donor1")
    peak = matrix.var_names[matrix.var["feature_types"] == "Peaks"][7]
    chrom, span = peak.split(":")
    start, end = map(int, span.split("-"))
    here = table[table["chrom"] == chrom]
    cuts = pd.concat([here[["barcode"]].assign(at=here["start"]), here[["barcode"]].assign(at=here["end"] - 1)])
    naive = cuts[(cuts["at"] >= start) & (cuts["at"] < end)].groupby("barcode").size()
    naive = naive.reindex(matrix.obs_names, fill_value=0)
    assert naive.sum() > 0
    assert (matrix[:, peak].X.toarray().ravel() == naive.to_numpy()).all()


def test_fragment_lengths_are_nucleosomal(root):
    length = read_fragments(root, "donor1").eval("end - start")
    assert 0.4 < (length < 130).mean() < 0.75
    assert 0.2 < length.between(150, 260).mean() < 0.5
    assert length.between(135, 145).sum() < 0.3 * length.between(70, 80).sum()
    assert (length > 300).mean() > 0.05


def tss_enrichment(table, tss):
    """Cut sites per bp within 50 bp of the TSS over those 1.9 to 2 kb away."""
    center = flank = 0
    for chrom, here in table.groupby("chrom"):
        cuts = np.sort(np.concatenate([here["start"], here["end"] - 1]))
        for position in tss[tss["chrom"] == chrom]["tss"]:

            def within(left, right, position=position, cuts=cuts):
                return np.diff(np.searchsorted(cuts, [position + left, position + right]))[0]

            center += within(-50, 50)
            flank += within(-2000, -1900) + within(1900, 2000)
    return 2 * center / flank


def test_good_cells_have_tss_enrichment_and_dying_cells_lack_it(root, truth):
    genes = read_gtf(root).query("feature == 'gene' and chrom != 'chrM'")
    tss = genes.assign(tss=np.where(genes["strand"] == "+", genes["start"] - 1, genes["end"] - 1))
    table = read_fragments(root, "donor1")
    cells = truth[truth["sample"] == "donor1"]
    good = tss_enrichment(table[table["barcode"].isin(cells[~cells["dying"]]["barcode"])], tss)
    dying = tss_enrichment(table[table["barcode"].isin(cells[cells["dying"]]["barcode"])], tss)
    assert good > 5
    assert dying < 0.5 * good


def read_gtf(root):
    names = ["chrom", "source", "feature", "start", "end", "score", "strand", "frame", "attributes"]
    return pd.read_csv(root / "reference/genes.gtf", sep="\t", comment="#", header=None, names=names)


def test_annotation_holds_every_gene_and_some_second_tss(root, expression):
    gtf = read_gtf(root)
    symbols = gtf[gtf["feature"] == "gene"]["attributes"].str.extract('gene_name "([^"]+)"')[0]
    assert set(symbols) == set(expression.columns)
    assert (gtf["start"] < gtf["end"]).all()
    assert len(gtf[gtf["feature"] == "transcript"]) > len(symbols)
    assert set(gtf[gtf["chrom"] == "chrM"]["attributes"].str.extract('gene_name "(MT-[^"]+)"')[0]) == set(
        genome.MITO_GENES
    )


def test_truth_lies_within_the_genome(root, expression):
    links = pd.read_csv(root / "truth/links.tsv", sep="\t")
    grn = read_grn(root)
    with pysam.FastaFile(str(root / "reference/genome.fa")) as fasta:
        sizes = dict(zip(fasta.references, fasta.lengths, strict=True))
    assert list(sizes) == ["chr1", "chr2", "chr3", "chrM"]
    gtf = read_gtf(root).query("feature == 'gene'")
    gtf.index = gtf["attributes"].str.extract('gene_name "([^"]+)"')[0]
    for row in links.itertuples():
        chrom, start, end = row.cre.split("-")
        assert 0 < int(start) < int(end) < sizes[chrom]
        gene = gtf.loc[row.gene]
        assert gene["chrom"] == chrom and int(start) > gene["start"] - 100_500 and int(end) < gene["end"] + 100_500
    assert set(zip(grn["cre"], grn["target"], strict=True)) <= set(zip(links["cre"], links["gene"], strict=True))
    assert set(grn["sign"]) == {1, -1}
    assert 0.6 < (grn.drop_duplicates(["source", "target"])["sign"] > 0).mean() < 0.9
    assert set(grn["source"]) | set(grn["target"]) <= set(expression.columns)


def test_motif_sites_occur_in_the_sequence_of_every_edge(root):
    sites = pd.read_csv(root / "truth/motif_sites.tsv", sep="\t")
    chosen = {motif.symbol: motif for motif in motifs.choose_motifs(SETTINGS["tfs"], SETTINGS["jaspar_release"])}
    scores, shuffled = [], []
    with pysam.FastaFile(str(root / "reference/genome.fa")) as fasta:
        for site in sites.itertuples():
            codes = np.array(["ACGT".index(base) for base in fasta.fetch(site.chrom, site.start, site.end)])
            codes = codes if site.strand == "+" else motifs.COMPLEMENT[codes][::-1]
            scores.append(chosen[site.source].score(codes))
            shuffled.append(chosen[site.source].score(codes[::-1]))
            _, start, end = site.cre.split("-")
            assert int(start) <= site.start and site.end <= int(end)
    assert np.mean(np.array(scores) > 6) > 0.95
    assert np.median(scores) > np.median(shuffled) + 5
    edges = read_grn(root)[["source", "cre"]]
    assert set(map(tuple, edges.to_numpy())) <= set(map(tuple, sites[~sites["decoy"]][["source", "cre"]].to_numpy()))
    assert sites["decoy"].any() and not set(sites[sites["decoy"]]["cre"]) & set(edges["cre"])


def test_expression_follows_the_signs_of_the_network(root, expression, truth):
    good = truth[~truth["doublet"] & ~truth["dying"]]["cell"]
    nuclear = [gene for gene in expression if not gene.startswith("MT-")]
    log = np.log1p(expression.loc[good, nuclear])
    # Centred log-ratio: among 120 genes a few strong ones would otherwise push all others up and down together.
    log = log.sub(log.mean(axis=1), axis=0)
    edges = read_grn(root).drop_duplicates(["source", "target"])
    r = np.array([log[edge.source].corr(log[edge.target]) for edge in edges.itertuples()])
    sign = edges["sign"].to_numpy()
    assert np.nanmean(r[sign > 0]) > 0.05
    assert np.nanmean(r[sign < 0]) < -0.05


def test_knocked_out_tf_is_silent_where_it_was_knocked_out(expression, truth):
    table = truth.set_index("cell")
    (tf,) = set(truth["knockout"]) - {""}
    knocked = (table["knockout"] == tf).reindex(expression.index)
    branch = table["state"].reindex(expression.index).str.startswith("a_")
    assert expression[tf][knocked].mean() < 0.15 * expression[tf][~knocked & branch].mean()


def test_doublets_have_more_and_dying_cells_fewer_counts(expression, truth):
    table = truth.set_index("cell").loc[expression.index]
    umis = expression.sum(axis=1)
    mito = expression[genome.MITO_GENES].sum(axis=1) / umis
    good = ~table["doublet"] & ~table["dying"]
    assert umis[table["doublet"]].mean() > 1.5 * umis[good].mean()
    assert umis[table["dying"]].mean() < 0.5 * umis[good].mean()
    assert mito[table["dying"]].median() > 0.2 > 0.1 > mito[good].median()


def test_a_cell_has_two_alleles_and_a_doublet_four(root, truth):
    table = read_fragments(root, "donor1")
    ends = [table[["chrom", "barcode", side]].set_axis(["chrom", "barcode", "at"], axis=1) for side in ("start", "end")]
    steps = pd.concat([ends[0].assign(step=1), ends[1].assign(step=-1)])
    steps = steps.sort_values(["barcode", "chrom", "at", "step"], kind="stable")
    depth = steps["step"].cumsum().groupby(steps["barcode"]).max()
    cells = truth[truth["sample"] == "donor1"].set_index("barcode")
    assert depth.reindex(cells.index[~cells["doublet"]]).max() == 2
    assert depth.reindex(cells.index[cells["doublet"]]).between(3, 4).all()


def test_labels_hold_what_a_biologist_knows(root, truth):
    labels = pd.read_csv(root / "donor1/labels.tsv", sep="\t", keep_default_na=False)
    assert labels.columns.tolist() == ["barcode", "state", "knockout", "pseudotime"]
    known = truth[truth["sample"] == "donor1"]
    assert (labels["barcode"].to_numpy() == known["barcode"].to_numpy()).all()
    assert ((labels["state"] == "").to_numpy() == known["doublet"].to_numpy()).all()
    assert set(labels["state"]) - {""} <= set(lineage.STATE_NAMES)
    (tf,) = set(truth["knockout"]) - {""}
    assert set(labels["knockout"]) == {"none", f"{tf}_ko"}


def test_same_seed_same_bytes_and_another_seed_other_bytes(root, tmp_path):
    main(root=tmp_path / "again", samples=SAMPLES, settings=SETTINGS)
    files = sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert [f for f in files if file_hash(root / f) != file_hash(tmp_path / "again" / f)] == []
    main(root=tmp_path / "other", samples=SAMPLES, settings=SETTINGS | {"seed": 4})
    fragments = "donor1/outs/atac_fragments.tsv.gz"
    assert gzip.decompress((root / fragments).read_bytes()) != gzip.decompress(
        (tmp_path / "other" / fragments).read_bytes()
    )


def test_motifs_differ_from_each_other():
    chosen = motifs.choose_motifs(20, "JASPAR2024")
    assert len({motif.symbol for motif in chosen}) == 20
    assert all(motif.bits > motifs.MIN_BITS for motif in chosen)
    assert motifs.similarity(chosen[0], chosen[0]) == pytest.approx(1)
    reverse = motifs.Motif("reverse", "", chosen[0].probabilities[::-1, ::-1])
    assert motifs.similarity(chosen[0], reverse) == pytest.approx(1)
    assert max(motifs.similarity(a, b) for a in chosen for b in chosen if a is not b) < motifs.MAX_SIMILARITY


def test_states_on_other_branches_are_farther_away():
    forks = lineage.fork_times()
    at = lineage.STATE_NAMES.index
    assert np.isnan(forks[at("stem"), at("a_terminal")])
    assert forks[at("a_terminal"), at("b_intermediate")] == 0.45
    assert forks[at("side"), at("a_terminal")] == 0.2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"genes": 5_000}, "do not fit"),
        ({"genes": 12}, "do not fit"),
        ({"tfs": 700, "genes": 800}, "dissimilar motifs"),
    ],
)
def test_impossible_settings_are_refused(change, message, tmp_path):
    with pytest.raises(InputError, match=message):
        main(root=tmp_path, samples=SAMPLES, settings=SETTINGS | change)
    assert list(tmp_path.iterdir()) == []
