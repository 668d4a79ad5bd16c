"""The same operations for the same seed, with the Python client: the counterpart of tests/bullmq/seeded.mjs.

    python seeded.py --port N [--seed S] [--count operations]

One line an operation goes to stdout: what it was, and what came of it. Clock and random numbers stand still before the
client is imported, so two servers that answer alike get the same commands and hold the same keys.
"""

import argparse
import asyncio
import json
import random
import time
import uuid

parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--count", type=int, default=300)
args = parser.parse_args()

now = 1_700_000_000_000
dice = random.Random(args.seed)
time.time = lambda: now / 1000
uuid.uuid4 = lambda: uuid.UUID(int=dice.getrandbits(128), version=4)

from bullmq import FlowProducer, Queue, Worker  # noqa: E402

NAMES = ["plain", "{tagged}", "ünï"]
connection = {"host": "127.0.0.1", "port": args.port}
parents = []
waiting = []


def maybe(share, make):
    return make() if dice.randrange(100) < share else {}


def name():
    return dice.choice(["job", "mail", "", "with:colon", "é"])


def data():
    nested = {"deep": {"list": [1, [2, {"x": None}]]}}
    return dice.choice([{}, {"n": dice.randrange(10**6)}, [], "text é 一", None, 0, nested, "x" * dice.randrange(5000)])


def dedup():
    return {"deduplication": {"id": f"d{dice.randrange(4)}", **maybe(50, lambda: {"ttl": 3_630_000})}}


def opts(may_dedup=True):
    kinds = [
        lambda: {},
        lambda: {},
        lambda: {"delay": 1 + dice.randrange(2000)},
        lambda: {"priority": 1 + dice.randrange(9)},
        lambda: {"delay": 1 + dice.randrange(2000), "priority": 1 + dice.randrange(9)},
        lambda: {"lifo": True},
    ]
    if may_dedup:
        kinds.append(dedup)
    return {
        **dice.choice(kinds)(),
        **maybe(15, lambda: {"jobId": f"custom-{dice.randrange(30)}"}),
        **maybe(30, lambda: {"attempts": 1 + dice.randrange(4), "backoff": {"type": "fixed", "delay": 100}}),
        **maybe(20, lambda: {"removeOnComplete": dice.choice([True, {"count": 3}, {"age": 60}]), "removeOnFail": True}),
    }


def node(depth, root=True):
    children = 0 if depth == 0 else dice.randrange(4)
    job = {"name": name(), "queueName": dice.choice(NAMES), "data": data(), "opts": opts(root and children == 0)}
    if children > 0:
        # A job with children is never removed below: their order in a set is each server's own.
        if "jobId" in job["opts"]:
            job["opts"]["jobId"] = job["opts"]["jobId"].replace("custom", "parent")
        job["children"] = [node(depth - 1, False) for _ in range(children)]
    return job


def shown(tree):
    return [tree["job"].id, *map(shown, tree.get("children", []))]


def remember(tree):
    if "children" in tree:
        parents.append({"id": tree["job"].id, "queue": tree["job"].queueQualifiedName})
        for child in tree["children"]:
            remember(child)


async def main():
    global now
    queues = [Queue(each, {"connection": connection}) for each in NAMES]
    workers = [Worker(each, None, {"connection": connection, "autorun": False}) for each in NAMES]
    flows = FlowProducer(connection)

    async def flow():
        tree = await flows.add(node(1 + dice.randrange(3)))
        remember(tree)
        return shown(tree)

    async def several_flows():
        trees = await flows.addBulk([node(2) for _ in range(1 + dice.randrange(3))])
        for tree in trees:
            remember(tree)
        return [shown(tree) for tree in trees]

    async def add():
        job = await dice.choice(queues).add(name(), data(), opts())
        waiting.append(job)
        return job.id

    async def child():
        lost = dice.randrange(5) == 0 or not parents
        parent = {"id": "nobody", "queue": "bull:plain"} if lost else dice.choice(parents)
        job = await dice.choice(queues).add(name(), data(), {**opts(False), "parent": parent})
        return job.id

    async def bulk():
        jobs = [{"name": name(), "data": data(), "opts": opts()} for _ in range(1 + dice.randrange(6))]
        return [job.id for job in await dice.choice(queues).addBulk(jobs)]

    async def scheduler():
        repeat = dice.choice([{"every": 1000 * (1 + dice.randrange(9))}, {"pattern": f"{dice.randrange(60)} * * * *"}])
        template = maybe(50, lambda: {"priority": 1 + dice.randrange(3), "attempts": 2})
        job = await dice.choice(queues).upsertJobScheduler(f"s{dice.randrange(5)}", repeat, name(), data(), template)
        return job and job.id

    async def no_scheduler():
        return await dice.choice(queues).removeJobScheduler(f"s{dice.randrange(5)}")

    async def work():
        global now
        job = await dice.choice(workers).moveToActive("token")
        if not job:
            return "nothing to do"
        now += dice.randrange(20)
        if dice.randrange(4) > 0:
            await job.moveToCompleted({"done": dice.randrange(9)}, "token")
        else:
            await job.moveToFailed(Exception("on purpose"), "token")
        return job.id

    async def one():
        if not waiting:
            return "none"
        job = waiting.pop(dice.randrange(len(waiting)))
        return await dice.choice(
            [job.remove, job.promote, job.retry, lambda: job.changePriority({"priority": dice.randrange(4)})]
        )()

    operations = [
        *[("add", add)] * 8,
        *[("bulk", bulk)] * 4,
        *[("flow", flow)] * 3,
        ("flows", several_flows),
        *[("child", child)] * 2,
        *[("scheduler", scheduler)] * 2,
        ("no scheduler", no_scheduler),
        *[("work", work)] * 8,
        *[("one", one)] * 2,
        ("pause", lambda: dice.choice(queues).pause()),
        *[("resume", lambda: dice.choice(queues).resume())] * 2,
        ("clean", lambda: dice.choice(queues).clean(0, 3, dice.choice(["completed", "failed"]))),
    ]
    for at in range(args.count):
        now += 1 + dice.randrange(400)
        what, run = dice.choice(operations)
        try:
            outcome = await run()
        except Exception as error:
            outcome = f"{type(error).__name__}: {error}"
        print(at, what, json.dumps(outcome, default=str))
    for thing in [*queues, flows]:
        await thing.close()
    for worker in workers:
        await worker.close(force=True)


asyncio.run(main())
