"""Producers of every kind at once with the Python client: the counterpart of tests/bullmq/producers.mjs, with the same
options and the same lines on stdout.

    python producers.py --port N [--cluster] [--prefix bull] [--name limited] [--producers 20] [--rounds 10] [--seconds S]
"""

import argparse
import asyncio
import itertools
import os
import re
import sys
import threading

from bullmq import FlowProducer, Queue, Worker
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError, TimeoutError

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--cluster", action="store_true")
parser.add_argument("--prefix", default="bull")
parser.add_argument("--name", default="limited")
parser.add_argument("--producers", type=int, default=20)
parser.add_argument("--rounds", type=int, default=10)
parser.add_argument("--seconds", type=float)
args = parser.parse_args()

numbers = itertools.count(1)
stopping = asyncio.Event()
SOON = 3_600_000


def connection():
    if args.cluster:
        return RedisCluster(host="127.0.0.1", port=args.port, decode_responses=True)
    return {"host": "127.0.0.1", "port": args.port}


def say(line):
    print(line, flush=True)


def lost(error):
    text = f"{type(error).__name__} {error}"
    return isinstance(error, (ConnectionError, TimeoutError, OSError)) or re.search("closed|CLUSTERDOWN|Slot not cov", text)


def job(kind, opts=None):
    n = next(numbers)
    return {"n": n, "name": kind, "data": {"n": n, "kind": kind}, "opts": opts or {}}


def single(queue, made):
    return [made], lambda: queue.add(made["name"], made["data"], made["opts"])


def bulk(queue, _):
    jobs = [job("bulk") for _ in range(5)]
    return jobs, lambda: queue.addBulk(jobs)


def flow(_, flows):
    root = {**job("flow"), "queueName": args.name}
    kids = f"{args.name}-kids"

    def child(at):
        return {"name": "child", "data": {"of": root["n"], "at": at}, "queueName": kids}

    below = {**child(1), "children": [child(2)]}
    return [root], lambda: flows.add({**root, "children": [child(0), below, child(3)]})


KINDS = {
    "flow": flow,
    "delayed": lambda queue, _: single(queue, job("delayed", {"delay": SOON})),
    "prioritized": lambda queue, _: single(queue, job("prioritized", {"priority": 3})),
    "bulk": bulk,
    "add": lambda queue, _: single(queue, job("add")),
}


async def produce(kind):
    queue = Queue(args.name, {"connection": connection(), "prefix": args.prefix})
    flows = FlowProducer({"connection": connection(), "prefix": args.prefix})
    rounds = itertools.count() if args.seconds else range(args.rounds)
    for at in rounds:
        if stopping.is_set():
            break
        jobs, send = KINDS[kind](queue, flows)
        ns = ",".join(str(made["n"]) for made in jobs)
        say(f"S {kind} {ns}")
        try:
            await asyncio.wait_for(send(), 30)
            say(f"A {kind} {ns}")
        except Exception as error:
            text = f"{error}".replace("\n", " ")
            say(f"{'U' if lost(error) else 'R'} {kind} {ns} {text}")
        await asyncio.sleep(0.001 * (1 + at % 7))
    await queue.close()
    await flows.close()


async def run(job, _token):
    say(f"P {job.data['n']}")
    await asyncio.sleep(0.002)
    return job.data["n"]


def until_told(loop):
    for line in sys.stdin:
        if line.strip() == "mark":
            loop.call_soon_threadsafe(say, "MARK")
        else:
            loop.call_soon_threadsafe(stopping.set)


async def main():
    options = {"connection": connection(), "prefix": args.prefix, "concurrency": 4, "lockDuration": 5000}
    worker = Worker(args.name, run, {**options, "stalledInterval": 2000, "maxStalledCount": 5})
    worker.on("error", lambda error, *_: say(f"{'L' if lost(error) else 'E'} {error}"))
    worker.on("failed", lambda _, error, *rest: say(f"E a job failed: {error}"))

    loop = asyncio.get_running_loop()
    threading.Thread(target=until_told, args=(loop,), daemon=True).start()
    if args.seconds:
        loop.call_later(args.seconds, stopping.set)
    # redis-py refuses EVALSHA in the pipelines of a cluster client, so there it has neither bulks nor flows.
    kinds = [kind for kind in KINDS if not (args.cluster and kind in ("bulk", "flow"))]
    await asyncio.gather(*(produce(kind) for kind in kinds for _ in range(args.producers)))

    queue = Queue(args.name, {"connection": connection(), "prefix": args.prefix})
    deadline = loop.time() + 60
    left = None
    while loop.time() < deadline:
        await asyncio.sleep(0.02)
        try:
            left = await queue.getJobCounts("wait", "paused", "prioritized", "active")
        except Exception:
            continue
        if not any(left.values()):
            break
    say("DRAINED" if left is not None and not any(left.values()) else f"LEFT {left}")
    try:
        await asyncio.wait_for(worker.close(force=True), 5)
    finally:
        os._exit(0)


asyncio.run(main())
