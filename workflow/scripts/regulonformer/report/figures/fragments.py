"""Figures of fragments: their lengths, and cuts around transcription start sites."""

import numpy as np
from matplotlib.lines import Line2D

from regulonformer.report.style import FULL_WIDTH, MISSING, palette, panels


def fragment_profiles(qc: list[dict]):
    """Fragment lengths and the pile-up of cuts around TSSs per library, or None where no library has them.

    The nucleosomal ladder (< 147 bp, about 200 bp, about 400 bp) and a sharp peak at the TSS are the marks of a good
    ATAC library.
    """
    fragments = {record["sample"]: record.get("fragments") or {} for record in qc}
    lengths = {name: found for name, found in fragments.items() if found.get("lengths") and sum(found["lengths"])}
    profiles = {name: found for name, found in fragments.items() if found.get("tss_profile")}
    if not lengths and not profiles:
        return None
    colours = palette(fragments)
    count = bool(lengths) + bool(profiles)
    figure, axes = panels(count, 2, 2.8, FULL_WIDTH if count == 2 else FULL_WIDTH * 0.6)
    if lengths:
        _length_curves(axes[0], lengths, colours)
    if profiles:
        _tss_curves(axes[-1], profiles, colours)
    handles = [Line2D([], [], color=colours[name], lw=2) for name in fragments]
    figure.legend(handles, list(fragments), loc="outside lower center", ncols=min(len(fragments), 6))
    return figure


def _length_curves(axis, lengths: dict[str, dict], colours: dict[str, str]) -> None:
    for name, found in lengths.items():
        # The last bin holds everything longer.
        counts, step = np.asarray(found["lengths"][:-1], float), found.get("length_bin", 1)
        axis.plot(
            (np.arange(len(counts)) + 0.5) * step, 100 * counts / counts.sum() / step, color=colours[name], lw=1.4
        )
    axis.axvspan(0, 147, color=MISSING, alpha=0.35, lw=0)
    axis.set(title="Fragment length", xlabel="Length (bp)", ylabel="Fragments per bp (%)")
    axis.set_xlim(0, min(1000, axis.get_xlim()[1]))
    axis.set_ylim(0, axis.get_ylim()[1] * 1.12)
    axis.text(5, axis.get_ylim()[1] * 0.97, "nucleosome-free", fontsize=7.5, color="#52606D", va="top")


def _tss_curves(axis, profiles: dict[str, dict], colours: dict[str, str]) -> None:
    for name, found in profiles.items():
        profile = np.asarray(found["tss_profile"], float)
        ends = np.concatenate([profile[: max(1, len(profile) // 40)], profile[-max(1, len(profile) // 40) :]]).mean()
        axis.plot(np.linspace(-2, 2, len(profile)), profile / max(ends, 1e-9), color=colours[name], lw=1.4)
    axis.axhline(1, color=MISSING, lw=1)
    axis.set(title="Cuts around TSSs", xlabel="Distance to TSS (kb)", ylabel="Fold over flanks", xlim=(-2, 2))
