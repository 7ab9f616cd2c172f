"""An open-loop client: requests leave at a fixed rate, and latency counts from the intended instant."""

from __future__ import annotations

import asyncio
import time


async def _connection(port: int, jobs: asyncio.Queue, latencies: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (due := await jobs.get()) is not None:
        writer.write(b"GET / HTTP/1.1\r\nHost: bench.example\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        latencies.append(time.monotonic() - due)
        if b"connection: close" in head.lower():
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


async def _run(port: int, rate: float, seconds: float, connections: int) -> list[float]:
    jobs: asyncio.Queue = asyncio.Queue()
    latencies: list[float] = []
    clients = [asyncio.ensure_future(_connection(port, jobs, latencies)) for _ in range(connections)]
    begin = time.monotonic()
    for number in range(int(rate * seconds)):
        due = begin + number / rate
        delay = due - time.monotonic()
        if delay > 0:
            await asyncio.sleep(delay)
        jobs.put_nowait(due)
    for _ in clients:
        jobs.put_nowait(None)
    await asyncio.wait_for(asyncio.gather(*clients), 60)
    return latencies


def percentiles(port: int, rate: float, seconds: float, connections: int = 32) -> dict[str, float]:
    """p50 and p99 in milliseconds at *rate* requests a second over *connections* kept connections."""
    latencies = sorted(asyncio.run(_run(port, rate, seconds, connections)))
    return {
        "rate": round(rate, 1),
        "p50": round(latencies[len(latencies) // 2] * 1000, 2),
        "p99": round(latencies[int(len(latencies) * 0.99)] * 1000, 2),
    }
