"""The package as a stranger gets it: wheel and editable install in empty environments, the README's first screen."""

import http.client
import importlib.metadata
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
import venv
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from twisted_rr import compiled

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [pytest.mark.integration, pytest.mark.slow]


checkout = pytest.mark.skipif(not (ROOT / "twisted_rr").is_dir(), reason="the source is not here")


def run(*command, **kw) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=600, **kw)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy of what git tracks, so that nothing lying about is packed."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    files = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, source)
    return next(folder.glob("*.whl"))


def empty_environment(folder: Path) -> Path:
    venv.create(folder, with_pip=True, symlinks=True)
    return folder / "bin"


def clean() -> dict[str, str]:
    """Our environment without what would let the checkout be found."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


@checkout
def test_the_wheel_holds_the_package_and_one_file_of_twisted(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert [name for name in names if name.startswith("twisted/")] == ["twisted/plugins/rr_plugin.py"]
    assert "twisted_rr/pool/launch.py" in names and "twisted_rr/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "docs", "examples", "benchmarks"))]


@checkout
def test_the_source_distribution_has_the_protocol_with_its_vectors(tmp_path):
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "--outdir", tmp_path, ROOT)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    vectors = {f"tests/wire/vectors/{name}.json" for name in ("frames", "mux", "contexts")}
    assert vectors | {"docs/worker-protocol.md", "tests/integration/workers/mux_plain.py"} <= names


@checkout
def test_a_wheel_in_an_empty_environment_is_found_by_twistd_and_serves(wheel, tmp_path):
    """What the README's first screen says, in an environment that holds nothing else."""
    bin = empty_environment(tmp_path / "env")
    run(bin / "pip", "install", "--quiet", wheel, "fastapi", env=clean())
    assert re.search(r"^\s+rr\s", run(bin / "twistd", "--help", env=clean(), cwd=tmp_path), re.M)
    assert "rr" in run(bin / "twistd", "--help-reactors", env=clean(), cwd=tmp_path)
    (tmp_path / "app.py").write_text(
        "from fastapi import FastAPI\napp = FastAPI()\n\n@app.get('/')\ndef index():\n    return {'hello': 'world'}\n"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [str(bin / "twisted-rr"), "serve", "app:app", "--port", str(port), "--status", "127.0.0.1:0"],
        cwd=tmp_path,
        env=clean(),
    )
    try:
        body = None
        for _ in range(600):
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
                connection.request("GET", "/")
                body = connection.getresponse().read()
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.05)
        assert body == b'{"hello":"world"}'
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0
    finally:
        server.kill()
        server.wait()


@checkout
def test_an_editable_install_is_found_by_twistd(tmp_path):
    source = tmp_path / "source"
    run("git", "clone", "--quiet", ROOT, source)
    bin = empty_environment(tmp_path / "env")
    run(bin / "pip", "install", "--quiet", "-e", source, env=clean())
    assert re.search(r"^\s+rr\s", run(bin / "twistd", "--help", env=clean(), cwd=tmp_path), re.M)


@pytest.mark.skipif(
    not compiled.compiled_modules(), reason="the package under test is not the compiled build"
)
def test_an_installed_compiled_wheel_is_of_this_platform_and_holds_every_source_beside_its_extension():
    """Of the wheel that the compiled suite has installed: Python falls back to the sources where extensions do not fit."""
    files = {str(file): file for file in importlib.metadata.files("twisted_rr") or ()}
    tags = importlib.metadata.distribution("twisted_rr").read_text("WHEEL") or ""
    this = "cp%d%d" % sys.version_info[:2]
    assert re.search(rf"^Tag: {this}-{this}-linux_\w+$", tags, re.M) and "Root-Is-Purelib: false" in tags
    modules = [name.replace(".", "/") for name in compiled.compiled_modules()]
    assert len(modules) > 80
    for name in modules:
        assert f"{name}.py" in files and f"{name}{EXTENSION_SUFFIXES[0]}" in files


def test_importing_the_package_loads_no_reactor():
    code = "import sys, twisted_rr, twisted.plugins.rr_plugin, twisted_rr.build; print('twisted.internet.reactor' in sys.modules)"
    assert run(sys.executable, "-c", code) == "False\n"
