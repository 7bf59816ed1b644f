"""Draw the voxel positions of three levels, the picture of the README: voxel_positions.py [FILE.svg]."""

import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from multiscale_sampler import Axis

COLORS = ("#3b6fb6", "#d9822b", "#4a9d5b")
base = Axis("x", 9, scale=1.0, unit="micrometer")
# Without a date and random ids, the file is the same every time.
matplotlib.rcParams["svg.hashsalt"] = "voxel positions"
figure = Figure(figsize=(9, 3.4), layout="constrained")
panels = figure.subplots(1, 2, sharey=True)
titles = {"center": "mean, min, max, median, mode, sum", "first": "nearest"}
for panel, (position, title) in zip(panels, titles.items(), strict=True):
    for level, factor in enumerate((1, 2, 4)):
        axis = base.coarsen(factor, position=position)
        for x in base.coarsen(factor).coordinates():
            corner = (x - factor / 2, -level - 0.35)
            panel.add_patch(Rectangle(corner, factor, 0.7, facecolor=COLORS[level], alpha=0.25, edgecolor="black"))
        panel.plot(axis.coordinates(), [-level] * axis.size, "o", color=COLORS[level])
        panel.axvline(axis.translation, color=COLORS[level], linewidth=0.8, linestyle=":")
    panel.axvline(8.5, color="black", linewidth=0.8, linestyle="--")
    panel.set(title=title, xlabel="x [micrometer]", xlim=(-1, 12), ylim=(-2.7, 0.7), xticks=range(0, 12, 2))
    panel.set_yticks([0, -1, -2], ["level 0", "level 1", "level 2"])
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).with_suffix(".svg"), metadata={"Date": None})
