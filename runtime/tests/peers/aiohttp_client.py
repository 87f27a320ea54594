"""Python's aiohttp as a client of a node.

Each line of stdin is a job, each line of stdout what became of it, in JSON: peers_clients.py has the fields.
"""

import asyncio
import collections
import json
import sys

import aiohttp


async def once(session, url, body):
    status = "nothing"
    try:
        async with session.post(url, data=body) as response:
            status = response.status
            return f"{status} {len(await response.read())}"
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return f"lost: {status}, then {type(error).__name__} {error}"


async def run(url, file, count, clients):
    with open(file, "rb") as opened:
        body = opened.read()
    answers, left, connections = collections.Counter(), iter(range(count)), 0

    async def opened_one(*_):
        nonlocal connections
        connections += 1
    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(opened_one)

    async def client(session):
        for _ in left:
            answers[await once(session, url, body)] += 1
    connector = aiohttp.TCPConnector(limit=clients)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, trace_configs=[trace]) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return {"answers": answers, "connections": connections}


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(asyncio.run(run(job["url"], job["file"], job["requests"], job["clients"]))), flush=True)
