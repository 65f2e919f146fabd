"""Sound inputs of a library, small enough to be written in no time, for tests to spoil."""

from pathlib import Path

import h5py
import numpy as np
import pysam

from regulonformer.validate.judge import judge_inputs

SCRIPTS = Path(__file__).parents[3] / "workflow" / "scripts"
GENES = [f"GENE{i}" for i in range(30)]
IDS = [f"ENSG{i:011d}" for i in range(30)]
PEAKS = [("chr1", 1000 * i, 1000 * i + 500) for i in range(1, 21)] + [("chr2", 5000, 5500)]
BARCODES = [f"{''.join(np.random.default_rng(i).choice(list('ACGT'), 16))}-1" for i in range(40)]


def write_matrix(path, *, genes=GENES, ids=IDS, peaks=PEAKS, barcodes=BARCODES, value=1, order="genes", **features):
    """Write a 10x v3 h5 in which every count is `value`."""
    rows = [(gene_id, gene, "Gene Expression", "GRCh38") for gene_id, gene in zip(ids, genes, strict=True)]
    places = [f"{chrom}:{start}-{end}" for chrom, start, end in peaks]
    rows_of_peaks = [(name, name, "Peaks", "GRCh38") for name in places]
    rows = rows + rows_of_peaks if order == "genes" else rows_of_peaks + rows
    columns = dict(zip(("id", "name", "feature_type", "genome"), zip(*rows, strict=True), strict=True)) | features
    n_cells, n_features = len(barcodes), len(rows)
    with h5py.File(path, "w") as file:
        matrix = file.create_group("matrix")
        matrix["barcodes"] = np.array(barcodes, dtype="S")
        matrix["data"] = np.full(n_cells * n_features, value)
        matrix["indices"] = np.tile(np.arange(n_features), n_cells)
        matrix["indptr"] = np.arange(n_cells + 1) * n_features
        matrix["shape"] = np.array([n_features, n_cells], dtype=np.int32)
        for name, values in columns.items():
            matrix[f"features/{name}"] = np.array(values, dtype="S")


def fragment_lines(barcodes=BARCODES):
    """Sorted fragments of two chromosomes, all barcodes on both."""
    return [
        f"{chrom}\t{1000 + i}\t{1100 + i}\t{name}\t1" for chrom in ("chr1", "chr2") for i, name in enumerate(barcodes)
    ]


def write_fragment_lines(path, lines, index=True):
    """Compress lines with bgzip as they are, and index them if they can be."""
    with pysam.BGZFile(str(path), "wb") as handle:
        handle.write(("\n".join(lines) + "\n").encode())
    if index:
        pysam.tabix_index(str(path), preset="bed", force=True)


class Inputs:
    """The inputs of one library, which a test may spoil, and the verdict on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.matrix, self.fragments = folder / "matrix.h5", folder / "fragments.tsv.gz"
        self.peaks, self.labels, self.metrics = folder / "peaks.bed", folder / "labels.tsv", folder / "metrics.csv"
        self.annotation, self.fasta = folder / "genes.gtf", folder / "genome.fa"
        self.network, self.tfs, self.blacklist = folder / "network.csv", folder / "tfs.txt", folder / "blacklist.bed"
        write_matrix(self.matrix)
        write_fragment_lines(self.fragments, fragment_lines())
        self.write_peaks(PEAKS)
        self.labels.write_text("barcode\tstate\n" + "".join(f"{b}\t{'AB'[i % 2]}\n" for i, b in enumerate(BARCODES)))
        self.metrics.write_text("barcode,atac_raw_reads\n" + "".join(f"{b},1\n" for b in BARCODES))
        self.annotation.write_text("#!genome-build test\n" + self.records())
        self.fasta.write_text(">chr1\n" + "acgtN" * 8000 + "\n>chr2\n" + "ACGTn" * 8000 + "\n")
        pysam.faidx(str(self.fasta))
        self.network.write_text("source,target,weight\nGENE1,GENE2,1\nGENE3,GENE4,1\n")
        self.tfs.write_text("GENE1\nGENE3\n")
        self.blacklist.write_text("chr1\t35000\t36000\n")
        self.samples = [self.sample("a")]
        self.tasks, self.ingest, self.variants = {"state": {"column": "state"}}, {}, {}
        self.states, self.goal = None, "full"

    @staticmethod
    def records(ids=IDS, genes=GENES, chrom="chr1"):
        """Gene records of a GTF."""
        return "".join(
            f'{chrom}\tX\tgene\t{1000 * i}\t{1000 * i + 800}\t.\t+\t.\tgene_id "{gene_id}"; gene_name "{gene}";\n'
            for i, (gene_id, gene) in enumerate(zip(ids, genes, strict=True), start=1)
        )

    def write_peaks(self, peaks, end="\n"):
        self.peaks.write_text("".join(f"{chrom}\t{start}\t{stop}{end}" for chrom, start, stop in peaks), newline="")

    def write_fragments(self, lines, **how):
        write_fragment_lines(self.fragments, lines, **how)

    def sample(self, name, **files):
        """A row of the sample sheet."""
        row = {"sample": name, "genome": "", "donor": name, "batch": "", "condition": "x"}
        row |= {"matrix": str(self.matrix), "fragments": str(self.fragments), "peaks": str(self.peaks)}
        return row | {"labels": str(self.labels), "barcode_metrics": str(self.metrics)} | files

    def verdict(self, **reference):
        names = ("annotation", "fasta", "network", "tfs", "blacklist")
        reference = {name: str(getattr(self, name)) for name in names} | reference
        how = {"results": self.folder, "ingest": self.ingest, "variants": self.variants, "goal": self.goal}
        return judge_inputs(self.samples, reference, self.tasks, ["A"], **how)

    def found(self, **reference):
        """Code -> finding."""
        return {finding["code"]: finding for finding in self.verdict(**reference)["findings"]}


def wrong(found):
    """Codes of errors and warnings."""
    return sorted(code for code, finding in found.items() if finding["level"] != "note")
