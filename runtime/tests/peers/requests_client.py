"""Python's requests as a client of a node: a Session for each of the job's clients, so that what becomes of the next
request of a connection is seen as well.

Each line of stdin is a job, each line of stdout what became of it, in JSON: peers_clients.py has the fields.
"""

import collections
import concurrent.futures
import json
import sys
import threading

import requests
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class Counted(HTTPConnection):
    """A connection that says so when it is made, also when it is one that was lost and is made again."""

    made = collections.Counter()

    def connect(self):
        Counted.made[threading.get_ident()] += 1
        super().connect()


HTTPConnectionPool.ConnectionCls = Counted


def once(session, url, body):
    try:
        response = session.post(url, data=body, timeout=30)
    except requests.RequestException as error:
        return f"lost: {innermost(error)}"
    return f"{response.status_code} {len(response.content)}"


def innermost(error):
    """The name and number of what an exception was raised for."""
    while error.args and isinstance(error.args[-1], Exception) or error.__context__:
        error = error.args[-1] if error.args and isinstance(error.args[-1], Exception) else error.__context__
    return f"{type(error).__name__} {error}"


def client(url, body, count):
    """Posts so many times; gives the answers, and the connections it took."""
    Counted.made[threading.get_ident()] = 0
    with requests.Session() as session:
        answers = collections.Counter(once(session, url, body) for _ in range(count))
    return answers, Counted.made[threading.get_ident()]


def run(url, file, count, clients):
    with open(file, "rb") as opened:
        body = opened.read()
    shares = [count // clients + (n < count % clients) for n in range(clients)]
    answers, connections = collections.Counter(), 0
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for some, opened in pool.map(lambda share: client(url, body, share), shares):
            answers += some
            connections += opened
    return {"answers": answers, "connections": connections}


for line in sys.stdin:
    job = json.loads(line)
    print(json.dumps(run(job["url"], job["file"], job["requests"], job["clients"])), flush=True)
