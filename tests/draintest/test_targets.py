"""What the rig makes of a configuration before it starts anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from twisted_rr.draintest.target import Launch, from_config
from twisted_rr.errors import RRError


def launch(folder: Path, tls: str) -> Launch:
    for name in ("a.key", "a.pem", "ca.pem"):
        (folder / name).write_text("")
    file = folder / "rr.yaml"
    file.write_text(
        'version: "3"\nserver: {command: python}\n'
        f"grpc: {{listen: tcp://127.0.0.1:9001{tls}}}\nstatus: {{address: 127.0.0.1:2114}}\n"
    )
    return from_config(str(file), 0.1, str(folder), check_only=True)


@pytest.mark.parametrize(
    ("tls", "speaks"),
    [
        ("", False),
        (", tls: {key: a.key, cert: a.pem}", True),
        (
            ", tls: {key: a.key, cert: a.pem, root_ca: ca.pem, client_auth_type: verify_client_cert_if_given}",
            True,
        ),
    ],
)
def test_grpc_is_tried_in_the_clear_and_over_tls(tmp_path: Path, tls: str, speaks: bool) -> None:
    made = launch(tmp_path, tls)
    assert made.grpc is not None and made.grpc_tls is speaks


@pytest.mark.parametrize("more", ["root_ca: ca.pem", "client_auth_type: require_any_client_cert"])
def test_a_server_that_wants_certificates_of_clients_is_not_tried(tmp_path: Path, more: Any) -> None:
    with pytest.raises(RRError, match="certificates of clients"):
        launch(tmp_path, f", tls: {{key: a.key, cert: a.pem, {more}}}")
