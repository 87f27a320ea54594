"""Requests at a fixed rate, whatever becomes of them, told apart by how they ended.

    python3 open_loop.py HOST:PORT /path requests-per-second seconds

One thread over as many keep-alive connections as are needed at once, so that the client costs little beside the node.
"""

import asyncio
import json
import sys
import time

# Connections at once; an answer takes at most the queue's second, so four times its rate is enough.
CONNECTIONS = 4000


class Client:
    def __init__(self, address, path):
        host, port = address.rsplit(":", 1)
        self.address = (host, int(port))
        self.request = f"GET {path} HTTP/1.1\r\nHost: load\r\n\r\n".encode()
        self.idle, self.results = [], []

    async def one(self, due):
        """Asks once, and notes how long it took since it was sent and since it was due."""
        try:
            reader, writer = self.idle.pop() if self.idle else await asyncio.open_connection(*self.address)
            sent = time.monotonic()
            writer.write(self.request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            # The whole answer came, or its head: to be told apart from what the queue took.
            first = time.monotonic()
            length = next((int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length:")), None)
            if length is None:
                await reader.readuntil(b"0\r\n\r\n")
            else:
                await reader.readexactly(length)
            if "connection: close" in head:
                writer.close()
            else:
                self.idle.append((reader, writer))
            self.results.append((int(head[9:12]), first - sent, time.monotonic() - due, "retry-after:" in head, ""))
        except (OSError, asyncio.IncompleteReadError) as error:
            self.results.append((0, 0.0, 0.0, False, f"{type(error).__name__}: {error}"))

    async def run(self, rate, seconds):
        began, tasks = time.monotonic(), set()
        for number in range(int(rate * seconds)):
            due = began + number / rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if len(tasks) < CONNECTIONS:
                task = asyncio.create_task(self.one(due))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        took = time.monotonic() - began
        if tasks:
            await asyncio.wait(tasks, timeout=30)
        return took


def at(share, times):
    times = sorted(times)
    return round(1000 * times[min(len(times) - 1, int(len(times) * share))], 2) if times else 0.0


# A request that waited for a slot is refused after a second; one that found the queue full, at once.
AT_ONCE_S = 0.5


def main():
    address, path, rate, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
    client = Client(address, path)
    took = asyncio.run(client.run(rate, seconds))
    good = [(sent, due) for status, sent, due, _, _ in client.results if status == 200]
    shed = [(sent, retry) for status, sent, _, retry, _ in client.results if status in (429, 503)]
    others = [(status, error) for status, _, _, _, error in client.results if status not in (200, 429, 503)]
    at_once = [sent for sent, _ in shed if sent < AT_ONCE_S]
    print(json.dumps({
        "offered": len(client.results), "good": len(good), "good_rate": len(good) / took, "good_p99_ms": at(0.99, [due for _, due in good]),
        "shed": len(shed), "shed_at_once": len(at_once), "shed_p50_ms": at(0.5, at_once),
        "shed_p99_ms": at(0.99, at_once), "retry_after": sum(retry for _, retry in shed),
        "others": len(others), "examples": sorted({str(other) for other in others})[:5],
    }))


if __name__ == "__main__":
    main()
