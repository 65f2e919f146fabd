"""The edge table of a run is read and scored by gretapy as it is (in the environment of `make peers`)."""

import json
import subprocess

import pandas as pd
import pytest

from regulonformer.evaluate.grn import ranking_metrics
from regulonformer.evaluate.grn_methods import Edges

SCORE = """
import json, sys
import gretapy, pandas as pd
from gretapy.tl._prior import _grn
table, known = pd.read_parquet(sys.argv[1]), pd.read_csv(sys.argv[2], sep="\\t")
stats = gretapy.tl.stats(table).iloc[0]
precision, recall, f01 = _grn(table, known, sorted({*known.source, *known.target}), verbose=False)
print(json.dumps({"edges": int(stats.n_edges), "tfs": int(stats.n_sources), "scores": [precision, recall, f01]}))
"""


@pytest.mark.slow
def test_gretapy_scores_our_edges_as_we_do(small_run, peer, tmp_path):
    regulons = small_run.root / "results/small/regulons/regulons.parquet"
    truth = small_run.root / "results/small/simulate/truth/grn.tsv"
    assert list(pd.read_parquet(regulons).columns[:4]) == ["source", "target", "cre", "score"]
    done = subprocess.run(
        [peer, "-c", SCORE, regulons, truth], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    theirs = json.loads(done.stdout.splitlines()[-1])

    table, known = pd.read_parquet(regulons), pd.read_csv(truth, sep="\t").drop_duplicates(["source", "target"])
    assert (theirs["edges"], theirs["tfs"]) == (len(table), table["source"].nunique())
    genes = pd.Index(sorted({*known["source"], *known["target"], *table["source"], *table["target"]}))
    edges = Edges(genes, genes)
    judged = edges.matrix(known.assign(true=1.0), "true").ravel() > 0
    ours = ranking_metrics(judged, edges.matrix(table, "score").ravel())
    assert theirs["scores"] == pytest.approx([ours[name] for name in ("precision", "recall", "f0.1")])
