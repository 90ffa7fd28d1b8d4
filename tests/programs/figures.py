# figures.py DIR SCHEMA: the figures in DIR, as `figures forms` has written them, read by parsers that others
# wrote, and compared with each other.
import json
import re
import sys
import xml.etree.ElementTree as tree

import jsonschema
from prometheus_client.parser import text_string_to_metric_families

directory, schema = sys.argv[1:]


def text_of(name):
    with open(f"{directory}/{name}", encoding="ascii") as file:
        return file.read()


# JSON, against the schema that is shipped. A figure that the schema does not know is a mistake, too.
figures = json.loads(text_of("json"))
with open(schema, encoding="ascii") as file:
    schema = json.load(file)
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.Draft202012Validator(schema).validate(figures)

# What adds up, adds up in what is written, too.
assert sum(figures["pages"].values()) == figures["pages_mapped"], figures["pages"]
parts = ("live_bytes", "cached_bytes", "waiting_bytes", "in_slabs_bytes")
assert sum(figures[part] for part in parts) == figures["blocks_bytes"]
assert sum(figures["held_bytes"].values()) == figures["waiting_bytes"]
assert sum(figures["periods_ended"].values()) == figures["periods_completed"]
assert sum(figures["periods_ended_for"].values()) == figures["periods_completed"]
assert sum(bucket["periods"] for bucket in figures["period_latency"]) == figures["periods_timed"]
aged = figures["deferred_bytes"] - figures["held_bytes"]["slab"]
assert sum(figures["deferred_age_bytes"].values()) == aged
live = sum(row["live"] * row["block_bytes"] for row in figures["classes"])
assert live == figures["live_bytes"] - figures["live_large_bytes"]
# The heap had something of everything.
for name in ("live_large_bytes", "waiting_bytes", "cached_bytes", "scans", "slab_flushes"):
    assert figures[name], name
for row in ("slab", "large_live", "large_freed", "magazine", "meta"):
    assert figures["pages"][row], row
assert figures["periods_ended_for"]["api"] and figures["scan_log"] and figures["period_latency"]

# Prometheus: each family has its HELP and its TYPE before its samples, once, and its samples in one piece.
text = text_of("prometheus")
families = {family.name: family for family in text_string_to_metric_families(text)}
declared = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M)
assert len(declared) == len(set(declared)) == len(families), "a family twice, or in pieces"
assert [name for name, _ in declared] == re.findall(r"^# HELP (\S+) \S.*\.$", text, re.M)
for name, kind in declared:
    family = families[name.removesuffix("_total") if kind == "counter" else name]
    assert family.type == kind and family.documentation and family.samples, name
    assert kind != "counter" or name.endswith("_total"), name
seen = [line.split("{")[0].split(" ")[0] for line in text.splitlines() if not line.startswith("#")]
runs = [name for name, before in zip(seen, [None, *seen]) if name != before]
assert len(runs) == len(set(runs)), "samples of a family in pieces"
samples = {}
for family in families.values():
    for sample in family.samples:
        key = (sample.name, *sorted(sample.labels.items()))
        assert key not in samples, key
        samples[key] = sample.value


def of_prometheus(name, value, labels=()):
    name, scale = (name[:-3] + "_seconds", 1e-9) if name.endswith("_ns") else (name, 1)
    for suffix in ("", "_total"):
        if (got := samples.get((f"rcumalloc_{name}{suffix}", *labels))) is not None:
            assert abs(got - value * scale) <= abs(got) * 1e-9, (name, labels, got, value)
            return
    raise AssertionError(f"{name} {labels} is not there")


labels = {
    "held_bytes": "by",
    "periods_ended": "how",
    "periods_ended_for": "cause",
    "hurried": "cause",
    "scans": "reason",
    "scanned_bytes": "reason",
    "free_steps": "step",
    "pages": "kind",
    "deferred_age_bytes": "up_to",
}
# What goes on while it is written.
MOVES = {"peak_rss_bytes", "deferred_oldest_ns", "deferred_age_bytes"}
lines = dict(re.findall(r"^rcumalloc: (\w+) (\d+)$", text_of("text"), re.M))
line_form = re.compile(r"rcumalloc: (\w+ \d+|class \d+( \w+=\d+)+|scan( \w+=\w+)+)")
assert all(line_form.fullmatch(line) for line in text_of("text").splitlines())
for name, value in figures.items():
    if name in MOVES or isinstance(value, list):
        continue
    if isinstance(value, dict):
        for one, number in value.items():
            of_prometheus(name, number, ((labels[name], one),))
            assert int(lines[f"{name}_{one}"]) == number, (name, one)
    else:
        of_prometheus(name, value)
        assert int(lines[name]) == value, name
for row in figures["classes"]:
    size = ("block_bytes", str(row["block_bytes"]))
    of_prometheus("class_slabs", row["slabs"], (size,))
    for place in ("live", "cached", "deferred", "in_slabs"):
        of_prometheus("class_blocks", row[place], (size, ("place", place)))
        of_prometheus("class_bytes", row[place] * row["block_bytes"], (size, ("place", place)))

# XML, as malloc_info writes it.
root = tree.fromstring(text_of("xml"))
assert root.tag == "malloc" and root.attrib["version"].startswith("rcumalloc-")
sizes = root.findall("./heap/sizes/size")
assert [int(size.attrib["to"]) for size in sizes] == [row["block_bytes"] for row in figures["classes"]]
names = {figure.attrib["name"] for figure in root.findall("figure")}
assert names == {name for name, value in figures.items() if not isinstance(value, list)}
print("families", len(families), "classes", len(sizes))
