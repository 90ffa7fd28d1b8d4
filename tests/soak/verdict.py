"""What the figures of a soak must be like.

Memory is flat: after the warm-up (a quarter of the time) the slope of RSS, a Theil-Sen estimate, which a peak
now and then does not move, times the time that was looked at, is less than a tenth of the median, or 8 MiB.
Deferred bytes stay near their budget, grace periods end, no bad call was made.
"""

import itertools
import statistics

WARM_UP = 0.25
GROWTH_SHARE, GROWTH_BYTES = 0.10, 8 << 20
# An expediter that loses its processor lets some MiB more come in for each millisecond: the median is held to
# the budget, the 99th percentile to this many times it and bytes on top.
DEFERRED_TIMES, DEFERRED_BYTES = 4, 56 << 20
# Milliseconds: ten times the age limit at which whoever frees expedites.
AGE_MS = 10_000
POINTS = 200


def slope(rows):
    """Bytes a second: the median of the slopes between all pairs of some points."""
    points = rows[:: max(1, len(rows) // POINTS)]
    pairs = (
        (b[1] - a[1]) * 1024 / (b[0] - a[0]) for a, b in itertools.combinations(points, 2) if b[0] > a[0]
    )
    return statistics.median(pairs)


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def judge(series):
    """[{program, ..., problems}] for each program."""
    judged = []
    for name, rows in series.items():
        problems = []
        if len(rows) < 20:
            judged.append({"program": name, "problems": [f"only {len(rows)} samples"]})
            continue
        end = rows[-1][0]
        kept = [row for row in rows if row[0] >= end * WARM_UP]
        median = statistics.median(row[1] for row in kept) * 1024
        rate, looked = slope(kept), end * (1 - WARM_UP)
        growth = rate * looked
        if growth > max(GROWTH_SHARE * median, GROWTH_BYTES):
            problems.append(f"RSS grew by {growth / 2**20:.1f} MiB, median {median / 2**20:.1f} MiB")
        deferred, budget = [row[2] for row in kept], statistics.median(row[3] for row in kept)
        middle, high = statistics.median(deferred), quantile(deferred, 0.99)
        if middle > budget * 1.5:
            problems.append(
                f"deferred bytes: median {middle / 2**20:.1f} MiB of a budget of {budget / 2**20:.1f}"
            )
        if high > budget * DEFERRED_TIMES + DEFERRED_BYTES:
            problems.append(
                f"deferred bytes: 99th percentile {high / 2**20:.1f} MiB of a budget of {budget / 2**20:.1f}"
            )
        age = max(row[6] for row in kept)
        needed = max((row[6] for row in kept if row[2] > row[3]), default=0)
        if needed > AGE_MS:
            problems.append(f"a grace period took {needed} ms while more than the budget waited")
        if rows[-1][7]:
            problems.append(f"{rows[-1][7]} bad calls")
        if rows[-1][5] <= rows[0][5]:
            problems.append("no grace period ended")
        judged.append(
            {
                "program": name,
                "problems": problems,
                "samples": len(rows),
                "rss_median_mib": round(median / 2**20, 1),
                "rss_growth_mib": round(growth / 2**20, 2),
                "deferred_median_mib": round(middle / 2**20, 2),
                "deferred_p99_mib": round(high / 2**20, 2),
                "budget_mib": round(budget / 2**20, 2),
                "age_max_ms": age,
                "age_needed_ms": needed,
                "periods": rows[-1][5] - rows[0][5],
            }
        )
    return judged
