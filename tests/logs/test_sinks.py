"""Sinks neither block nor raise, whatever their other end does."""

import errno
import fcntl
import gzip
import os
import pty
import socket
from types import SimpleNamespace

import pytest

from twisted_rr.logs import rotation, sinks
from twisted_rr.logs.outlet import Outlet, Route
from twisted_rr.logs.rotation import RotatingSink
from twisted_rr.logs.sinks import MAX_PENDING, FileSink, Sink, StreamSink

LINE = b"x" * 1023 + b"\n"


class Scripted(Sink):
    """Takes what its script says: a number of bytes, or an errno to fail with."""

    def __init__(self, *script):
        super().__init__("scripted")
        self.script = list(script)
        self.taken = b""
        self.note = lambda count: b"%d lost\n" % count

    def _send(self, data):
        step = self.script.pop(0) if self.script else len(data)
        if step < 0:
            raise OSError(-step, os.strerror(-step))
        self.taken += bytes(data[:step])
        return min(step, len(data))


@pytest.fixture
def pipe():
    read, write = os.pipe()
    yield read, write
    for fd in (read, write):
        try:
            os.close(fd)
        except OSError:
            pass


def read_all(fd):
    os.set_blocking(fd, False)
    found = b""
    try:
        while piece := os.read(fd, 1 << 16):
            found += piece
    except BlockingIOError:
        pass
    return found


def test_short_writes_are_continued():
    sink = Scripted(2, 1)
    sink.write(b"hello\n")
    assert sink.taken == b"hello\n"


@pytest.mark.parametrize("code", [errno.EAGAIN, errno.ENOSPC, errno.EINTR, errno.EDQUOT])
def test_what_cannot_be_taken_now_waits_in_order(code):
    stalled = []
    sink = Scripted(2, -code, -code)
    sink.stalled = lambda: stalled.append(1)
    sink.write(b"one\n")
    sink.write(b"two\n")
    assert sink.pending
    assert sink.taken == b"on"
    sink.write(b"three\n")
    assert not sink.pending
    assert (sink.taken, sink.dropped) == (b"one\ntwo\nthree\n", 0)
    assert stalled == [1, 1]


@pytest.mark.parametrize("code", [errno.EPIPE, errno.EIO, errno.EBADF])
def test_what_fails_is_dropped_counted_and_told_once_it_works_again(code):
    sink = Scripted(-code, -code)
    sink.write(b"one\n")
    sink.write(b"two\nmore\n")
    assert sink.dropped >= 3
    sink.write(b"three\n")
    assert sink.taken.endswith(b" lost\nthree\n")
    sink.write(b"four\n")
    assert sink.taken.count(b"lost") == 1


def test_a_stalled_sink_keeps_only_so_much():
    sink = Scripted(*[-errno.EAGAIN] * 3000)
    for _ in range(2000):
        sink.write(LINE)
    assert sink.dropped == 2000 - MAX_PENDING // len(LINE)
    sink.script.clear()
    sink.write(b"end\n")
    assert sink.taken == LINE * (MAX_PENDING // len(LINE)) + b"%d lost\nend\n" % sink.dropped


class Counted(Sink):
    """Takes nothing, and counts what it was shown."""

    shown = 0

    def _send(self, data):
        self.shown += len(data)
        raise BlockingIOError(errno.EAGAIN, "full")


def test_a_line_for_a_stalled_sink_costs_the_same_however_much_waits():
    sink = Counted("counted")
    while not sink.dropped:
        sink.write(LINE)
    sink.shown = 0
    for _ in range(100):
        sink.write(LINE)
    assert sink.shown <= 100 * MAX_PENDING // 32


def test_a_line_that_would_be_lost_is_not_made():
    sink, made = Counted("counted"), []

    def form(event):
        made.append(event["number"])
        return LINE

    outlet = Outlet(Route("debug", ((form, sink),)), {})
    for number in range(2000):
        outlet({"number": number})
    assert made == list(range(MAX_PENDING // len(LINE) - 7))
    assert sink.dropped == 2000 - len(made)
    sink._send = lambda data: len(data)
    outlet({"number": 2000})
    assert made[-1] == 2000


def test_what_waits_for_a_reader_that_is_gone_is_dropped_line_by_line():
    sink = Scripted(-errno.EAGAIN, -errno.EAGAIN, -errno.EPIPE)
    sink.write(b"one\n")
    sink.write(b"two\n")
    sink.flush()
    assert (sink.dropped, sink.pending) == (2, False)
    sink.write(b"three\n")
    assert sink.taken == b"2 lost\nthree\n"


def test_flush_without_anything_waiting_does_nothing():
    sink = Scripted(-errno.EIO)
    sink.flush()
    assert sink.script == [-errno.EIO]


def test_a_base_sink_takes_nothing_by_itself():
    with pytest.raises(NotImplementedError):
        Sink("x").write(b"a\n")
    Sink("x").reopen()
    Sink("x").close()


# ------------------------------------------------------------------------------ streams


def test_a_full_pipe_never_blocks_and_its_description_stays_blocking(pipe):
    read, write = pipe
    sink = StreamSink("stderr", write)
    for _ in range(2000):
        sink.write(LINE)
    assert sink.pending
    assert fcntl.fcntl(write, fcntl.F_GETFL) & os.O_NONBLOCK == 0
    found = read_all(read)
    while sink.pending:
        sink.flush()
        found += read_all(read)
    assert found == LINE * (len(found) // 1024)
    assert len(found) // 1024 + sink.dropped == 2000
    sink.close()


def test_a_pipe_that_cannot_be_opened_anew_is_polled(pipe, monkeypatch):
    read, write = pipe
    monkeypatch.setattr(
        sinks.os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "no"))
    )
    sink = StreamSink("stderr", write)
    for _ in range(200):
        sink.write(LINE)
    assert sink.pending
    found = read_all(read)
    while sink.pending:
        sink.flush()
        found += read_all(read)
    assert found == LINE * 200
    sink.close()


def test_a_reader_that_went_away_is_no_matter(pipe):
    read, write = pipe
    sink = StreamSink("stderr", write)
    os.close(read)
    sink.write(LINE)
    assert sink.dropped == 1
    sink.close()


def test_a_socket_is_sent_to_without_blocking():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sink = StreamSink("stderr", ours.fileno())
        sink.write(b"hello\n")
        assert theirs.recv(100) == b"hello\n"
        for _ in range(2000):
            sink.write(LINE)
        assert sink.pending
        theirs.close()
        sink.flush()
        assert not sink.pending
        assert sink.dropped > 0
        sink.close()


def test_a_terminal_is_known_and_written_to():
    master, slave = pty.openpty()
    sink = StreamSink("stderr", slave)
    assert sink.is_terminal
    sink.write(b"hello\n")
    assert os.read(master, 100) == b"hello\r\n"
    sink.close()
    assert not sink.is_terminal
    os.close(master)
    os.close(slave)


def test_a_closed_stream_takes_nothing_and_later_owners_of_its_number_get_nothing(tmp_path):
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    os.close(fd)
    sink = StreamSink("stderr", fd)
    stranger = os.open(tmp_path / "y", os.O_RDWR | os.O_CREAT)
    assert stranger == fd
    sink.write(b"secret\n")
    assert os.pread(stranger, 100, 0) == b""
    assert sink.dropped == 1
    os.close(stranger)


def test_reopen_follows_a_number_that_was_given_away(tmp_path):
    one = os.open(tmp_path / "one", os.O_RDWR | os.O_CREAT)
    two = os.open(tmp_path / "two", os.O_RDWR | os.O_CREAT)
    sink = StreamSink("stderr", one)
    sink.write(b"1\n")
    os.dup2(two, one)
    sink.write(b"2\n")
    sink.reopen()
    sink.write(b"3\n")
    assert (tmp_path / "one").read_bytes() == b"1\n2\n"
    assert (tmp_path / "two").read_bytes() == b"3\n"
    sink.close()
    os.close(one)
    os.close(two)


def test_drain_waits_for_a_reader_but_not_for_ever(pipe):
    read, write = pipe
    sink = StreamSink("stderr", write)
    for _ in range(100):
        sink.write(LINE)
    moments = iter([0.0, 0.5, 2.0])
    sink.drain(0.001, now=lambda: next(moments, 9.0))
    assert sink.pending
    read_all(read)
    sink.drain(1.0)
    assert not sink.pending
    sink.close()


def test_drain_goes_on_as_long_as_something_is_taken():
    read, write = os.pipe()
    sink = Scripted(-errno.EAGAIN, -errno.EAGAIN, 2, -errno.EAGAIN)
    sink._fd = write
    sink.write(b"hello\n")
    sink.drain(60.0, now=lambda: 0.0)
    assert (sink.taken, sink.pending) == (b"hello\n", False)
    os.close(read)
    os.close(write)


def test_drain_gives_a_full_disk_up(tmp_path):
    class Full(FileSink):
        def _send(self, data):
            raise OSError(errno.ENOSPC, "full")

    sink = Full(str(tmp_path / "x"))
    sink.write(b"a\n")
    sink.drain(60.0, now=lambda: 0.0)
    assert sink.pending
    sink.close()


# -------------------------------------------------------------------------------- files


def test_a_file_is_appended_to_and_reopened_after_it_was_moved(tmp_path):
    path = tmp_path / "a.log"
    path.write_bytes(b"old\n")
    sink = FileSink(str(path))
    sink.write(b"1\n")
    path.rename(tmp_path / "moved")
    sink.write(b"2\n")
    sink.reopen()
    sink.write(b"3\n")
    assert (tmp_path / "moved").read_bytes() == b"old\n1\n2\n"
    assert path.read_bytes() == b"3\n"
    assert path.stat().st_mode & 0o777 & ~0o640 == 0
    sink.close()
    sink.close()


def test_a_file_that_cannot_be_reopened_goes_on_with_the_old_one(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = FileSink(str(folder / "a.log"))
    folder.rename(tmp_path / "moved")
    sink.reopen()
    sink.write(b"1\n")
    assert (tmp_path / "moved/a.log").read_bytes() == b"1\n"
    assert sink.dropped == 1
    sink.close()


def test_a_file_that_cannot_be_opened_is_an_error_at_once(tmp_path):
    with pytest.raises(OSError):
        FileSink(str(tmp_path / "none/a.log"))


# ----------------------------------------------------------------------------- rotation


def rotating(tmp_path, clock, **options):
    defaults = {"max_bytes": 20, "max_backups": 0, "max_age": 0, "compress": False}
    return RotatingSink(str(tmp_path / "a.log"), **{**defaults, **options}, now=lambda: clock[0])


def names(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir())


def test_a_file_is_rotated_before_it_gets_too_big(tmp_path):
    clock = [1_700_000_000.25]
    (tmp_path / "a.log").write_bytes(b"123456789\n")
    sink = rotating(tmp_path, clock)
    sink.write(b"987654321\n")
    sink.write(b"new\n")
    assert names(tmp_path) == ["a-2023-11-14T22-13-20.250.log", "a.log"]
    assert (tmp_path / "a-2023-11-14T22-13-20.250.log").read_bytes() == b"123456789\n987654321\n"
    assert (tmp_path / "a.log").read_bytes() == b"new\n"
    sink.close()


def test_a_line_longer_than_the_limit_has_a_file_of_its_own(tmp_path):
    sink = rotating(tmp_path, [1_700_000_000.0])
    sink.write(b"x" * 50 + b"\n")
    assert names(tmp_path) == ["a.log"]
    sink.close()


def test_old_files_go_by_number(tmp_path):
    clock = [1_700_000_000.0]
    (tmp_path / "a-other.log").write_bytes(b"not ours")
    sink = rotating(tmp_path, clock, max_backups=2)
    for number in range(5):
        clock[0] += 1
        sink.write(b"%d23456789012345678\n" % number)
    assert [path.name for path in sink.backups()] == [
        "a-2023-11-14T22-13-25.000.log",
        "a-2023-11-14T22-13-24.000.log",
    ]
    assert "a-other.log" in names(tmp_path)
    sink.close()


def test_old_files_go_by_age(tmp_path):
    clock = [1_700_000_000.0]
    sink = rotating(tmp_path, clock, max_age=3)
    old = tmp_path / "a-2023-11-01T00-00-00.000.log.gz"
    young = tmp_path / "a-2023-11-13T00-00-00.000.log"
    (tmp_path / "a-2023-11-12T00-00-00.000.log").symlink_to(tmp_path / "nowhere")
    for path, days in ((old, 13), (young, 2)):
        path.write_bytes(b"x")
        os.utime(path, (clock[0] - days * 86400,) * 2)
    sink.write(b"123456789012345678\n")
    sink.write(b"2\n")
    assert old.name not in names(tmp_path)
    assert young.name in names(tmp_path)
    sink.close()


def test_old_files_are_compressed_by_the_time_the_sink_is_drained(tmp_path):
    clock = [1_700_000_000.0]
    sink = rotating(tmp_path, clock, compress=True)
    for number in range(3):
        clock[0] += 1
        sink.write(b"%d23456789012345678\n" % number)
    sink.drain(1.0)
    sink.close()
    packed = [path for path in tmp_path.iterdir() if path.suffix == ".gz"]
    assert packed
    assert gzip.decompress(sorted(packed)[-1].read_bytes()) == b"123456789012345678\n"


def test_a_compressed_file_may_be_read_by_those_who_may_read_the_log(tmp_path):
    clock = [1_700_000_000.0]
    before = os.umask(0o022)
    try:
        sink = rotating(tmp_path, clock, compress=True)
        sink.write(b"123456789012345678\n")
        sink.write(b"2\n")
        sink.drain(1.0)
    finally:
        os.umask(before)
    sink.close()
    assert {path.suffix: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        ".log": 0o640,
        ".gz": 0o640,
    }


def test_what_cannot_be_compressed_stays_and_nothing_half_done_does(tmp_path, monkeypatch):
    def full(source, target):
        target.write(b"some")
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(rotation.shutil, "copyfileobj", full)
    sink = rotating(tmp_path, [1_700_000_000.0], compress=True)
    sink.write(b"123456789012345678\n")
    sink.write(b"2\n")
    sink.drain(1.0)
    sink.close()
    assert names(tmp_path) == ["a-2023-11-14T22-13-20.000.log", "a.log"]


@pytest.mark.parametrize("do", [lambda sink: sink.write(b"223456789012345678\n"), Sink.reopen, Sink.close])
def test_nobody_waits_while_an_old_file_is_being_compressed(tmp_path, monkeypatch, do):
    waited = []
    working = SimpleNamespace(start=lambda: None, join=waited.append, is_alive=lambda: True)
    monkeypatch.setattr(rotation.threading, "Thread", lambda **what: working)
    clock = [1_700_000_000.0]
    sink = rotating(tmp_path, clock, compress=True)
    sink.write(b"123456789012345678\n")
    sink.write(b"123456789012345678\n")
    clock[0] += 1
    # By the name, so that each way is that of this class.
    do(sink) if do.__name__ == "<lambda>" else getattr(sink, do.__name__)()
    assert not any(waited)
    sink.close()


def test_a_file_that_was_removed_is_made_again_when_it_would_be_rotated(tmp_path):
    sink = rotating(tmp_path, [1_700_000_000.0])
    sink.write(b"123456789012345678\n")
    (tmp_path / "a.log").unlink()
    sink.write(b"2\n")
    assert (tmp_path / "a.log").read_bytes() == b"2\n"
    assert sink.dropped == 0
    sink.close()


def test_what_is_no_regular_file_is_never_renamed(tmp_path):
    os.mkfifo(tmp_path / "a.log")
    reader = os.open(tmp_path / "a.log", os.O_RDONLY | os.O_NONBLOCK)
    sink = rotating(tmp_path, [1_700_000_000.0])
    sink.write(b"123456789012345678\n")
    sink.write(b"2\n")
    assert os.read(reader, 100) == b"123456789012345678\n2\n"
    assert names(tmp_path) == ["a.log"]
    sink.close()
    os.close(reader)


def test_a_rotation_that_fails_loses_no_line(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    sink = rotating(folder, [1_700_000_000.0])
    sink.write(b"123456789012345678\n")
    folder.rename(tmp_path / "moved")
    sink.write(b"2\n")
    assert (tmp_path / "moved/a.log").read_bytes() == b"123456789012345678\n2\n"
    assert sink.backups() == []
    sink.close()


def test_reopen_counts_the_new_file_s_bytes(tmp_path):
    sink = rotating(tmp_path, [1_700_000_000.0])
    sink.write(b"123456789012345678\n")
    (tmp_path / "a.log").rename(tmp_path / "away")
    sink.reopen()
    sink.write(b"1\n")
    assert names(tmp_path) == ["a.log", "away"]
    sink.close()
