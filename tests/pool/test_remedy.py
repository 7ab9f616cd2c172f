"""What is told beside the reason when a worker's program is not found."""

import os
import sys

from twisted_rr.pool.remedy import remedy, sought
from twisted_rr.pool.spec import LaunchSpec


def spec(command: str, folder: str = "/srv/shop") -> LaunchSpec:
    return LaunchSpec("python", ("python",), {"PATH": "/usr/bin:/bin"}, command, folder=folder)


def test_a_program_was_sought_in_path_or_where_its_path_leads() -> None:
    assert sought("php", spec("php w.php")) == "PATH is /usr/bin:/bin"
    assert sought("bin/php", spec("bin/php w.php")) == "/srv/shop/bin/php"
    assert sought("/opt/php", spec("/opt/php w.php")) == "/opt/php"
    assert sought("./w", spec("./w", folder="")) == f"{os.getcwd()}/./w"


def test_a_script_that_is_not_there_was_sought_in_the_working_directory() -> None:
    reason = (
        "the interpreter could not open the worker's script; it begins b'Could not open input file: w.php'"
    )
    assert remedy(reason, [], spec("php w.php")) == " (its working directory is /srv/shop)"
    assert os.getcwd() in remedy(reason, [], spec("php w.php", folder=""))


def test_a_python_without_the_package_is_told_from_the_servers_own() -> None:
    said = [
        "python: Error while finding module specification for 'twisted_rr.worker' (No module named 'twisted_rr')"
    ]
    found = remedy(
        "it ended before the handshake with exit code 1", said, spec("python -m twisted_rr.worker a:a")
    )
    assert found == f" ('python' is a Python without twisted_rr; the server's own is {sys.executable})"


def test_any_other_reason_says_it_all() -> None:
    said = ["ModuleNotFoundError: No module named 'flask'"]
    assert remedy("it ended before the handshake with exit code 3", said, spec("python w.py")) == ""
