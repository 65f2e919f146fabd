"""A pretraining job that is killed goes on from its checkpoint, and ends with the same bytes."""

import os
import signal
import subprocess
import sys
import time

import psutil
import yaml

SMALL = "tests/config/small.yaml"
STEPS, EVERY = 400, 20


def pretraining_process(parent):
    """The process that runs the pretraining script, below Snakemake."""
    for process in psutil.Process(parent).children(recursive=True):
        if any(part.endswith("pretrain_model.py") for part in process.cmdline()):
            return process
    return None


def kill_after_first_checkpoint(project, command, folder):
    """Start the command, and kill -9 its pretraining job once a checkpoint is there; return the output."""
    run = subprocess.Popen(command, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline, killed = time.monotonic() + 180, False
    while run.poll() is None and time.monotonic() < deadline:
        process = pretraining_process(run.pid) if not killed and any(folder.rglob("*.pt")) else None
        if process:
            os.kill(process.pid, signal.SIGKILL)
            killed = True
        time.sleep(0.02)
    assert killed, run.communicate(timeout=60)[0][-3000:]
    return run.communicate(timeout=60)[0]


def contents(folder):
    """What a model folder holds, but for what the run cost."""
    files = {file.name: file.read_bytes() for file in folder.iterdir() if file.name not in ("run.json", "README.md")}
    rows = [line.split(b"\t")[:-2] for line in files["metrics.tsv"].splitlines()]
    return files | {"metrics.tsv": rows}


def test_killed_pretraining_ends_with_the_same_bytes(small_run, tmp_path):
    settings = yaml.safe_load((small_run.root / SMALL).read_text())
    settings["pretrain"].update(steps=STEPS, checkpoint_steps=EVERY)
    config = tmp_path / "longer.yaml"
    config.write_text(yaml.safe_dump(settings))
    target = "results/small/pretrain/regulon/model.safetensors"
    model, checkpoints = small_run.root / target, small_run.root / "results/small/checkpoints"

    small_run.snakemake(target, "--configfile", config)
    uninterrupted = contents(model.parent)
    assert not any(checkpoints.rglob("*.pt"))

    for file in model.parent.iterdir():
        file.unlink()
    command = [sys.executable, "-m", "snakemake", target, "--cores", "2", "--configfile", str(config)]
    kill_after_first_checkpoint(small_run, command, checkpoints)
    assert not model.exists()
    assert any(checkpoints.rglob("*.pt"))

    done = small_run.snakemake(target, "--configfile", config)
    assert "resuming at step" in done.stdout
    resumed = contents(model.parent)
    assert resumed == uninterrupted
    # Leave the checkout as the other tests expect it.
    small_run.snakemake("--configfile", SMALL)
