"""Sequence as gene features: the network finds the motif that opens elements, and any DNA model can take its place."""

import json

import numpy as np
import pandas as pd
import pysam
import pytest
import torch

from regulonformer.errors import InputError
from regulonformer.prior.motifs import Motif
from regulonformer.sequence.encoders import EmbeddedEncoder, load_encoder
from regulonformer.sequence.features import Genome, SequenceFeatures
from regulonformer.sequence.fit import fit_network
from regulonformer.sequence.network import SequenceNet
from regulonformer.sequence.onehot import one_hot, reverse_complement
from regulonformer.sequence.training import (
    NetSettings,
    accessibility_scores,
    predict,
    pseudo_bulk,
    split_chromosomes,
    train_network,
)
from regulonformer.sequence.windows import gene_windows, overlapping

COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
SITE, OTHER = b"TGACGTCAGG", b"CCTTATTAGC"


def odds_of(site: bytes) -> torch.Tensor:
    return torch.where(one_hot([site], len(site))[0] > 0, 1.9, -4.0)


def random_bases(rng, n: int, length: int) -> np.ndarray:
    return rng.choice(np.frombuffer(b"ACGT", np.uint8), (n, length))


@pytest.fixture(scope="module")
def trained():
    """A network trained on elements that the first motif opens in the second of two groups; the other does nothing."""
    rng = np.random.default_rng(0)
    bases = random_bases(rng, 600, 128)
    has_site, has_other = rng.random(600) < 0.4, rng.random(600) < 0.4
    for rows, site in ((has_site, SITE), (has_other, OTHER)):
        for row in np.flatnonzero(rows):
            at = rng.integers(0, 118)
            forward = rng.random() < 0.5
            bases[row, at : at + 10] = np.frombuffer(site if forward else site.translate(COMPLEMENT)[::-1], np.uint8)
    # Where both lie in one place the second has overwritten the first.
    has_site = np.array([SITE in b or SITE.translate(COMPLEMENT)[::-1] in b for b in map(bytes, bases)])
    targets = np.column_stack([np.zeros(600), 1.5 * has_site]) + 0.2 * rng.standard_normal((600, 2))
    sequences = [row.tobytes() for row in bases]
    settings = NetSettings(filter_width=11, hidden=4, epochs=40, lasso=1e-2)
    onehot = one_hot(sequences, 128)
    net = train_network(onehot, torch.tensor(targets), np.arange(400), [odds_of(SITE), odds_of(OTHER)], settings)
    return net, sequences, targets, onehot


def test_network_predicts_unseen_elements_and_silences_the_idle_motif(trained):
    net, _, targets, onehot = trained
    scores = accessibility_scores(predict(net, onehot[400:]), targets[400:])
    assert scores["across_groups"] > 0.8
    used, idle = net.reach().tolist()
    assert used > 5 * idle


def test_both_strands_give_the_same_vector(trained):
    net, sequences, *_ = trained
    encoder = EmbeddedEncoder(net, 128, ["a", "b"])
    turned = [sequence.translate(COMPLEMENT)[::-1] for sequence in sequences[:20]]
    np.testing.assert_allclose(encoder.encode(turned), encoder.encode(sequences[:20]), atol=1e-5)
    assert torch.equal(reverse_complement(one_hot(sequences[:5], 128)), one_hot(turned[:5], 128))


def test_saved_encoder_is_the_same_and_lacks_no_weight(trained, tmp_path):
    net, sequences, *_ = trained
    encoder = EmbeddedEncoder(net, 128, ["a", "b"], {"held_out": ["chr3"]})
    encoder.save(tmp_path)
    again = load_encoder(tmp_path)
    np.testing.assert_array_equal(again.encode(sequences[:9]), encoder.encode(sequences[:9]))
    assert (again.width, again.window, again.about) == (4, 128, {"held_out": ["chr3"]})
    assert again.accessibility(again.encode(sequences[:9])).shape == (9, 2)


def test_same_seed_trains_the_same_bytes():
    rng = np.random.default_rng(1)
    onehot, targets = one_hot([row.tobytes() for row in random_bases(rng, 80, 64)], 64), torch.randn(80, 2)
    settings = NetSettings(filter_width=11, hidden=2, epochs=2)
    nets = [train_network(onehot, targets, np.arange(80), [odds_of(SITE)], settings) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))


def test_a_motif_longer_than_the_filter_keeps_what_says_most():
    net = SequenceNet(1, 5, 1)
    odds = torch.zeros(4, 9)
    odds[0, 4:] = 2.0
    net.start_from([odds])
    assert torch.equal(net.filters.weight[0, 0], torch.full((5,), 2.0))


def test_whole_chromosomes_are_held_out_and_blocks_where_there_are_too_few():
    chrom = np.repeat(["chr1", "chr2", "chr3", "chr4"], 25)
    held = split_chromosomes(chrom, np.tile(np.arange(25), 4), 0.25, 0)
    assert held.sum() == 25 and len(set(chrom[held])) == 1
    alone = split_chromosomes(np.repeat("chr1", 100), np.arange(100), 0.25, 0)
    assert 15 <= alone.sum() <= 35 and np.abs(np.diff(alone.astype(int))).sum() <= 12
    scaffolds = np.repeat(["chr1", "scaffold1", "scaffold2"], [1000, 3, 3])
    shares = [split_chromosomes(scaffolds, np.arange(1006), 0.2, seed).mean() for seed in range(6)]
    assert min(shares) > 0.1 and max(shares) < 0.3


def test_pseudo_bulk_corrects_depth():
    counts = np.array([[9, 9], [9, 9], [90, 90]])
    table = pseudo_bulk(counts, np.array([0, 0, 1]), 2)
    assert np.ptp(table) < 0.1
    assert pseudo_bulk(counts, np.array([0, 0, -1]), 1).shape == (2, 1)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    bases = random_bases(np.random.default_rng(2), 1, 2000)[0].tobytes().decode()
    path.write_text(f">chr1\n{bases}\n")
    pysam.faidx(str(path))
    return Genome(path)


def test_genome_beyond_its_ends_is_unknown(genome):
    assert genome.fetch("chr1", -3, 4)[:3] == b"NNN" and len(genome.fetch("chr1", -3, 4)) == 7
    assert genome.fetch("chr1", 1998, 2003).endswith(b"NNN")
    assert genome.fetch("chrX", 0, 4) == b"NNNN"
    with pytest.raises(InputError, match="no window has sequence"):
        genome.windows(pd.DataFrame({"chrom": ["1"], "start": [0], "end": [10]}))


def test_windows_of_genes_and_genes_without_sequence(trained, genome):
    elements = pd.DataFrame(
        {"chrom": "chr1", "start": [480, 900, 900], "end": [540, 980, 980], "symbol": ["A", "A", "B"]}
    )
    tss = pd.DataFrame({"chrom": ["chr1", "chr1", "chr9"], "tss": [500, 1500, 40], "symbol": ["A", "B", "C"]})
    windows, pairs = gene_windows(elements, tss, 128)
    # The promoter element of A stands for its TSS; the distal element is shared.
    assert pairs.groupby("symbol")["kind"].apply(sorted).to_dict() == {
        "A": ["element", "tss"],
        "B": ["element", "tss"],
        "C": ["tss"],
    }
    assert len(windows) == 4 and (windows["end"] - windows["start"] == 128).all()
    assert len(overlapping(windows, "chr1", 940, 941)) == 1
    sequences = genome.windows(windows)
    known = np.array([bool(sequence.strip(b"N")) for sequence in sequences])
    vectors = EmbeddedEncoder(trained[0], 128, ["a", "b"]).encode(sequences) * known[:, None]
    features, has = SequenceFeatures(windows.assign(has_bases=known), pairs, vectors).of_genes(["A", "B", "C", "D"])
    assert has.tolist() == [True, True, False, False]
    np.testing.assert_allclose(features[0], vectors[pairs.loc[pairs["symbol"] == "A", "window"]].sum(0), rtol=1e-5)
    assert not features[2:].any()


def test_fit_leaves_out_peaks_without_sequence_and_judges_held_out_ones(genome):
    from anndata import AnnData
    from mudata import MuData

    rng, starts = np.random.default_rng(4), np.arange(100, 1900, 40)
    peaks = pd.DataFrame({"chrom": "chr1", "start": starts, "end": starts + 40}, starts.astype(str))
    peaks.iloc[::9, 0] = "chr_unknown"
    names = [f"cell{n}" for n in range(60)]
    atac = AnnData(rng.poisson(1.0, (60, len(peaks))).astype(float), pd.DataFrame(index=names), peaks)
    atac.obsm["X_lsi"] = rng.standard_normal((60, 5))
    motif = Motif("M1", "A", rng.integers(1, 20, (4, 8)).astype(float))
    section = {"groups": 2, "window_bp": 64, "epochs": 1, "seed": 0, "holdout": 0.3}
    fit = fit_network(MuData({"atac": atac}), genome, [motif], section)
    known = np.flatnonzero(peaks["chrom"] == "chr1")
    assert sorted([*fit.train, *fit.judged]) == known.tolist() and len(fit.judged) == len(fit.predicted_XG) > 5
    encoder = fit.encoder({"note": "kept"})
    assert (encoder.window, encoder.groups, encoder.about) == (64, ["group0", "group1"], {"note": "kept"})
    read = encoder.encode([fit.sequences[row] for row in fit.judged])
    opened = encoder.accessibility(read) + fit.net.line.bias.detach().numpy()
    np.testing.assert_allclose(opened, fit.predicted_XG, atol=1e-5)


def make_hugging_face(folder, **changes):
    """A tiny BERT of 3-mers with its tokeniser."""
    from itertools import product

    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(base for base in "ACGTN")]
    words += ["".join(word) for word in product("ACGTN", repeat=3)]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys([*words, *(f"##{base}" for base in "ACGTN")])))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": False})
    )
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=200, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(config).save_pretrained(folder)
    content = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(content))


def test_any_model_of_hugging_face_reads_both_strands(tmp_path):
    make_hugging_face(tmp_path)
    encoder = load_encoder(tmp_path, 64)
    rng = np.random.default_rng(3)
    sequences = [row.tobytes() for row in random_bases(rng, 3, 64)] + [b"N" * 64]
    vectors = encoder.encode(sequences)
    assert vectors.shape == (4, encoder.width) == (4, 16) and not vectors[3].any()
    turned = encoder.encode([sequence.translate(COMPLEMENT)[::-1] for sequence in sequences])
    np.testing.assert_allclose(turned, vectors, atol=1e-5)


@pytest.mark.parametrize("content", ["{}", "no json", json.dumps({"model_type": "enformer-of-tomorrow"})])
def test_folder_of_unknown_kind_is_a_clear_error(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match="sequence/encoder") as error:
        load_encoder(tmp_path, 64)
    assert str(tmp_path) in str(error.value)


def test_no_code_from_a_folder_is_run(tmp_path):
    proof = tmp_path / "ran"
    (tmp_path / "modeling_own.py").write_text(f"open({str(proof)!r}, 'w').close()\n")
    auto = {"AutoConfig": "modeling_own.Config", "AutoModel": "modeling_own.Model"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", "auto_map": auto}))
    with pytest.raises(InputError, match="transformers"):
        load_encoder(tmp_path, 64)
    assert not proof.exists()


class Port(torch.nn.Module):
    """Stands for a large model of one-hot bases: bins of eight positions, five features."""

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv1d(4, 5, 8, stride=8)

    def forward(self, onehot_XL4):
        return self.conv(onehot_XL4.transpose(1, 2)).transpose(1, 2)


def test_an_exported_model_of_one_hot_bases_is_read_on_both_strands(tmp_path):
    torch.manual_seed(0)
    torch.export.save(torch.export.export(Port().eval(), (torch.zeros(1, 64, 4),)), tmp_path / "model.pt2")
    (tmp_path / "config.json").write_text('{"kind": "one-hot", "window": 64}')
    encoder = load_encoder(tmp_path)
    assert (encoder.window, encoder.width) == (64, 5)
    site = b"ACGTTGCA" * 8
    turned = site.translate(bytes.maketrans(b"ACGT", b"TGCA"))[::-1]
    vectors = encoder.encode([site, turned, b"N" * 64, b"A" * 64])
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-6)
    assert not vectors[2].any() and np.abs(vectors[0] - vectors[3]).max() > 1e-3
    (tmp_path / "config.json").write_text('{"kind": "one-hot", "window": 128}')
    with pytest.raises(InputError, match="model.pt2.*no exported model"):
        load_encoder(tmp_path)
