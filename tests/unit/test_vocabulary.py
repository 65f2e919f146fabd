"""Gene space: which gene a name stands for, tables of aliases, and what is listed as unmapped."""

import gzip

import numpy as np
import pandas as pd
import pytest

from regulonformer.corpus.vocabulary import build_vocabulary, describe, unplaced
from regulonformer.errors import InputError
from regulonformer.gene_names import SEVERAL_ALIASES, SEVERAL_CASES, UNKNOWN, GeneNames
from regulonformer.io.gene_lists import read_aliases
from regulonformer.prior.network import fit_to_genes, read_network

ALIASES = pd.DataFrame(
    [
        ("MARCH1", "MARCHF1"),
        ("RNF171", "MARCHF1"),
        ("OCT4", "POU5F1"),
        ("OCT3", "POU5F1"),
        ("P40", "IL9"),
        ("P40", "TP63"),
        ("TP63", "IL9"),  # a symbol is its own gene's, whatever it once stood for
        ("SEP1", "SEPTIN1"),
    ],
    columns=["alias", "symbol"],
)
SYMBOLS = ["MARCHF1", "OCT4", "IL9", "TP63", "Gata1", "GATA1", "Pax6", "NA"]
IDS = [f"ENSG0000000000{number}" for number in range(len(SYMBOLS))]
NAMES = GeneNames(SYMBOLS, [f"{gene}.{version}" for version, gene in enumerate(IDS)], ALIASES)


@pytest.mark.parametrize(
    ("name", "gene", "how"),
    [
        ("ENSG00000000003", "TP63", "id"),
        ("ENSG00000000003.99", "TP63", "id"),
        ("GATA1", "GATA1", "symbol"),
        ("NA", "NA", "symbol"),
        ("TP63", "TP63", "symbol"),
        ("MARCH1", "MARCHF1", "alias"),  # old name, data has the new one
        ("POU5F1", "OCT4", "alias"),  # new name, data has an old one
        ("OCT3", "OCT4", "alias"),  # an old name, data has another old one
        ("PAX6", "Pax6", "case"),
        ("P40", "", SEVERAL_ALIASES),
        ("gata1", "", SEVERAL_CASES),
        ("SEPTIN1", "", UNKNOWN),
        ("ENSG00000000099", "", UNKNOWN),
        ("", "", UNKNOWN),
    ],
)
def test_a_name_is_an_id_then_a_symbol_then_an_alias_then_without_case(name, gene, how):
    found = NAMES.find([name]).loc[name]
    assert (("" if found["row"] < 0 else SYMBOLS[found["row"]]), found["how"]) == (gene, how)
    assert NAMES.spell([name])[name] == gene


def test_an_approved_symbol_that_was_not_measured_is_not_another_gene():
    # IL9 is measured, TP63 is not: the alias TP63 -> IL9 of a careless table must not turn one into the other.
    names = GeneNames(["IL9"], None, ALIASES)
    assert names.spell(["TP63", "P40"]).to_dict() == {"TP63": "", "P40": "IL9"}


def test_unmapped_names_carry_file_and_reason():
    lost = NAMES.unmapped(["P40", "Pax6", "nothing", "nothing"], "net.csv")
    assert lost.to_numpy().tolist() == [["P40", "net.csv", SEVERAL_ALIASES], ["nothing", "net.csv", UNKNOWN]]


HGNC = 'hgnc_id\tsymbol\talias_symbol\tprev_symbol\tensembl_gene_id\n1\tPOU5F1\t"OCT3|OCT4"\tOTF3\tENSG1\n2\tX\t\t\t\n'
GENE_INFO = "#tax_id\tGeneID\tSymbol\tLocusTag\tSynonyms\n9606\t1\tPOU5F1\t-\tOCT3|OCT4\n9606\t2\tX\t-\t-\n"


@pytest.mark.parametrize(
    ("name", "text", "aliases"),
    [
        ("a.tsv", "alias\tsymbol\nOCT4\tPOU5F1\nX\tX\n", ["OCT4"]),
        ("b.tsv", "OCT4\tPOU5F1\nNA\tPOU5F1\n", ["OCT4", "NA"]),
        ("hgnc_complete_set.txt", HGNC, ["OCT3", "OCT4", "OTF3", "ENSG1"]),
        ("gene_info.gz", GENE_INFO, ["OCT3", "OCT4"]),
    ],
)
def test_alias_tables(tmp_path, name, text, aliases):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    table = read_aliases(path)
    assert table["alias"].tolist() == aliases
    assert set(table["symbol"]) == {"POU5F1"}


@pytest.mark.parametrize("text", ["", "a\tb\tc\n1\t2\t3\n", "alias\tsymbol\nX\tX\n"])
def test_bad_alias_tables(tmp_path, text):
    (tmp_path / "a.tsv").write_text(text)
    with pytest.raises(InputError, match="a.tsv.*Give a TSV with columns alias and symbol"):
        read_aliases(tmp_path / "a.tsv")


def test_a_network_of_ids_and_old_names_fits_the_data():
    edges = pd.DataFrame(
        [("POU5F1", "MARCH1"), ("ENSG00000000005.2", "pax6"), ("OCT4", "MARCHF1"), ("Gone", "Pax6")],
        columns=["source", "target"],
    ).assign(weight=1.0, sign=1)
    fitted, counts = fit_to_genes(edges, NAMES, "net.csv", keep_unmeasured_tfs=True)
    assert fitted[["source", "target"]].to_numpy().tolist() == [
        ["GATA1", "Pax6"],
        ["Gone", "Pax6"],
        ["OCT4", "MARCHF1"],
    ]
    assert (counts["symbols_matched_by_alias"], counts["symbols_matched_without_case"]) == (1, 1)
    assert counts["network_duplicate_edges"] == 1


def test_vocabulary_has_tfs_first_stable_ids_and_lists_what_has_no_place():
    var = pd.DataFrame(
        {
            "gene_id": ["x", "y", "z"],
            "stable_id": ["ENSG1", "ENSG2", "z"],
            "match": ["id", "alias", UNKNOWN],
            "chrom": ["chr1", "chr2", ""],
            "tss": [5, 6, -1],
        },
        index=["A", "B", "C"],
    )
    tokens = build_vocabulary(var, {"B", "Unmeasured"})
    assert tokens[["symbol", "gene_id", "is_tf"]].to_numpy().tolist() == [
        ["B", "ENSG2", True],
        ["A", "ENSG1", False],
        ["C", "z", False],
    ]
    lost = pd.concat([unplaced(var), NAMES.unmapped(["Unmeasured"], "tfs.txt")])
    peaks = pd.DataFrame({"promoter_peaks": [1, 0, 2], "linked_peaks": [0, 0, 5]})
    counts = describe(tokens, var, peaks, lost)
    assert counts["unmapped"] == {"count matrices": {UNKNOWN: 1}, "tfs.txt": {UNKNOWN: 1}}
    assert counts["found_in_annotation_by"] == {"alias": 1, "id": 1, UNKNOWN: 1}
    assert (counts["genes_with_promoter_peak"], counts["linked_peaks"]) == (2, 5)


@pytest.mark.real_data
def test_real_tables_of_ids_map_a_real_network(real_data):
    """CollecTRI against GENCODE: nearly all names are known, and those that are not are listed one by one."""
    folder = real_data / "references"
    ids = pd.read_csv(folder / "tss/gencode_genes_homo_sapiens_ids.csv.gz", header=None, usecols=[0, 1], dtype=str)
    ids = ids.dropna().drop_duplicates(1)
    edges, _ = read_network(folder / "networks/collectri_human.csv", ["A"])
    named = pd.unique(pd.concat([edges["source"], edges["target"]]))
    names = GeneNames(ids[1], ids[0])
    found = names.find(named)
    assert (found["row"] >= 0).mean() > 0.97
    assert set(names.unmapped(named, "c")["name"]) == set(found.index[found["row"] < 0])
    # The same network written in Ensembl ids finds the same genes.
    known = found[found["row"] >= 0]
    again = names.find(ids[0].to_numpy()[known["row"]] + ".7")
    np.testing.assert_array_equal(again["row"], pd.unique(known["row"]))
