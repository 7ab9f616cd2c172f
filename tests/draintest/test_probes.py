"""Those who watch during a drain test: what one of them waits for hides nothing from the others."""

import asyncio

from twisted_rr.draintest import probes
from twisted_rr.draintest.records import Connect, Evidence, Terms
from twisted_rr.draintest.wire import Address


def test_a_connect_that_hangs_does_not_hide_that_the_next_is_refused(monkeypatch):
    asked = 0

    async def connect(address: Address) -> Connect:
        nonlocal asked
        asked += 1
        if asked == 1:
            await asyncio.get_running_loop().create_future()
        seen.set()
        return Connect(0.0, 0.0, "refused")

    async def watch() -> None:
        watchers = probes.Watchers(evidence, address, address, 1, lambda state: None)
        watching = asyncio.ensure_future(watchers._connects())
        await asyncio.wait_for(seen.wait(), 10)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    monkeypatch.setattr(probes, "connect", connect)
    address: Address = ("127.0.0.1", 1)
    evidence = Evidence("a run", Terms(), 0.0)
    seen = asyncio.Event()
    asyncio.run(watch())
    assert evidence.connects[0].outcome == "refused"
