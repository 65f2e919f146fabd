"""Files named by URL are fetched by the workflow itself, before the steps that read them."""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml

MATRIX = b"a matrix" * 1000
GENOME = b">chr1\n" + b"ACGT" * 15 + b"\n"


class Quiet(SimpleHTTPRequestHandler):
    """Files of a folder, without a line on stderr per request."""

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def served(tmp_path):
    """A folder with the files of a library and of a genome, and the URL at which they are served."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "matrix.h5").write_bytes(MATRIX)
    (folder / "peaks.bed").write_text("chr1\t1\t60\n")
    (folder / "genes.bed").write_text("chr1\t10\t50\tG1\t+\n")
    (folder / "genome.fa").write_bytes(GENOME)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def run(project, served, tmp_path, monkeypatch):
    """Run Snakemake on a library of which no file is here yet; returns the finished process."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url = served[1]
    (tmp_path / "samples.tsv").write_text("sample\touts\na\tdata/outs\n")
    settings = {
        "run": "fetched",
        "samples": str(tmp_path / "samples.tsv"),
        "goal": "embedding",
        "reference": {"annotation": "data/genes.bed", "fasta": "data/genome.fa"},
        "downloads": {
            "data/outs/filtered_feature_bc_matrix.h5": {"url": f"{url}/matrix.h5"},
            "data/outs/atac_peaks.bed": {"url": f"{url}/peaks.bed"},
            "data/genes.bed": {"url": f"{url}/genes.bed"},
            "data/genome.fa": {"url": f"{url}/genome.fa"},
        },
    }

    def run(*arguments, check=True, change=lambda downloads: None):
        change(settings["downloads"])
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump(settings))
        return project.snakemake("--configfile", config, "--directory", tmp_path, *arguments, check=check)

    return run


def test_public_example_plans_its_downloads(project):
    plan = project.planned("--configfile", "config/examples/pbmc_granulocyte_3k.yaml")
    assert (plan["download_file"], plan["index_fasta"], plan["embed_cells"]) == (7, 1, 1)


def test_files_are_fetched_and_the_genome_is_indexed(run, tmp_path):
    run("data/outs/filtered_feature_bc_matrix.h5", "data/genome.fa.fai")
    assert (tmp_path / "data/outs/filtered_feature_bc_matrix.h5").read_bytes() == MATRIX
    assert (tmp_path / "data/genome.fa.fai").read_text().split("\t")[:2] == ["chr1", "60"]
    log = tmp_path / "results/fetched/logs/download_file/data/outs/filtered_feature_bc_matrix.h5.log"
    assert hashlib.sha256(MATRIX).hexdigest() in log.read_text()


def test_inputs_are_judged_after_they_have_come(run, tmp_path):
    done = run("results/fetched/validate/inputs.json", check=False)
    assert done.returncode != 0
    # The served matrix is no matrix: only a file that has come can be told so.
    assert "data/outs/filtered_feature_bc_matrix.h5" in done.stdout and "does not exist" not in done.stdout
    assert (tmp_path / "data/outs/atac_peaks.bed").exists()


def test_rerun_after_a_changed_url_and_not_after_none(run, served, tmp_path):
    file = "data/outs/atac_peaks.bed"
    run(file)
    assert "Nothing to be done" in run(file).stdout
    (served[0] / "newer.bed").write_text("chr1\t2\t50\n")
    run(file, change=lambda downloads: downloads[file].update(url=f"{served[1]}/newer.bed"))
    assert (tmp_path / file).read_text() == "chr1\t2\t50\n"


def test_pinned_later_it_is_checked_and_not_fetched_again(run, served, tmp_path):
    file = "data/outs/filtered_feature_bc_matrix.h5"
    run(file)
    (served[0] / "matrix.h5").unlink()
    digest = hashlib.sha256(MATRIX).hexdigest()
    run(file, change=lambda downloads: downloads[file].update(sha256=digest))
    assert (tmp_path / file).read_bytes() == MATRIX


def test_wrong_checksum_ends_the_run_in_one_line(run, tmp_path):
    file = "data/outs/filtered_feature_bc_matrix.h5"
    done = run(file, check=False, change=lambda downloads: downloads[file].update(md5="0" * 32))
    assert done.returncode != 0 and not (tmp_path / file).exists()
    assert any("matrix.h5" in line and "0" * 32 in line and "deleted" in line for line in done.stdout.splitlines())


def test_what_is_neither_here_nor_named_is_told(run):
    done = run("--dry-run", check=False, change=lambda downloads: downloads.pop("data/genes.bed"))
    assert done.returncode != 0 and "reference/annotation file data/genes.bed does not exist" in done.stdout
