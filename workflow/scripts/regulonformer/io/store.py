"""Read and write the workflow's own files: JSON, TSV, Parquet, h5mu and the record of a run."""

import hashlib
import json
import resource
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path

RECORDED_PACKAGES = ("torch", "numpy", "scipy", "pandas", "anndata", "scanpy", "muon", "peft", "scikit-learn")


def write_json(path, content) -> None:
    """Write `content` as indented JSON with sorted keys."""
    Path(path).write_text(json.dumps(content, indent=2, sort_keys=True, default=_plain) + "\n")


def read_json(path):
    """Read a JSON file."""
    return json.loads(Path(path).read_text())


def write_tsv(table, path) -> None:
    """Write a DataFrame without its index as TSV."""
    table.to_csv(path, sep="\t", index=False, lineterminator="\n")


def read_tsv(path):
    """Read a TSV as text; a gene called NA stays a gene."""
    import pandas as pd

    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def write_parquet(table, path) -> None:
    """Write a DataFrame, index included when it is named, as Parquet."""
    table.to_parquet(path, index=table.index.name is not None)


def read_parquet(path):
    """Read a Parquet file into a DataFrame."""
    import pandas as pd

    return pd.read_parquet(path)


def open_mudata(path):
    """Open an h5mu file and leave its matrices on disk, to be read by rows."""
    return read_mudata(path, backed="r")


def read_mudata(path, backed=None):
    """Read an h5mu file; columns stay where they were written."""
    import mudata

    with mudata.set_options(pull_on_update=False), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # A gene has the same name in every modality on purpose.
        warnings.filterwarnings("ignore", message="var_names are not unique")
        return mudata.read_h5mu(path, backed=backed)


def write_mudata(data, path) -> None:
    """Write a MuData as h5mu, compressed; gzip, because h5py's lzf gives other bytes each time."""
    import mudata

    with mudata.set_options(pull_on_update=False):
        data.write_h5mu(path, compression="gzip", compression_opts=1)


def file_hash(path, algorithm: str = "sha256") -> str:
    """Checksum of a file, as hex."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, algorithm).hexdigest()


def write_run_record(path, *, config: dict, seed: int, inputs, started: float, extra: dict | None = None) -> None:
    """Write `run.json`: what made a result, from what, with what, and at what cost.

    Parameters
    ----------
    path
        File to write.
    config
        Settings used, plain builtins.
    seed
        Seed of the run.
    inputs
        Files whose SHA-256 is recorded.
    started
        `time.time()` at the start of the work, in seconds.
    extra
        Further entries, merged at the top level.
    """
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    record = {
        "config": config,
        "seed": seed,
        "python": sys.version.split()[0],
        "packages": {name: metadata.version(name) for name in RECORDED_PACKAGES},
        "inputs": {str(file): file_hash(file) for file in inputs},
        "wall_seconds": round(time.time() - started, 1),
        "peak_memory_gb": round(peak_kb / 1e6, 3),
    }
    write_json(path, record | (extra or {}))


def _plain(value):
    """Turn numpy scalars and arrays into builtins for JSON."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
