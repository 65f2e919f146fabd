"""Where the regulons of a network picture stand, so that names stay readable."""

from dataclasses import dataclass

import networkx as nx
import numpy as np
from scipy.optimize import linear_sum_assignment

RING_X, RING_Y = 0.25, 0.31  # radii of a regulon's ring of targets, in units of a field of the grid
RING_X, RING_Y = 0.25, 0.31  # radii of a regulon's ring of targets, in units of a field of the grid
MAX_COLUMNS = 4
LONG_NAME = 7  # letters; longer names of neighbouring regulons would touch in fields this narrow


@dataclass
class Layout:
    """Positions of TFs and targets; fields of the grid are 1 wide and 1 high.

    Attributes
    ----------
    positions
        Node -> x, y.
    angles
        Target of one TF only -> direction in which it lies from that TF, in radians.
    """

    positions: dict[str, np.ndarray]
    angles: dict[str, float]
    columns: int
    rows: int

    @property
    def x_range(self) -> tuple[float, float]:
        """Limits of the x-axis."""
        return -0.5, self.columns - 0.5

    @property
    def y_range(self) -> tuple[float, float]:
        """Limits of the y-axis."""
        return -self.rows + 0.5, 0.5


def place_regulons(graph: nx.DiGraph, tfs: list[str], seed: int) -> Layout:
    """Put each TF into its own field of a grid, near the TFs with which it shares targets.

    A spring layout of the TFs alone (Fruchterman & Reingold 1991) says who belongs together; assigning its points to
    fields at least total distance keeps that and spreads them evenly. Targets of one TF stand on a ring around it,
    shared targets between their TFs.

    Parameters
    ----------
    graph
        Edges from TFs to targets.
    tfs
        TFs to place.
    seed
        Seed of the spring layout.
    """
    columns = min(MAX_COLUMNS - (max(map(len, graph), default=0) > LONG_NAME), len(tfs))
    rows = -(-len(tfs) // columns)
    positions = _fields(_similar_tfs(graph, tfs, seed), tfs, columns, rows)
    angles = {}
    shared = [node for node in graph if node not in positions and graph.in_degree(node) > 1]
    for node in shared:
        positions[node] = np.mean([positions[tf] for tf in graph.predecessors(node)], axis=0)
    _step_off(positions, shared, tfs)
    for tf in tfs:
        own = [node for node in graph.successors(tf) if node not in positions]
        taken = [positions[node] - positions[tf] for node in graph.successors(tf) if node in shared]
        for node, angle in zip(own, _free_directions(len(own), taken), strict=True):
            angles[node] = angle
            positions[node] = positions[tf] + [RING_X * np.cos(angle), RING_Y * np.sin(angle)]
    return Layout(positions, angles, columns, rows)


def _free_directions(count: int, taken: list[np.ndarray]) -> list[float]:
    """Evenly spread angles, clockwise from the top, that leave out those nearest to the directions taken."""
    slots = count + len(taken)
    # Half a step off the vertical, so that no name stands right above another.
    angles = [np.pi / 2 - 2 * np.pi * (slot + 0.5) / slots for slot in range(slots)]
    for offset in taken:
        towards = np.arctan2(offset[1], offset[0])
        angles.remove(min(angles, key=lambda angle: -np.cos(angle - towards)))
    return angles


def _similar_tfs(graph: nx.DiGraph, tfs: list[str], seed: int) -> dict[str, np.ndarray]:
    """Spring layout of TFs, joined by the number of targets they share, scaled to the unit square."""
    likeness = nx.Graph()
    likeness.add_nodes_from(tfs)
    targets = {tf: set(graph.successors(tf)) for tf in tfs}
    for at, first in enumerate(tfs):
        for second in tfs[at + 1 :]:
            if common := len(targets[first] & targets[second]):
                likeness.add_edge(first, second, weight=common)
    places = nx.spring_layout(likeness, seed=seed, iterations=200)
    points_T2 = np.array([places[tf] for tf in tfs])
    span_2 = np.ptp(points_T2, axis=0)
    points_T2 = (points_T2 - points_T2.min(axis=0)) / np.where(span_2 > 0, span_2, 1)
    return dict(zip(tfs, points_T2, strict=True))


def _fields(wanted: dict, tfs: list[str], columns: int, rows: int) -> dict[str, np.ndarray]:
    """Centre of the field of each TF; the last row is centred where it is not full."""
    fields = []
    for row in range(rows):
        count = min(columns, len(tfs) - row * columns)
        fields += [(column + (columns - count) / 2, -row) for column in range(count)]
    fields_T2 = np.array(fields, float)
    points_T2 = np.array([wanted[tf] for tf in tfs]) * [columns - 1, rows - 1] - [0, rows - 1]
    distance_TT = ((points_T2[:, None] - fields_T2[None]) ** 2).sum(-1)
    chosen = linear_sum_assignment(distance_TT)[1]
    return {tf: fields_T2[field] for tf, field in zip(tfs, chosen, strict=True)}


def _step_off(positions: dict, shared: list[str], tfs: list[str]) -> None:
    """Move shared targets off the discs of TFs and off each other, a little at a time, always in the same order."""
    for _ in range(60):
        for at, node in enumerate(shared):
            for other, least in [(tf, 0.42) for tf in tfs] + [(one, 0.13) for one in shared[:at]]:
                away = positions[node] - positions[other]
                distance = float(np.hypot(*away))
                if distance < least:
                    # Exactly on top of each other: leave along a direction that differs from node to node.
                    direction = away / distance if distance > 1e-6 else np.array([np.cos(2.4 * at), np.sin(2.4 * at)])
                    positions[node] = positions[node] + 0.3 * (least - distance) * direction
