"""The section ``grpc`` as people write it."""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_rr.config import Registry, load
from twisted_rr.errors import ConfigError
from twisted_rr.plugins.grpc.config import GrpcSettings
from twisted_rr.plugins.grpc.connection import session_settings


def read(folder: Path, text: str) -> GrpcSettings:
    known = Registry()
    known.add("grpc", GrpcSettings)
    file = folder / "rr.yaml"
    file.write_text('version: "3"\ngrpc:\n' + "".join(f"  {line}\n" for line in text.splitlines()))
    settings = load(str(file), known, environ={}).settings("grpc")
    assert isinstance(settings, GrpcSettings)
    return settings


def refused(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder, text)
    return str(caught.value)


def test_roadrunners_own_example_is_understood(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text("message M {} service S { rpc R(M) returns (M); }")
    settings = read(
        tmp_path,
        f"""
listen: "tcp://127.0.0.1:9001"
proto:
  - "{tmp_path}/*.proto"
max_send_msg_size: 50
max_recv_msg_size: 50
max_connection_idle: 0s
max_connection_age: 0s
max_connection_age_grace: 0s
max_concurrent_streams: 10
ping_time: 1s
timeout: 200s
interceptors: []
env:
  name: value
pool:
  num_workers: 2
""",
    )
    assert settings.protos.methods.keys() == {b"/S/R"}
    assert settings.max_receive == settings.max_send == 50 << 20
    assert settings.env == {"NAME": "value"}
    assert session_settings(settings).max_streams == 10
    assert session_settings(settings).keepalive_time == 1.0
    assert session_settings(settings).keepalive_timeout == 200.0


def test_the_defaults_are_roadrunners(tmp_path: Path) -> None:
    settings = read(tmp_path, "listen: :9001")
    limits = session_settings(settings)
    assert (limits.max_streams, limits.keepalive_time, limits.keepalive_timeout) == (10, 7200.0, 20.0)
    assert (limits.idle_timeout, limits.max_age, limits.max_age_grace) == (0.0, 0.0, 0.0)
    assert settings.max_send == settings.max_receive == 50 << 20
    assert settings.protos.files == ()


def test_zero_is_the_default_where_it_is_in_roadrunner(tmp_path: Path) -> None:
    settings = read(tmp_path, "listen: :9001\nmax_send_msg_size: 0\nmax_concurrent_streams: 0")
    assert settings.max_send == 50 << 20
    assert session_settings(settings).max_streams == 10


def test_a_proto_that_does_not_parse_is_an_error_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "bad.proto").write_text('syntax = "proto3";\nmessage M {\n  int32 x 1;\n}\n')
    text = refused(tmp_path, f"listen: :9001\nproto:\n  - {tmp_path}/bad.proto")
    assert "rr.yaml:5" in text
    assert f"{tmp_path}/bad.proto:3:11: expected '=', not '1'" in text


def test_interceptors_are_refused_with_the_reason(tmp_path: Path) -> None:
    text = refused(tmp_path, "listen: :9001\ninterceptors:\n  - stat")
    assert "grpc.interceptors" in text
    assert "Go plugins" in text


def test_tls_needs_both_files(tmp_path: Path) -> None:
    assert "grpc.tls.key" in refused(tmp_path, "listen: :9001\ntls:\n  cert: x.pem")


def test_tls_files_that_are_not_here_are_a_warning_with_their_whole_path(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("")
    settings = read(tmp_path, "listen: :9001\ntls:\n  cert: c.pem\n  key: k.pem")
    assert settings.tls is not None and settings.tls.cert == f"{tmp_path}/c.pem"
    ((name, reason),) = settings.tls.warnings()
    assert name == "key" and reason.startswith(f"{tmp_path}/k.pem cannot be read here")


def test_listen_is_needed(tmp_path: Path) -> None:
    assert "grpc.listen" in refused(tmp_path, "pool:\n  num_workers: 1")


def test_two_readings_of_equal_files_are_equal(tmp_path: Path) -> None:
    (tmp_path / "a.proto").write_text("message M {} service S { rpc R(M) returns (M); }")
    text = f"listen: :9001\nproto:\n  - {tmp_path}/a.proto"
    first = read(tmp_path, text)
    assert first == read(tmp_path, text)
    (tmp_path / "a.proto").write_text("message M {} service T { rpc R(M) returns (M); }")
    assert first != read(tmp_path, text)
