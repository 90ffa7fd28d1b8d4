"""What python3 does with memory: every kind of object, threads, generators, the collector, processes.
Prints the same everywhere."""

import collections
import concurrent.futures
import gc
import hashlib
import itertools
import json
import queue
import random
import re
import sqlite3
import subprocess
import sys
import threading
import zlib


def numbers(seed):
    r = random.Random(seed)
    big = 1
    for _ in range(300):
        big = big * r.randrange(1, 10**30) + 7
    return hashlib.sha256(hex(big).encode()).hexdigest()


def text(seed):
    r = random.Random(seed)
    words = ["".join(r.choices("abcdefghij", k=r.randrange(1, 12))) for _ in range(8000)]
    joined = " ".join(words)
    counts = collections.Counter(re.findall(r"\b[a-e]\w*", joined))
    replaced = re.sub(r"(a+)(\w?)", lambda m: m[2] + m[1].upper(), joined)
    return hashlib.sha256((replaced + repr(sorted(counts.items())[:200])).encode()).hexdigest()


def structures(seed):
    r = random.Random(seed)

    class Node:
        def __init__(self, value):
            self.value, self.links = value, []

    total = 0
    for _ in range(20):
        nodes = [Node(r.randrange(1000)) for _ in range(800)]
        for node in nodes:
            node.links = r.sample(nodes, 3)  # cycles, for the collector
        total += sum(link.value for node in nodes for link in node.links)
    document = {str(i): [i, i / 7, {"k": "v" * (i % 50)}, None, True] for i in range(4000)}
    again = json.loads(json.dumps(document))
    assert again == document
    packed = zlib.compress(json.dumps(document).encode(), 6)
    assert zlib.decompress(packed) == json.dumps(document).encode()
    table = {frozenset(pair): sum(pair) for pair in itertools.combinations(range(150), 2)}
    return f"{total} {len(packed)} {sum(table.values())} {gc.collect() >= 0}"


def database(seed):
    db = sqlite3.connect(":memory:")
    db.execute("create table t (a integer, b text, c real)")
    db.executemany("insert into t values (?, ?, ?)", ((i, f"row {i * seed}", i / 3) for i in range(5000)))
    db.execute("create index i on t (b)")
    return db.execute("select count(*), sum(a), max(b), total(c) from t where b like '%7%'").fetchone()


jobs = [numbers, text, structures, database]
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    futures = [pool.submit(job, seed) for seed in range(1, 4) for job in jobs]
    for future in futures:
        print(future.result())

# Blocks made in one thread and dropped in another.
handed, done = queue.Queue(20), []


def consume():
    while (item := handed.get()) is not None:
        done.append(len(item))


consumers = [threading.Thread(target=consume) for _ in range(3)]
for thread in consumers:
    thread.start()
for i in range(3000):
    handed.put([str(j) * (j % 20) for j in range(i % 60)])
for _ in consumers:
    handed.put(None)
for thread in consumers:
    thread.join()
print(sum(done), len(done))
for _ in range(200):
    thread = threading.Thread(target=lambda: bytearray(100_000))
    thread.start()
    thread.join()
print(subprocess.run([sys.executable, "-c", "print(sum(range(1000)))"], capture_output=True).stdout)
