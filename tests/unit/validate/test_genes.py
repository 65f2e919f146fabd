"""Genes of matrices, annotation and network."""

import gzip

from sound_inputs import (
    GENES,
    IDS,
    write_matrix,
    wrong,
)


def test_versions_of_ids_do_not_matter(inputs):
    write_matrix(inputs.matrix, ids=[f"{name}.4" for name in IDS], genes=[f"OTHER{i}" for i in range(30)])
    found = inputs.found(network=None, tfs=None)
    assert wrong(found) == []
    assert (
        "30 of 30" in found["genes.versioned_ids"]["message"] and "30 of 30" in found["genes.in_annotation"]["message"]
    )


def test_annotation_of_another_species(inputs):
    inputs.annotation.write_text(
        inputs.records([f"ENSMUSG{i:011d}" for i in range(30)], [f"Mouse{i}" for i in range(30)])
    )
    assert inputs.found()["genes.not_in_annotation"]["level"] == "error"


def test_annotation_that_knows_few_genes(inputs):
    ids = IDS[:5] + [f"ENSG9{i:010d}" for i in range(25)]
    inputs.annotation.write_text(inputs.records(ids, GENES[:5] + [f"ELSE{i}" for i in range(25)]))
    assert "5 of 30" in inputs.found()["genes.few_in_annotation"]["message"]


def test_ids_where_the_matrix_has_symbols(inputs):
    write_matrix(inputs.matrix, ids=GENES)
    inputs.tfs.write_text("\n".join(IDS[:5]))
    inputs.network.write_text("source,target\n" + "".join(f"{i},{j}\n" for i, j in zip(IDS, IDS[1:], strict=False)))
    found = inputs.found()
    assert "are Ensembl ids where the matrix has symbols" in found["tfs.other_names"]["message"]
    assert found["network.other_names"]["level"] == "error"


def test_matrix_without_symbols(inputs):
    write_matrix(inputs.matrix, genes=IDS)
    assert inputs.found()["genes.no_symbols"]["level"] == "warning"


def test_network_and_tfs_of_nothing_known(inputs):
    inputs.network.write_text("source,target\nFoo,Bar\n")
    inputs.tfs.write_text("Foo\n")
    found = inputs.found()
    assert "GENE0" in found["network.no_gene"]["message"] and "tfs.no_gene" in found


def test_network_of_another_species_matches_by_case_alone(inputs):
    inputs.network.write_text("source,target\nGene1,Gene2\nGene3,Gene4\n")
    assert "without regard to case" in inputs.found()["network.other_species"]["message"]


def test_network_with_few_genes_and_empty_or_unreadable_lists(inputs):
    inputs.network.write_text("source,target\n" + "".join(f"A,X{i}\n" for i in range(99)) + "A,GENE1\n")
    inputs.tfs.write_text("\n")
    found = inputs.found()
    assert "1 of 100 targets" in found["network.few_genes"]["message"] and "tfs.empty" in found
    inputs.network.write_text("nothing\n")
    inputs.tfs.write_bytes(b"\xff\xfe\x00")
    assert {"network.unreadable", "tfs.unreadable"} <= inputs.found().keys()


def test_repeated_genes(inputs):
    write_matrix(inputs.matrix, genes=[*GENES[:29], "GENE0"])
    assert inputs.found()["genes.duplicated_symbols"]["level"] == "note"
    write_matrix(inputs.matrix, ids=[*IDS[:29], IDS[0]])
    assert IDS[0] in inputs.found()["genes.duplicated_ids"]["message"]


def test_annotation_without_genes_cut_off_or_with_windows_lines(inputs):
    inputs.annotation.write_text("chr1\tX\texon\t1\t9\t.\t+\t.\tgene_id 'A'\n")
    assert "annotation.no_genes" in inputs.found()
    inputs.annotation.write_text(inputs.records().replace("\n", "\r\n"), newline="")
    found = inputs.found()
    assert found["annotation.crlf"]["level"] == "warning" and "30 of 30" in found["genes.in_annotation"]["message"]
    inputs.annotation.write_text(inputs.records().replace("\t1800\t", "\t18\t"))
    assert "annotation.intervals" in inputs.found()
    packed = inputs.folder / "genes.gtf.gz"
    packed.write_bytes(gzip.compress(inputs.records().encode())[:-20])
    assert "annotation.unreadable" in inputs.found(annotation=str(packed))


def test_only_the_start_of_a_long_annotation_is_read(inputs, monkeypatch):
    """Genes of the first chromosome alone: no statement about chromosomes or genes that were not seen."""
    monkeypatch.setattr("regulonformer.validate.annotation.HEAD_BYTES", 200)
    inputs.annotation.write_text(inputs.records(chrom="chr9") + inputs.records())
    assert wrong(inputs.found()) == []
