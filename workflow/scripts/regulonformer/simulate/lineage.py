"""The branching differentiation: cell states along pseudotime, and the activity of each TF in each cell.

States form a tree. A TF of a state is most active at its own place on the tree and fades with the distance along the
branches, so neighbouring states overlap and a branch is primed before it forks.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd


class State(NamedTuple):
    """One cell state: the state it comes from, the pseudotime it spans and its share of the cells."""

    name: str
    parent: str | None
    start: float
    end: float
    share: float


STATES = (
    State("stem", None, 0.00, 0.20, 0.15),
    State("progenitor", "stem", 0.20, 0.45, 0.17),
    State("a_intermediate", "progenitor", 0.45, 0.70, 0.15),
    State("a_terminal", "a_intermediate", 0.70, 1.00, 0.15),
    State("b_intermediate", "progenitor", 0.45, 0.70, 0.13),
    State("b_terminal", "b_intermediate", 0.70, 1.00, 0.13),
    State("side", "stem", 0.20, 0.60, 0.12),
)
STATE_NAMES = [state.name for state in STATES]
KNOCKOUT_STATE = "a_intermediate"
KNOCKOUT_WIDTH = 0.25
KNOCKOUT_LOSS = 0.7


def fork_times() -> np.ndarray:
    """Pseudotime at which two states part, states x states; NaN where one descends from the other."""
    ancestors = []
    for state in STATES:
        known = ancestors[STATE_NAMES.index(state.parent)] if state.parent else []
        ancestors.append([*known, state.name])
    forks = np.full((len(STATES), len(STATES)), np.nan)
    for i, one in enumerate(ancestors):
        for j, other in enumerate(ancestors):
            if STATE_NAMES[i] not in other and STATE_NAMES[j] not in one:
                shared = [name for name in one if name in other][-1]
                forks[i, j] = STATES[STATE_NAMES.index(shared)].end
    return forks


def draw_tfs(rng: np.random.Generator, symbols: list[str]) -> pd.DataFrame:
    """Give each TF a program: a home on the tree and a reach, a constant level, or a phase of the cell cycle.

    Returns
    -------
    DataFrame with one row per TF: symbol, kind (state, broad, constitutive, cycle), home (number of the state), center
    and width (pseudotime), level (highest activity), phase (radians), represses (bool), knockout (bool, one TF).
    """
    n_tfs = len(symbols)
    n_state, n_broad, n_constant = (round(n_tfs * share) for share in (0.65, 0.15, 0.12))
    kind = (["state"] * n_state + ["broad"] * n_broad + ["constitutive"] * n_constant + ["cycle"] * n_tfs)[:n_tfs]
    # States take turns, so that each has a TF of its own even among few TFs.
    home = np.arange(n_tfs) % len(STATES)
    is_leaf = np.array([state.name not in {other.parent for other in STATES} for state in STATES])
    start, end = (np.array([getattr(state, name) for state in STATES]) for name in ("start", "end"))
    place = np.where(is_leaf, 0.8, 0.5)[home] + rng.uniform(-0.25, 0.2, n_tfs)
    tfs = pd.DataFrame({"symbol": symbols, "kind": kind, "home": home})
    tfs["center"] = start[home] + place * (end - start)[home]
    tfs["width"] = np.where(tfs["kind"] == "broad", rng.uniform(0.28, 0.4, n_tfs), rng.uniform(0.1, 0.17, n_tfs))
    tfs["level"] = np.where(tfs["kind"] == "constitutive", rng.uniform(0.4, 0.8, n_tfs), rng.uniform(0.75, 1.0, n_tfs))
    tfs["phase"] = rng.uniform(0, 2 * np.pi, n_tfs)
    tfs["represses"] = rng.random(n_tfs) < 0.25
    tfs["knockout"] = np.arange(n_tfs) == min(STATE_NAMES.index(KNOCKOUT_STATE), n_tfs - 1)
    # The knocked-out TF leads its branch: it acts from the fork on, on the terminal state too.
    tfs.loc[tfs["knockout"], ["represses", "level", "width", "kind"]] = [False, 1.0, KNOCKOUT_WIDTH, "state"]
    return tfs


def draw_positions(rng: np.random.Generator, n: int, evenness: float = 60.0) -> pd.DataFrame:
    """Draw cells on the tree: state (number), pseudotime, phase of the cell cycle.

    `evenness` is the concentration of the Dirichlet draw of state shares: donors differ in composition.
    """
    shares = rng.dirichlet(evenness * np.array([state.share for state in STATES]))
    state = rng.choice(len(STATES), n, p=shares)
    start, end = (np.array([getattr(item, name) for item in STATES]) for name in ("start", "end"))
    pseudotime = start[state] + rng.random(n) * (end - start)[state]
    return pd.DataFrame({"state": state, "pseudotime": pseudotime, "phase": rng.uniform(0, 2 * np.pi, n)})


def programs(cells: pd.DataFrame, tfs: pd.DataFrame) -> np.ndarray:
    """Activity that each TF should have in each cell, cells x TFs, in [0, 1].

    Parameters
    ----------
    cells
        Columns state (number), pseudotime, phase.
    tfs
        As `draw_tfs` gives them.
    """
    state, time = cells["state"].to_numpy()[:, None], cells["pseudotime"].to_numpy()[:, None]
    center = tfs["center"].to_numpy()
    fork = fork_times()[state, tfs["home"].to_numpy()]
    distance = np.where(np.isnan(fork), np.abs(time - center), time + center - 2 * fork)
    on_tree = np.exp(-0.5 * (distance / tfs["width"].to_numpy()) ** 2)
    phase = cells["phase"].to_numpy()[:, None] - tfs["phase"].to_numpy()
    # Dividing cells are the early ones.
    cycling = 0.5 * (1 + np.cos(phase)) * np.clip(1.1 - time, 0.2, 1)
    kind = tfs["kind"].to_numpy()
    shape = np.select([kind == "constitutive", kind == "cycle"], [np.ones_like(on_tree), cycling], on_tree)
    return shape * tfs["level"].to_numpy()


def activity(
    rng: np.random.Generator, cells: pd.DataFrame, tfs: pd.DataFrame, edges: pd.DataFrame, noise: float
) -> np.ndarray:
    """Activity of each TF in each cell, with cell-to-cell noise and the knockout with all that it takes along.

    A TF whose activator is lost loses part of its own activity, one whose repressor is lost gains some; losses travel
    down the TF-TF edges, which have no cycles.

    Parameters
    ----------
    cells
        Columns state, pseudotime, phase, knockout (bool).
    edges
        Columns source, target (numbers of TFs), sign; only TF-TF edges.
    noise
        Standard deviation of the noise, in units of activity.

    Returns
    -------
    Array, cells x TFs, in [0, 1.3].
    """
    expected = programs(cells, tfs)
    # Noise scales with the program: an absent TF does not flicker.
    wild = np.clip(expected + noise * np.sqrt(expected) * rng.standard_normal(expected.shape), 0, 1.3)
    actual = wild.copy()
    knocked = cells["knockout"].to_numpy(dtype=bool)
    lost = int(np.flatnonzero(tfs["knockout"])[0])
    actual[knocked, lost] = 0
    for target in flow_order(tfs):
        if target == lost:
            continue
        for edge in edges[edges["target"] == target].itertuples():
            drop = wild[:, edge.source] - actual[:, edge.source]
            if edge.sign > 0:
                actual[:, target] *= 1 - KNOCKOUT_LOSS * np.clip(drop / np.maximum(wild[:, edge.source], 0.05), 0, 1)
            else:
                actual[:, target] += 0.3 * drop
    return np.clip(actual, 0, 1.3)


def flow_order(tfs: pd.DataFrame) -> np.ndarray:
    """TFs from early to late: TF-TF edges only run this way."""
    return np.lexsort((np.arange(len(tfs)), tfs["center"]))
