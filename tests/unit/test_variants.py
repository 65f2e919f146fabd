"""Variants: read and checked, applied to the right bases, and found where they matter."""

import gzip
import json

import numpy as np
import pandas as pd
import pysam
import pytest
import torch
from scipy import sparse

from regulonformer.corpus.encoding import encode
from regulonformer.errors import InputError
from regulonformer.evaluate.variant_truth import auroc, match_strength, matched_hits, of_known_genes, top_hits
from regulonformer.explain.edits import Edit, edited, random_edit, scrambled
from regulonformer.explain.variant_files import read_edits
from regulonformer.explain.variant_tables import (
    BESIDE,
    SILENT,
    TESTED,
    UNTESTED,
    VariantScorer,
    VariantSettings,
    empirical_p,
    finish,
    responders,
)
from regulonformer.explain.variants import CellReadout, SequenceEditor
from regulonformer.model.batch import RegulonEdges
from regulonformer.model.config import ModelConfig
from regulonformer.model.encoder import Regulonformer
from regulonformer.objectives.dynamic import make_dynamic
from regulonformer.prior.motifs import Motif
from regulonformer.sequence.encoders import load_encoder
from regulonformer.sequence.features import Genome, SequenceFeatures
from regulonformer.sequence.windows import gene_windows
from score_variants import count_status, null_of_loss, read_editor

N_GENES, WINDOW, SITE = 40, 64, "TGACGTCA"


class CountingEncoder:
    """An encoder that one can check by hand: occurrences of the site, and the share of G and C."""

    window, width = WINDOW, 2

    def encode(self, sequences):
        rows = [[s.count(SITE.encode()), (s.count(b"G") + s.count(b"C")) / WINDOW] for s in sequences]
        return np.array(rows, np.float32).reshape(-1, 2)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A genome of forty genes, one TSS each; every second one has the site 10 bp into its window."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("genome") / "g.fa"
    bases = bytearray(rng.choice(np.frombuffer(b"ACGT", np.uint8), 200 * N_GENES + 400).tobytes())
    starts = 200 * np.arange(N_GENES) + 200
    for start in starts[::2]:
        at = start - WINDOW // 2 + 10
        bases[at : at + 8] = SITE.encode()
    path.write_text(f">chr1\n{bases.decode()}\n")
    pysam.faidx(str(path))
    genome, symbols = Genome(path), np.array([f"G{n}" for n in range(N_GENES)])
    tss = pd.DataFrame({"chrom": "chr1", "tss": starts, "symbol": symbols})
    none = pd.DataFrame({"chrom": [], "start": [], "end": [], "symbol": []}).astype({"start": int, "end": int})
    windows, pairs = gene_windows(none, tss, WINDOW)
    vectors = CountingEncoder().encode(genome.windows(windows))
    features = SequenceFeatures(windows.assign(has_bases=True), pairs, vectors)
    return genome, tss, symbols, SequenceEditor(CountingEncoder(), genome, features, symbols)


@pytest.fixture(scope="module")
def scorer(world):
    """Gene vectors that the site drives, in a model that has been given them."""
    _, _, symbols, editor = world
    torch.manual_seed(0)
    edges = RegulonEdges(torch.tensor([0, 0]), torch.tensor([0, 5]), torch.ones(2), torch.tensor([0]))
    config = ModelConfig(width=8, heads=2, layers=["regulon", "explorer"], slots=4)
    model = Regulonformer(config, N_GENES, edges, torch.full((N_GENES, 2), -4.0), n_tfs=1)
    torch.nn.init.normal_(model.heads.from_cell.weight, std=0.3)
    drive = torch.tensor(editor.reference_NH[:, :1]) * torch.randn(8)
    model.embedding.gene_vectors.weight.data.copy_(0.3 * drive + 0.01 * torch.randn(N_GENES, 8))
    tensors = torch.tensor(editor.reference_NH), torch.tensor(editor.has_sequence_N)
    make_dynamic(model, *tensors, hidden=4, seed=0)
    rng = np.random.default_rng(1)
    counts = [sparse.csr_matrix(rng.poisson(1.5, (8, N_GENES))) for _ in range(2)]
    cells = encode(*counts, np.full((8, 2), 100.0))
    readout = CellReadout(model.eval(), cells, np.repeat([0, 1], 4))
    options = VariantSettings(random_edits=19, matched_genes=9)
    return VariantScorer(editor, readout, symbols, ["a", "b"], rng.random(N_GENES), options)


def site_of(world, gene: int) -> tuple[int, int]:
    start = world[1]["tss"][gene] - WINDOW // 2 + 10
    return int(start), int(start) + 8


def test_scrambled_site_moves_its_gene_more_than_random_scrambles_do(world, scorer):
    start, end = site_of(world, 4)
    rows = scorer.rows(Edit("lost", "motif_scramble", "chr1", start, end, None))
    assert set(rows["gene"]) == {"G4"} and rows["group"].tolist() == ["a", "b", "all"]
    assert (rows["p_element"] <= 0.3).all() and (rows["context_change"] > 0).all()
    beside = scorer.rows(Edit("beside", "motif_scramble", "chr1", start + 20, end + 20, None))
    assert beside["context_change"].max() < rows["context_change"].min() / 3
    assert (rows["p"] == rows[["p_element", "p_matched"]].max(axis=1)).all()


def test_variant_off_every_window_is_reported_as_untested(scorer):
    rows = scorer.rows(Edit("far", "snv", "chr1", 100, 101, b"A"))
    table = finish([rows, scorer.rows(Edit("near", "deletion", "chr1", 195, 199, b""))])
    assert table["status"].tolist()[0] == UNTESTED and table["fdr"][1:].notna().all()
    assert pd.isna(table["p"][0]) and pd.isna(table["gene"][0])


def test_edit_of_most_of_a_window_is_compared_with_matched_genes_alone(world, scorer):
    window = world[3].features.windows.loc[8]
    for edit in (
        Edit("gene", "tss_ablation", "chr1", 1000, 1001, None, "G4"),
        Edit("element", "cre_ablation", "chr1", window.start - 500, window.end + 50, b"N" * 614),
        Edit("most", "deletion", "chr1", window.start + 10, window.end - 10, b""),
    ):
        rows = scorer.rows(edit)
        assert (rows["status"] == TESTED).all() and rows["p_element"].isna().all()
        assert rows["p"].notna().all() and (rows["p"] == rows["p_matched"]).all()


def test_null_of_an_ablated_gene_takes_as_many_whole_windows(world, scorer, monkeypatch):
    editor, drawn = world[3], []
    real = editor.tokens_after
    monkeypatch.setattr(editor, "tokens_after", lambda sets, rng: drawn.extend(sets) or real(sets, rng))
    scorer.rows(Edit("gene", "tss_ablation", "chr1", 1000, 1001, None, "G4"))
    assert len(drawn) == 1 + 9
    bounds = editor.features.windows
    for edits in drawn:
        ((row, edit),) = edits.items()
        assert (edit.start, edit.end, edit.alt) == (bounds["start"][row], bounds["end"][row], b"N" * WINDOW)


def test_edit_over_two_windows_is_compared_with_random_edits_of_both(world, scorer, monkeypatch):
    editor, drawn = world[3], []
    real = editor.tokens_after
    monkeypatch.setattr(editor, "tokens_after", lambda sets, rng: drawn.append(sets) or real(sets, rng))
    first, second = editor.features.windows.loc[4], editor.features.windows.loc[5]
    scorer.rows(Edit("both", "cre_ablation", "chr1", first.end - 20, second.start + 5, b"N" * 161))
    (_, random, *matched) = drawn
    assert len(random) == 19 and all(
        {row: len(edit.alt) for row, edit in edits.items()} == {4: 20, 5: 5} for edits in random
    )
    sizes = [{len(edit.alt) for edits in sets for edit in edits.values()} for sets in matched]
    assert sizes == [{20}, {5}]


def test_gene_that_no_cell_shows_is_silent_and_not_tested(world, scorer):
    readout = scorer.readout
    shown = torch.tensor(~np.isin(readout.cells.genes_BT.numpy(), [6]))
    cells = readout.cells._replace(pad_BT=readout.cells.pad_BT | ~shown)
    quiet = VariantScorer(
        scorer.editor, CellReadout(readout.model, cells, np.repeat([0, 1], 4)), scorer.symbols, ["a", "b"],
        scorer.expression_N, scorer.options,
    )  # fmt: skip
    start, end = site_of(world, 6)
    rows = quiet.rows(Edit("unseen", "deletion", "chr1", start, end, b""))
    assert (rows["status"] == SILENT).all() and rows["p"].isna().all()
    found = finish([rows, quiet.rows(Edit("far", "snv", "chr1", 100, 101, b"A")), quiet.rows(edit_near(world))])
    counts = count_status(pd.concat([found, pd.DataFrame([{"variant": "sv", "status": "no bases"}])]))
    assert counts == {
        "variants": 4, "tested": 1, "silent": 1, "beside_the_window": 0, "off_every_window": 1, "no_edit": 1,
    }  # fmt: skip


def edit_near(world) -> Edit:
    return Edit("near", "deletion", "chr1", *site_of(world, 4), b"")


def test_variant_in_an_element_beside_its_window_has_a_status_of_its_own(scorer, monkeypatch):
    monkeypatch.setattr(scorer, "elements", pd.DataFrame({"chrom": ["chr1"], "start": [90], "end": [320]}))
    assert scorer.rows(Edit("inside", "snv", "chr1", 100, 101, b"A"))["status"].tolist() == [BESIDE]
    assert scorer.rows(Edit("far", "snv", "chr1", 80, 81, b"A"))["status"].tolist() == [UNTESTED]


def test_wide_peak_replaces_a_tss_only_if_its_window_holds_it():
    peak = pd.DataFrame({"chrom": "chr1", "start": [1000], "end": [3000], "symbol": ["A"]})
    tss = pd.DataFrame({"chrom": "chr1", "tss": [1100, 2010], "symbol": ["A", "A"]})
    windows, pairs = gene_windows(peak, tss, WINDOW)
    assert windows["start"].tolist() == [1100 - 32, 2000 - 32] and set(pairs["kind"]) == {"tss"}
    windows, pairs = gene_windows(peak, tss[:1], WINDOW)
    assert pairs["kind"].tolist() == ["tss", "element"]


def test_model_of_hugging_face_reads_as_many_bases_as_its_windows_have(world, tmp_path):
    genome, _, symbols, editor = world
    model, sequence = tmp_path / "model", tmp_path / "sequence"
    model.mkdir()
    sequence.mkdir()
    make_tiny_bert(model)
    encoder = load_encoder(model, WINDOW)
    vectors = encoder.encode(genome.windows(editor.features.windows))
    SequenceFeatures(editor.features.windows, editor.features.pairs, vectors).save(sequence)
    read = read_editor(model, sequence, genome, symbols)
    assert read.encoder.window == WINDOW
    (new,) = read.tokens_after([read.parts_of(edit_near(world))], np.random.default_rng(0))
    assert new.genes_K.tolist() == [4] and not np.allclose(new.features_KH, read.reference_NH[[4]])


def make_tiny_bert(folder) -> None:
    """A BERT of single bases with its tokeniser."""
    from transformers import BertConfig, BertModel

    (folder / "vocab.txt").write_text(
        "\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"ACGTN", *(f"##{base}" for base in "ACGTN")])
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    )
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=15, **sizes)).save_pretrained(folder)


def test_null_of_a_lost_tf_is_other_tfs_with_motifs(scorer, caplog):
    def motifs(n):
        return [Motif(f"M{gene}", f"G{gene}", np.ones((4, 6)), (f"G{gene}",)) for gene in range(n)]

    tokens, kind = null_of_loss("G3", scorer, motifs(10))
    assert kind == "genes without motifs" and len(tokens) == 9 and (tokens >= 10).all()
    assert "G3: 9 other TFs" in caplog.text
    more = VariantScorer(
        scorer.editor, scorer.readout, scorer.symbols, ["a", "b"], scorer.expression_N, VariantSettings()
    )
    tokens, kind = null_of_loss("G3", more, motifs(12))
    assert kind == "TFs with motifs" and tokens.tolist() == [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
    tokens, kind = null_of_loss("G30", more, motifs(12))
    assert kind == "genes without motifs" and (tokens >= 12).all() and 30 not in tokens


def test_ablated_tss_changes_every_window_of_the_gene_and_those_that_it_binds(world):
    editor = world[3]
    alone = editor.loss_of_tf("G3", pd.DataFrame({"window": [], "start": [], "end": []}).astype(int))
    assert alone.genes_K.tolist() == [3] and alone.features_KH[0].tolist() == [0.0, 0.0]
    row = int(editor.windows_of_gene(6)[0])
    bound = editor.loss_of_tf("G3", pd.DataFrame({"window": [row], "start": [10], "end": [18]}))
    assert bound.genes_K.tolist() == [3, 6]
    assert bound.features_KH[1, 0] == editor.reference_NH[6, 0] - 1


def test_reading_other_vectors_leaves_the_model_as_it_was(scorer):
    readout, before = scorer.readout, scorer.readout.vectors_ND
    none = readout.of_vectors(torch.tensor([2]), before[[2]])
    assert np.nanmax(none.context_NG) == 0 and np.nanmax(np.abs(none.expression_NG)) == 0
    moved = readout.of_vectors(torch.tensor([2]), before[[2]] + 1.0)
    context = np.nan_to_num(moved.context_NG).sum(axis=1)
    assert context.argmax() == 2 and np.count_nonzero(context) > 5
    torch.testing.assert_close(readout.model.embedding.gene_vectors.weight, before)


def test_level_of_an_edited_gene_shifts_its_predicted_rate(scorer):
    readout = scorer.readout
    change = readout.of_vectors(torch.tensor([2]), readout.vectors_ND[[2]], torch.tensor([[0.5, -0.5]]))
    np.testing.assert_allclose(change.expression_NG[2], 0.5, atol=1e-5)
    np.testing.assert_allclose(change.accessibility_NG[2], -0.5, atol=1e-5)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit("", "snv", "chr1", 203, 204, b"N"), lambda s: s[:3] + b"N" + s[4:20]),
        (Edit("", "indel", "chr1", 203, 203, b"NN"), lambda s: s[:3] + b"NN" + s[3:18]),
        (Edit("", "deletion", "chr1", 203, 206, b""), lambda s: s[:3] + s[6:23]),
        (Edit("", "cre_ablation", "chr1", 190, 400, b"N" * 210), lambda s: b"N" * 20),
        (Edit("", "deletion", "chr1", 195, 205, b""), lambda s: s[5:25]),
        (Edit("", "deletion", "chr1", 215, 230, b""), lambda s: s[:15] + s[30:35]),
    ],
)
def test_bases_of_a_window_after_an_edit(world, edit, expected):
    genome, window = world[0], pd.Series({"start": 200, "end": 220})
    reference = genome.fetch("chr1", 200, 300)
    assert edited(genome, window, edit, np.random.default_rng(0)) == expected(reference)


def test_scrambles_and_random_edits_keep_kind_and_size(world):
    rng = np.random.default_rng(0)
    bases = b"TGACGTCATT"
    assert sorted(scrambled(bases, rng)) == sorted(bases) and scrambled(bases, rng) != bases
    assert scrambled(b"AAAA", rng) == b"AAAA"
    reference = world[0].fetch("chr1", 200, 264)
    for _ in range(50):
        snv = random_edit(Edit("x", "snv", "chr1", 5, 6, b"A"), reference, 200, 264, rng)
        assert 200 <= snv.start < snv.end <= 264 and snv.alt != reference[snv.start - 200 : snv.end - 200]
        lost = random_edit(Edit("x", "cre_ablation", "chr1", 0, 500, b"N" * 500), reference, 200, 264, rng)
        assert (lost.start, lost.end, len(lost.alt)) == (200, 264, 64)


def write_vcf(path, *rows):
    text = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n" + "".join("\t".join(row) + "\n" for row in rows)
    with gzip.open(path, "wt") as handle:
        handle.write(text)
    return path


def test_vcf_gives_one_edit_per_allele_without_the_shared_base(world, tmp_path):
    genome, tss, *_ = world
    three = genome.fetch("chr1", 300, 303).decode()
    other = "A" if three[0] != "A" else "C"
    rows = [("chr1", "301", "rs1", three[0], f"{other},<DEL>"), ("chr1", "301", ".", three, three[0])]
    rows.append(("chr1", "301", "ins", three[0], f"{three[0]}TT"))
    edits, unread = read_edits(write_vcf(tmp_path / "v.vcf.gz", *rows), genome, tss)
    assert [(e.kind, e.start, e.end, e.alt) for e in edits] == [
        ("snv", 300, 301, other.encode()),
        ("deletion", 301, 303, b""),
        ("indel", 301, 301, b"TT"),
    ]
    assert len(unread) == 1 and "<DEL>" in unread[0][1]


def test_alleles_that_are_the_same_change_nothing_and_names_are_given_once(world, tmp_path, caplog):
    genome, tss, *_ = world
    base = genome.fetch("chr1", 300, 301).decode()
    others = [other for other in "ACGT" if other != base]
    rows = [("chr1", "301", "rs1", base, base), ("chr1", "301", "rs2", base, others[0])]
    edits, unread = read_edits(write_vcf(tmp_path / "v.vcf.gz", *rows, rows[1], rows[1]), genome, tss)
    name = f"rs2_{base}>{others[0]}"
    assert [edit.name for edit in edits] == [name, f"{name}_2", f"{name}_3"]
    assert unread == [(f"rs1_{base}>{base}", f"both alleles are {base}")]
    assert f"{name} is given again" in caplog.text


def test_reference_allele_that_differs_from_the_genome_is_an_error(world, tmp_path):
    genome, tss, *_ = world
    true = genome.fetch("chr1", 300, 301).decode()
    wrong = "A" if true != "A" else "C"
    path = write_vcf(tmp_path / "v.vcf.gz", ("chr1", "301", "rs1", wrong, "T"))
    with pytest.raises(InputError) as error:
        read_edits(path, genome, tss)
    text = str(error.value)
    assert f"{path} line 3" in text and f"allele {wrong} at chr1:301" in text and f"has {true}" in text
    assert "genome build" in text


def test_bed_and_tsv(world, tmp_path):
    genome, tss, *_ = world
    bed, tsv = tmp_path / "v.bed", tmp_path / "v.tsv"
    bed.write_text("chr1\t10\t20\nchr1\t30\t50\tcre_ablation\tmine\n")
    edits, _ = read_edits(bed, genome, tss)
    assert [(e.kind, e.name) for e in edits] == [("deletion", "chr1:11-20_deletion"), ("cre_ablation", "mine")]
    tsv.write_text("kind\tgene\ntss_ablation\tG7\n")
    assert read_edits(tsv, genome, tss)[0][0].gene == "G7"


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("v.tsv", "kind\tgene\ntss_ablation\tNOBODY\n", "NOBODY has no TSS"),
        ("v.tsv", "what\twhere\na\tb\n", "header is what, where"),
        ("v.bed", "chr1\t10\t20\tmutation\n", "unknown kind 'mutation'"),
        ("v.bed", "chr7\t10\t20\n", "chromosome chr7 is not in"),
        ("v.bed", "chr1\t10\t999999999\n", "no interval"),
        ("v.bed", "chr1\t10\t10\n", "a deletion of no bases"),
        ("v.tsv", "kind\tchrom\tstart\tend\tref\talt\nsnv\tchr1\t10\t12\t\tA\n", "an snv of 2 bp"),
        ("v.tsv", "kind\tchrom\tstart\tend\tref\talt\nsnv\tchr1\t10\t11\t\tA\n", "alleles none and A"),
        ("v.tsv", "kind\tchrom\tstart\tend\tref\talt\nindel\tchr1\t10\t10\t\t\n", "without alleles"),
        ("v.bed", "chr1\tten\t20\n", "'ten' is no position"),
        ("v.bed", "", "holds no edit"),
        ("v.xlsx", "", "unknown format"),
    ],
)
def test_bad_files_name_the_fault(world, tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=problem):
        read_edits(tmp_path / name, world[0], world[1])


def test_empirical_p_counts_the_value_itself():
    null = np.array([[0.1, np.nan], [0.5, np.nan], [0.9, np.nan]])
    p = empirical_p(np.array([0.6, 0.6]), null)
    assert p[0] == 0.5 and np.isnan(p[1])


def test_responders_leave_out_the_ablated_gene_and_genes_that_no_cell_shows():
    change = np.array([9.0, np.nan, 3.0, 5.0])
    table = responders("A", change, change, np.tile([1.0, 1.0, 4.0, 1.0], (9, 1)), ["A", "B", "C", "D"], 2)
    assert table["gene"].tolist() == ["D", "C"] and table["p"].tolist() == [0.1, 1.0]


def test_judge_finds_targets_and_not_their_match():
    rng = np.random.default_rng(0)
    change, targets = np.arange(100.0), np.arange(90, 99)
    assert top_hits(change, targets, own=99, top=9) == 9
    assert matched_hits(change, targets, 99, rng.random(100), 9, rng) < 2
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 2.0])) == 0.875
    true, others = (pd.DataFrame({"strength": values}) for values in ([4.0, 8.0, 6.0], [4.1, 6.2, 6.25]))
    one, other = match_strength(true, others, 10, rng)
    assert len(one) == 2 and (one["strength"] - other["strength"]).abs().max() < 0.3


def test_truth_of_genes_that_the_model_lacks_is_left_out_and_counted(caplog):
    caplog.set_level("INFO")
    instances = pd.DataFrame({"name": ["T", "T", "U"], "gene": ["A", "NOT_HERE", "B"]}, index=[3, 4, 5])
    assert of_known_genes(instances, np.array(["A", "B"])).to_dict("list") == {"name": ["T", "U"], "gene": ["A", "B"]}
    assert "1 of 3 instances are of genes that the model lacks" in caplog.text
