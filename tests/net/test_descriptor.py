"""The relay descriptor, over a socket and over pipes, on every reactor."""

import os
import socket
import threading

import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure

from tests.net.conftest import fds, spin, turn
from twisted_rr.net.descriptor import PIECES, READ, REST, RelayDescriptor, relay_pair
from twisted_rr.net.turn import turn_of


class Owner:
    def __init__(self):
        self.data = b""
        self.pieces = []
        self.output = []
        self.lost = []
        self.relay = None
        self.asked = 0

    def relay_data(self, data):
        assert data
        assert not self.lost
        self.pieces.append(len(data))
        self.data += data

    def relay_output(self):
        self.asked += 1
        return self.output.pop(0) if self.output else b""

    def relay_lost(self, reason):
        assert self.relay.closed
        self.lost.append(reason)


class Rig:
    """A descriptor and the worker's end of it, as blocking calls."""

    def __init__(self, reactor, kind):
        self.owner = Owner()
        if kind == "socket":
            ours, self.theirs = relay_pair()
            self.theirs.setblocking(False)
            self.relay = RelayDescriptor(ours, reactor, turn_of(reactor), self.owner)
        else:
            read_end, self.to = os.pipe()
            self.frm, write_end = os.pipe()
            self.theirs = None
            os.set_blocking(self.frm, False)
            os.set_blocking(self.to, False)
            self.relay = RelayDescriptor.from_pipes(
                read_end, write_end, reactor, turn_of(reactor), self.owner
            )
        self.owner.relay = self.relay
        self.reactor = reactor

    def send(self, data):
        return self.theirs.send(data) if self.theirs else os.write(self.to, data)

    def receive(self, size=1 << 20):
        try:
            return self.theirs.recv(size) if self.theirs else os.read(self.frm, size)
        except BlockingIOError:
            return b""

    def hang_up(self):
        if self.theirs:
            self.theirs.close()
        else:
            os.close(self.to)
            os.close(self.frm)
            self.to = self.frm = -1

    def done(self):
        self.relay.close()
        if self.theirs:
            self.theirs.close()
        elif self.to >= 0:
            self.hang_up()


@pytest.fixture(params=["socket", "pipes"])
def rig(request, reactor):
    made = Rig(reactor, request.param)
    yield made
    made.done()


@pytest.fixture
def socket_rig(epoll):
    made = Rig(epoll, "socket")
    yield made
    made.done()


def test_bytes_from_the_worker_go_to_the_owner(rig):
    rig.send(b"hello")
    spin(rig.reactor, lambda: rig.owner.data)
    assert rig.owner.data == b"hello"


def test_output_is_pulled_at_the_end_of_the_turn_until_there_is_none(rig):
    rig.owner.output = [b"a", b"bc", b"def"]
    rig.relay.wake()
    rig.relay.wake()
    assert rig.owner.asked == 0
    spin(rig.reactor, lambda: rig.owner.asked == 4)
    assert rig.receive() == b"abcdef"
    turn(rig.reactor)
    assert rig.owner.asked == 4


def test_output_that_is_pushed_has_gone_before_push_returns(rig):
    rig.owner.output = [b"request"]
    rig.relay.push()
    assert rig.receive() == b"request"
    assert rig.owner.asked == 1
    rig.owner.output = [b"more"]
    rig.relay.wake()
    spin(rig.reactor, lambda: rig.owner.asked == 3)
    assert rig.receive() == b"more"


def test_what_push_cannot_send_whole_goes_on_when_there_is_room(rig):
    piece = bytes(range(256)) * 16384
    rig.owner.output = [piece]
    rig.relay.push()
    assert rig.owner.asked == 1
    rig.owner.output = [b"behind it"]
    rig.relay.push()  # not before the rest
    assert rig.owner.asked == 1
    got = bytearray()

    def all_there():
        got.extend(rig.receive())
        return len(got) == len(piece) + 9

    spin(rig.reactor, all_there)
    assert got == piece + b"behind it"


def test_a_push_to_a_worker_that_is_gone_tells_its_owner_later(rig):
    rig.hang_up()
    rig.owner.output = [b"request"]
    rig.relay.push()
    assert rig.owner.lost == []
    spin(rig.reactor, lambda: rig.owner.lost)
    assert len(rig.owner.lost) == 1


def test_output_beyond_what_the_kernel_takes_goes_on_when_there_is_room(rig):
    piece = bytes(range(256)) * 1024
    rig.owner.output = [piece] * 8
    rig.relay.wake()
    got = bytearray()

    def all_there():
        got.extend(rig.receive())
        return len(got) == 8 * len(piece)

    spin(rig.reactor, all_there)
    assert got == piece * 8
    assert rig.owner.output == []


def test_parts_are_written_as_one_and_what_the_kernel_leaves_of_them_follows(rig):
    parts = [b"head", memoryview(bytes(range(256)) * 4096), b"", b"more", bytes(700000)]
    sent = b"".join(parts)
    rig.owner.output = [list(parts), b"between", list(parts)]
    rig.relay.wake()
    got = bytearray()

    def all_there():
        got.extend(rig.receive())
        return len(got) == 2 * len(sent) + 7

    spin(rig.reactor, all_there)
    assert got == sent + b"between" + sent


def test_waking_while_the_kernel_is_full_loses_nothing(rig):
    rig.owner.output = [b"x" * 1000000]
    rig.relay.wake()
    turn(rig.reactor)
    rig.owner.output.append(b"last")
    rig.relay.wake()
    got = bytearray()

    def all_there():
        got.extend(rig.receive())
        return len(got) == 1000004

    spin(rig.reactor, all_there)
    assert got.endswith(b"xlast")
    # And the way back to sending at the turn's end is found.
    rig.owner.output.append(b"more")
    rig.relay.wake()
    spin(rig.reactor, lambda: got.extend(rig.receive()) or got.endswith(b"more"))


def test_an_owner_with_endless_output_lets_others_have_their_turn(socket_rig):
    rig = socket_rig
    rig.owner.output = [b"x"] * (3 * PIECES)
    rig.relay.wake()
    rig.reactor.iterate(0)
    assert rig.owner.asked <= 2 * PIECES
    spin(rig.reactor, lambda: not rig.owner.output)
    assert len(rig.receive()) == 3 * PIECES


def test_data_that_comes_with_the_end_is_not_lost(rig):
    rig.send(b"last words")
    rig.hang_up()
    spin(rig.reactor, lambda: rig.owner.lost)
    assert rig.owner.data == b"last words"
    assert rig.owner.lost == ["closed by the worker"]


def test_the_end_is_told_once_and_nothing_after_it(rig):
    rig.hang_up()
    spin(rig.reactor, lambda: rig.owner.lost)
    rig.relay.wake()
    rig.relay.resume_reading()
    rig.relay.pause_reading()
    rig.relay.close()
    turn(rig.reactor)
    assert len(rig.owner.lost) == 1
    assert rig.owner.asked == 0
    assert rig.relay.fileno() == -1


def test_a_worker_that_is_gone_while_we_write_is_read_first(rig):
    rig.relay.pause_reading()
    turn(rig.reactor)
    rig.send(b"an answer")
    rig.hang_up()
    rig.owner.output = [b"x"]
    rig.relay.wake()
    spin(rig.reactor, lambda: rig.owner.lost)
    assert rig.owner.data == b"an answer"
    assert "Broken pipe" in rig.owner.lost[0]


def test_a_hang_up_while_only_writing_is_watched_is_read_first(rig):
    rig.relay.pause_reading()
    rig.owner.output = [b"x" * 1000000]
    rig.relay.wake()
    turn(rig.reactor)
    rig.send(b"an answer")
    rig.hang_up()
    spin(rig.reactor, lambda: rig.owner.lost)
    assert rig.owner.data == b"an answer"


def test_paused_reading_leaves_bytes_where_they_are(rig):
    rig.relay.pause_reading()
    rig.send(b"later")
    turn(rig.reactor)
    assert rig.owner.data == b""
    rig.relay.resume_reading()
    spin(rig.reactor, lambda: rig.owner.data == b"later")


def test_pausing_in_the_middle_of_plentiful_data_stops_after_that_piece(socket_rig):
    rig = socket_rig
    take = rig.owner.relay_data

    def pause(data):
        take(data)
        rig.relay.pause_reading()

    rig.owner.relay_data = pause
    rig.send(b"x" * (2 * READ))
    turn(rig.reactor)
    assert rig.owner.pieces == [READ]
    rig.relay.resume_reading()
    spin(rig.reactor, lambda: sum(rig.owner.pieces) == 2 * READ)


def test_closing_in_the_middle_of_plentiful_data_ends_it(socket_rig):
    rig = socket_rig
    take = rig.owner.relay_data

    def close(data):
        take(data)
        rig.relay.close()

    rig.owner.relay_data = close
    rig.send(b"x" * (2 * READ))
    turn(rig.reactor)
    assert rig.owner.pieces == [READ]
    assert rig.owner.lost == []


def test_read_rest_gives_everything_though_paused_and_says_whether_it_ended(rig):
    rig.relay.pause_reading()
    rig.send(b"rest")
    assert rig.relay.read_rest() is False
    assert rig.owner.data == b"rest"
    rig.hang_up()
    assert rig.relay.read_rest() is True
    assert rig.owner.lost == []


def test_read_rest_ends_though_a_grandchild_goes_on_writing(socket_rig):
    rig = socket_rig
    take = rig.owner.relay_data

    def write_more(data):
        take(data)
        rig.send(b"more")

    rig.owner.relay_data = write_more
    rig.send(b"start")
    assert rig.relay.read_rest() is False
    assert len(rig.owner.pieces) == REST


def test_close_releases_both_ends_and_says_nothing(rig):
    rig.owner.output = [b"unsent"]
    rig.relay.wake()
    rig.relay.close()
    rig.relay.close()
    turn(rig.reactor)
    assert rig.owner.lost == []
    assert rig.owner.asked == 0
    assert not rig.reactor.getReaders() or rig.relay not in rig.reactor.getReaders()


def test_no_fd_is_left_open(epoll):
    before = fds()
    for kind in ("socket", "pipes"):
        Rig(epoll, kind).done()
    assert fds() == before


def test_an_owner_that_fails_while_reading_loses_only_its_own_relay(reactor):
    bad, good = Rig(reactor, "socket"), Rig(reactor, "socket")

    def fail(data):
        raise ValueError("told to")

    bad.owner.relay_data = fail
    bad.send(b"x")
    good.send(b"y")
    spin(reactor, lambda: bad.owner.lost and good.owner.data)
    assert bad.owner.lost == ["failed: told to"]
    assert good.owner.lost == []
    bad.done()
    good.done()


def test_an_owner_that_fails_while_writing_loses_only_its_own_relay(reactor):
    bad, good = Rig(reactor, "socket"), Rig(reactor, "socket")

    def fail():
        raise ValueError("told to")

    bad.owner.relay_output = fail
    good.owner.output = [b"y"]
    bad.relay.wake()
    good.relay.wake()
    spin(reactor, lambda: bad.owner.lost and good.receive() == b"y")
    assert good.owner.lost == []
    bad.done()
    good.done()


def test_a_reactor_that_stops_takes_what_is_there_and_tells_the_owner(socket_rig):
    rig = socket_rig
    rig.send(b"answer")
    rig.reactor.removeReader(rig.relay)
    rig.relay.connectionLost(Failure(ConnectionLost()))
    assert rig.owner.data == b"answer"
    assert len(rig.owner.lost) == 1


def test_our_end_of_a_pair_does_not_block_and_neither_is_inherited():
    ours, theirs = relay_pair()
    try:
        assert ours.gettimeout() == 0.0
        assert theirs.gettimeout() is None
        assert not os.get_inheritable(ours.fileno())
        assert not os.get_inheritable(theirs.fileno())
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) >= 212992
    finally:
        ours.close()
        theirs.close()


def test_megabytes_both_ways_at_once_arrive_in_order(rig):
    """With a worker that echoes: neither direction may wait for the other for ever."""
    size = 4 << 20
    sent = os.urandom(1 << 16) * (size >> 16)
    rig.owner.output = [sent[at : at + 100000] for at in range(0, size, 100000)]
    if rig.theirs:
        rig.theirs.setblocking(True)
        receive, send = rig.theirs.recv, rig.theirs.sendall
    else:
        os.set_blocking(rig.to, True)
        os.set_blocking(rig.frm, True)

        def receive(count):
            return os.read(rig.frm, count)

        def send(data):
            view = memoryview(data)
            while view:
                view = view[os.write(rig.to, view) :]

    def echo():
        left = size
        while left:
            data = receive(65536)
            send(data)
            left -= len(data)

    worker = threading.Thread(target=echo)
    worker.start()
    rig.relay.wake()
    spin(rig.reactor, lambda: len(rig.owner.data) == size)
    worker.join()
    assert rig.owner.data == sent


def test_what_the_kernel_did_not_take_is_told_once_closed(rig):
    rig.hang_up()
    rig.owner.output = [b"a call"]
    rig.relay.push()
    spin(rig.reactor, lambda: rig.owner.lost)
    assert rig.relay.unsent == 6


@pytest.mark.parametrize(("read", "unsent"), [(0, 10), (4, 6), (10, 0)])
def test_what_nobody_has_read_of_a_pipe_is_taken_back(epoll, read, unsent):
    rig = Rig(epoll, "pipes")
    rig.owner.output = [b"0123456789"]
    rig.relay.push()
    assert rig.receive(read) == b"0123456789"[:read]
    rig.relay.close()
    assert rig.relay.unsent == unsent
    assert rig.receive() == b""
    rig.done()


def test_what_a_socket_took_counts_as_read(socket_rig):
    socket_rig.owner.output = [b"0123456789"]
    socket_rig.relay.push()
    socket_rig.relay.close()
    assert socket_rig.relay.unsent == 0
