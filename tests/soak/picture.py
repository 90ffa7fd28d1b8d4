"""The figures of a soak as a picture: picture.py FIGURES.json PICTURE.svg

A program of its own, for matplotlib is Debian's and belongs to the system's python3.
"""

import json
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

ROWS = [
    ("resident memory, MiB", 1, 1 / 1024),
    ("deferred bytes, MiB", 2, 1 / 2**20),
    ("age of the oldest grace period, ms", 6, 1),
]


def main():
    given = json.load(open(sys.argv[1]))
    names = list(given["series"])
    figure, grid = plt.subplots(
        len(ROWS), len(names), figsize=(4.4 * len(names), 8), sharex=True, squeeze=False
    )
    for column, name in enumerate(names):
        rows = given["series"][name]
        seconds = [row[0] for row in rows]
        for axes, (label, field, unit) in zip(grid[:, column], ROWS):
            axes.plot(seconds, [row[field] * unit for row in rows], linewidth=0.9, color="#1f6fb4")
            if field == 2:
                axes.plot(
                    seconds,
                    [row[3] * unit for row in rows],
                    linewidth=0.9,
                    color="#c44e1c",
                    linestyle="--",
                    label="budget",
                )
                axes.legend(loc="upper right", fontsize=8, frameon=False)
            for begin, end in given["hogs"]:
                axes.axvspan(begin, end, color="#999999", alpha=0.25, linewidth=0)
            axes.set_ylim(bottom=0)
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(label)
        judged = next((j for j in given["judged"] if j["program"] == name), {"problems": []})
        grid[0, column].set_title(f"{name}: {'; '.join(judged['problems']) or 'good'}", fontsize=10)
        grid[-1, column].set_xlabel("seconds; grey: something else wants memory")
    figure.suptitle(f"{given['about']['command']}: {given['about']['verdict']}")
    figure.tight_layout()
    figure.savefig(sys.argv[2])


if __name__ == "__main__":
    main()
