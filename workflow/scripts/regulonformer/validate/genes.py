"""Whether matrix, annotation, network and list of TFs speak of the same genes, by names of the same kind."""

import re
from collections import Counter
from collections.abc import Collection

from regulonformer.gene_names import ALIAS, CASE, ID, SYMBOL, GeneNames
from regulonformer.io.gene_lists import read_tf_list
from regulonformer.prior.network import read_network
from regulonformer.validate.annotation import AnnotationHead
from regulonformer.validate.findings import Findings, some

ENSEMBL = re.compile(r"ENS[A-Z]*\d{11}(\.\d+)?")
# Below this share of names found, files are probably of different species, releases or kinds of name.
FEW = 0.5


def are_ids(names: Collection[str]) -> bool:
    """Whether most names are Ensembl ids."""
    return 2 * sum(ENSEMBL.fullmatch(name) is not None for name in names) > len(names) > 0


def versioned(names: Collection[str]) -> list[str]:
    """Ensembl ids with a version, as in ENSG00000141510.18."""
    return [name for name in names if (match := ENSEMBL.fullmatch(name)) and match[1]]


def judge_gene_names(path, gene_ids: list[str], symbols: list[str], findings: Findings) -> None:
    """Whether a matrix has symbols, and each gene once."""
    if are_ids(symbols):
        fix = "Give a matrix whose features have symbols, or a network and TFs by Ensembl id"
        findings.warning("genes.no_symbols", path, f"genes are named by id ({symbols[0]!r}), not by symbol", fix)
    if repeated := _repeated(gene_ids):
        message = f"{len(repeated):,} gene ids occur more than once: {some(repeated)}"
        findings.error("genes.duplicated_ids", path, message, "Keep one row per gene in the matrix")
    if repeated := _repeated(symbols):
        message = f"{len(repeated):,} gene symbols occur more than once: {some(repeated)}"
        findings.note("genes.duplicated_symbols", path, message, "All but the first of each get a suffix")
    if ids := versioned(gene_ids):
        message = f"{len(ids):,} of {len(gene_ids):,} gene ids carry a version ({ids[0]!r})"
        findings.note("genes.versioned_ids", path, message, "They are compared without it")


def _repeated(names: list[str]) -> list[str]:
    return sorted(name for name, n in Counter(names).items() if n > 1 and name)


def judge_annotation_genes(where, genes: GeneNames, path, head: AnnotationHead, findings: Findings) -> None:
    """Whether the genes of the matrices are those of the annotation, by id, symbol or alias.

    The share is that of the annotation's genes, of which the start of the file is a sample; or that of the matrix,
    which may hold a part of the genome's genes.
    """
    if not head.genes:
        return
    by_id, by_symbol = (genes.find(list(names))["row"] for names in (head.genes, head.genes.values()))
    hits = sum(by_id[gene_id] >= 0 or by_symbol[symbol] >= 0 for gene_id, symbol in head.genes.items())
    rows = {*by_id, *by_symbol} - {-1}
    part = "" if head.complete else " (of its first ones)"
    share = max(hits / len(head.genes), len(rows) / len(genes.symbols) if head.complete else 0)
    message = (
        f"{hits:,} of {len(head.genes):,} genes of {path}{part} are in the matrix, which has {len(genes.symbols):,}"
    )
    if hits == 0:
        names = f"matrix: {some(genes.symbols, 2)}; annotation: {some(head.genes, 2)}"
        fix = "Give the annotation of this species, with the kind of names (symbols or Ensembl ids) that the matrix has"
        say = findings.error if head.complete else findings.warning
        say("genes.not_in_annotation", where, f"no gene is found in {path}{part} ({names})", fix)
    elif share < FEW:
        fix = "Give the annotation that the reads were counted with; genes without a place get no accessibility"
        findings.warning("genes.few_in_annotation", where, message, fix)
    else:
        findings.note("genes.in_annotation", where, message, "Nothing to do")


def judge_network(path, genes: GeneNames, confidence: list[str], findings: Findings) -> None:
    """Whether a network names the genes of the matrices."""
    edges = None
    with findings.reading("network.unreadable", path, "Give the network as it was published"):
        edges, _ = read_network(path, confidence)
    if edges is not None:
        _judge_names("network", path, "targets", sorted(set(edges["target"])), genes, findings)


def judge_tfs(path, genes: GeneNames, findings: Findings) -> None:
    """Whether a list of TFs names genes of the matrices."""
    names = None
    with findings.reading("tfs.unreadable", path, "Give a text file of TF symbols, one per line"):
        names = sorted(set(read_tf_list(path)))
    if names is not None and not names:
        findings.error("tfs.empty", path, "the list has no TF", "Write TF symbols, one per line")
    elif names:
        _judge_names("tfs", path, "TFs", names, genes, findings)


def _judge_names(code: str, path, what: str, names: list[str], genes: GeneNames, findings: Findings) -> None:
    """Say what share of names are genes of the matrices, and why not more."""
    how = genes.find(names)["how"]
    found = int(how.isin([ID, SYMBOL, ALIAS, CASE]).sum())
    if found == 0:
        examples = f"{code}: {', '.join(names[:3])}; matrix: {', '.join(genes.symbols[:3])}"
        kinds = ["Ensembl ids" if are_ids(some_names) else "symbols" for some_names in (names, genes.symbols)]
        fix = f"Give one of this species, with gene {kinds[1]}"
        if kinds[0] != kinds[1]:
            message = f"the {what} are {kinds[0]} where the matrix has {kinds[1]} ({examples})"
            findings.error(f"{code}.other_names", path, message, fix)
        else:
            findings.error(f"{code}.no_gene", path, f"no gene in common with the matrix ({examples})", fix)
        return
    message = f"{found:,} of {len(names):,} {what} are genes of the matrix ({found / len(names):.0%})"
    if (how == CASE).sum() > FEW * found:
        example = how.index[how == CASE][0]
        message += f", most of them only without regard to case ({example!r})"
        findings.warning(f"{code}.other_species", path, message, "Give the file of the species of the matrix")
    elif found < min(FEW * len(names), 0.1 * len(genes.symbols)):
        findings.warning(f"{code}.few_genes", path, message, "Check that species and names are those of the matrix")
    else:
        findings.note(f"{code}.genes", path, message, "Nothing to do")
