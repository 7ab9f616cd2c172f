"""Workers that lie: each is killed with a line that says what it said; a wrapper is no liar."""

import pytest
from pool_processes import World, command

from twisted_rr.errors import WorkerStartError
from twisted_rr.pool.relay import RelayListener
from twisted_rr.pool.settings import ServerSettings
from twisted_rr.testing.host import RecordingLog


@pytest.fixture
def make():
    worlds = []

    def make(*arguments, **settings):
        worlds.append(World(*arguments, **settings))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def start_error(world) -> WorkerStartError:
    world.pool.startService()
    with pytest.raises(WorkerStartError) as caught:
        world.outcome(world.pool.ready(), 10.0)
    return caught.value


def test_a_billion_calls_at_once_are_refused_with_the_figure(make):
    error = start_error(make(command=command("lying.py", "streams"), num_workers=1))
    assert "mux.streams is 1000000000, allowed are 1 to 65535" in str(error)


def test_an_answer_to_a_call_that_nobody_made_kills_the_worker(make):
    log = RecordingLog()
    world = make(command=command("lying.py", "ids"), num_workers=1)
    world.pool._log = log
    world.pool.startService()
    world.until(lambda: log.lines("error"))
    [line] = [line for line in log.lines("error") if "is killed" in line][:1]
    assert line.startswith("worker ")
    assert "call 77: never opened" in line


def on_socket(make, tmp_path, scheme, *arguments):
    address = f"unix://{tmp_path}/rr.sock" if scheme == "unix" else "tcp://127.0.0.1:0"
    log = RecordingLog()
    world = make(
        ServerSettings(relay=address),
        lambda reactor: {"relays": RelayListener(address, reactor, log)},
        command=command("lying.py", *arguments),
        num_workers=1,
        allocate_timeout=60.0,
    )
    world.pool._host.relays.start()
    return world, log


@pytest.mark.parametrize(("how", "words"), [("pid", "as pid 1"), ("streams", "mux.streams is 1000000000")])
def test_who_lies_on_a_unix_socket_is_known_and_killed_at_once(make, tmp_path, how, words):
    world, _ = on_socket(make, tmp_path, "unix", how)
    try:
        error = start_error(world)  # and not only after allocate_timeout
        assert words in str(error)
        assert "behind a wrapper use exec, or server.relay: pipes" in str(error)
    finally:
        world.stop()
        world.pool._host.relays.stop()


def test_a_wrapper_on_pipes_is_one_line_and_serves(make):
    log = RecordingLog()
    world = make(command=command("lying.py", "child"), num_workers=1)
    world.pool._log = log
    world.start()
    assert world.ask(b"served by a child") == b"served by a child"
    lines = [line for line in log.lines() if "it runs behind a wrapper" in line]
    assert len(lines) == 1
    assert lines == [line for line in log.lines("info") if "it runs behind a wrapper" in line]
    [info] = world.pool.workers()
    told = int(world.ask(b"pid"))
    assert told != info.pid
    assert f"worker {info.pid} says that its pid is {told}" in lines[0]
