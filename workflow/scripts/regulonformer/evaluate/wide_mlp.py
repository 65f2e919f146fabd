"""A network with one wide hidden layer: what is left of deep learning without pretraining, graph or attention."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from regulonformer.balance import class_weights

HIDDEN = 512
DROPOUT = 0.3
LEARNING_RATE, WEIGHT_DECAY, BATCH_CELLS = 1e-3, 1e-2, 64
EPOCHS, PATIENCE = 30, 4
VALIDATION_SHARE, MIN_CELLS = 0.1, 200  # fewer cells train all epochs: there are none to spare to choose one


class WideMlp:
    """A classifier as scikit-learn's: GELU, dropout, AdamW, early stopping; classes weighted as in the model's loss.

    Parameters
    ----------
    seed
        Seed of weights, order, dropout and of the cells that choose the epoch.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, features: np.ndarray, codes: np.ndarray) -> "WideMlp":
        """Train on cells x features and the class index of each cell (every class has a cell)."""
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(len(codes))
        n_held = int(VALIDATION_SHARE * len(codes)) if len(codes) >= MIN_CELLS else 0
        held, learned = order[:n_held], order[n_held:]
        x, y = torch.as_tensor(features, dtype=torch.float32), torch.as_tensor(codes)
        counts = np.bincount(codes)
        weight_C = torch.as_tensor(class_weights(counts), dtype=torch.float32)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            self.network = nn.Sequential(
                nn.Linear(x.shape[1], HIDDEN), nn.GELU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, len(counts))
            )
            optimizer = torch.optim.AdamW(self.network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
            best, kept, waited = np.inf, None, 0
            for _ in range(EPOCHS):
                self._train_epoch(x, y, rng.permutation(learned), weight_C, optimizer)
                if not n_held:
                    continue
                with torch.inference_mode():
                    loss = F.cross_entropy(self.network.eval()(x[held]), y[held], weight_C).item()
                if loss < best:
                    best, waited = loss, 0
                    kept = {name: value.clone() for name, value in self.network.state_dict().items()}
                elif (waited := waited + 1) == PATIENCE:
                    break
            if kept:
                self.network.load_state_dict(kept)
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        """Class probabilities, cells x classes."""
        with torch.inference_mode():
            return self.network.eval()(torch.as_tensor(features, dtype=torch.float32)).softmax(1).numpy()

    def _train_epoch(self, x, y, order, weight_C, optimizer) -> None:
        self.network.train()
        for at in range(0, len(order), BATCH_CELLS):
            rows = torch.as_tensor(order[at : at + BATCH_CELLS])
            loss = F.cross_entropy(self.network(x[rows]), y[rows], weight_C)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
