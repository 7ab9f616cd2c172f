"""A server that stops its status endpoints first."""

from twisted_rr.lifecycle.stopping import WayOut

announce = WayOut._announce


async def status_then_announce(way_out):
    await way_out._stop_phase(way_out._server.phase("STATUS"), way_out._drain.deadline)
    await announce(way_out)


WayOut._announce = status_then_announce

if __name__ == "__main__":
    from twisted_rr.cli.entry import main

    main()
