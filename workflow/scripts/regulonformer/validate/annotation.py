"""Names and ends of genes from the start of an annotation; the rule `read_annotation` reads it to its end."""

import re
from dataclasses import dataclass, field

from regulonformer.io.annotation import read_genes
from regulonformer.validate.bgzf import read_head
from regulonformer.validate.findings import Findings, judge_line_ends

HEAD_BYTES = 64 << 20
# Of nine columns: chromosome, (source), a kind of gene, start, end, (score, strand, frame), attributes.
GENE = re.compile(rb"^([^#\t\n][^\t\n]*)\t[^\t\n]*\t\w*gene\t(\d+)\t(\d+)\t(?:[^\t\n]*\t){3}(.*)$", re.MULTILINE)
ID = re.compile(rb'(?:gene_id[ =]"?|ID=(?:gene:)?)([^";\r]+)')
SYMBOL = re.compile(rb'(?:gene_name[ =]"?|Name=)([^";\r]+)')


@dataclass
class AnnotationHead:
    """Genes at the start of an annotation.

    Attributes
    ----------
    genes
        Gene id as in the file (of a BED without version) -> symbol, the id where there is none.
    ends
        Chromosome -> largest end of a gene (bp).
    complete
        Whether these are all genes of the file.
    """

    genes: dict[str, str] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)
    complete: bool = True


def read_annotation_head(path, findings: Findings) -> AnnotationHead:
    """Judge an annotation by its first 64 MiB of text."""
    head = AnnotationHead()
    fix = "Give the GTF or GFF3 of the reference, whole and unchanged, or a BED of genes"
    with findings.reading("annotation.unreadable", path, fix):
        if str(path).lower().removesuffix(".gz").endswith((".gtf", ".gff", ".gff3")):
            _read_records(path, head, findings, fix)
        else:
            genes = read_genes(path)
            head.genes = dict(zip(genes["gene_id"], genes["symbol"], strict=True))
            head.ends = genes.groupby("chrom")["end"].max().astype(int).to_dict()
    return head


def _read_records(path, head: AnnotationHead, findings: Findings, fix: str) -> None:
    """Take in the gene records of a GTF or GFF3."""
    text, head.complete = read_head(path, HEAD_BYTES)
    empty = 0
    for match in GENE.finditer(text):
        chrom, start, end, attributes = match.groups()
        name, last = chrom.decode(), int(end)
        empty += last < int(start)
        head.ends[name] = max(last, head.ends.get(name, 0))
        symbol, gene_id = SYMBOL.search(attributes), ID.search(attributes)
        if named := gene_id or symbol:
            head.genes[named[1].decode()] = (symbol or named)[1].decode()
    if not head.ends:
        findings.error("annotation.no_genes", path, "no gene among the first records", fix)
    if empty:
        message = f"{empty:,} genes end before they start"
        findings.error("annotation.intervals", path, message, "Give start and end with start <= end")
    judge_line_ends("annotation.crlf", path, text, findings)
