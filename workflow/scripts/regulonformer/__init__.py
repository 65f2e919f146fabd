"""Regulon-aware foundation models for 10x Multiome data.

Importing the package is cheap: heavy libraries are loaded by the modules that need them.
"""

import os
from importlib import import_module

# On a shared machine threads that spin while they wait stop each other: two training jobs on two cores then take not
# twice but ten times as long. Sleeping costs a lone job about a tenth. Has to be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"


def load(folder):
    """Load a pretrained model folder.

    Parameters
    ----------
    folder
        A folder as the rule `pretrain_model` writes it.

    Returns
    -------
    regulonformer.pretrained.Pretrained
        Its method `embed` takes a MuData, `cut_panel` the names of genes.
    """
    # Looked up by name so that a script importing the package does not depend on the model's code.
    return import_module("regulonformer.pretrained").load_model(folder)
