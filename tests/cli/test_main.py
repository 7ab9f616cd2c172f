"""The commands that start nothing: what they print and how they exit."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from twisted.internet.testing import MemoryReactorClock

import twisted_rr
from twisted_rr import discovery
from twisted_rr.build import Builder, read_config
from twisted_rr.cli.main import cli
from twisted_rr.discovery import ServerPlugin, discover
from twisted_rr.errors import PluginLoadError
from twisted_rr.tap import Options, _OfThisProcess


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def invoke(*words: str):
        return CliRunner().invoke(cli, list(words))

    return invoke


GOOD = 'version: "3"\nserver: {command: "php worker.php"}\nhttp: {address: "127.0.0.1:8080"}\n'


def test_version(run):
    first, second = run("--version").output.splitlines()[:2]
    assert first == f"twisted-rr {twisted_rr.__version__}"
    assert second.startswith(("pure Python, ", "compiled, "))


def test_check_of_a_good_file(run, tmp_path):
    (tmp_path / ".rr.yaml").write_text(GOOD)
    result = run("config", "check")
    assert result.exit_code == 0 and "valid" in result.output


def test_check_prints_all_problems_at_once(run, tmp_path):
    (tmp_path / ".rr.yaml").write_text(
        GOOD.replace("address", "adress") + "http2: {}\nstatus: {address: 1.5, check_timeout: soon}\n"
    )
    result = run("config", "check")
    assert result.exit_code == 1
    for wrong in ("adress", "http2", "status.address", "check_timeout", ".rr.yaml:3:"):
        assert wrong in result.output


def test_check_as_json(run, tmp_path):
    (tmp_path / ".rr.yaml").write_text(GOOD.replace("address", "adress"))
    result = run("config", "check", "--json")
    report = json.loads(result.output)
    assert result.exit_code == 1
    assert ("http.adress", 3) in [(error["path"], error["line"]) for error in report["errors"]]


def test_show_applies_overrides_and_masks_secrets(run, tmp_path):
    (tmp_path / ".rr.yaml").write_text(GOOD + "env: {API_TOKEN: geheim}\n")
    output = run("config", "show", "-o", "http.pool.num_workers=7").output
    assert "num_workers: 7" in output and "geheim" not in output


def test_the_schema_knows_every_section(run):
    schema = json.loads(run("config", "schema").output)
    assert {"http", "server", "status", "logs", "endure", "drain"} <= set(schema["properties"])


def test_init_writes_a_file_that_checks(run, tmp_path):
    (tmp_path / "app.py").write_text("app = 1\n")
    result = run("init")
    assert result.exit_code == 0 and "app:app" in result.output
    assert "#" in (tmp_path / ".rr.yaml").read_text()
    assert run("config", "check").exit_code == 0


def test_init_overwrites_only_when_told(run, tmp_path):
    (tmp_path / ".rr.yaml").write_text("mine")
    assert run("init", "app:app").exit_code == 1
    assert (tmp_path / ".rr.yaml").read_text() == "mine"
    assert run("init", "app:app", "--force").exit_code == 0


def test_init_without_an_application_says_what_to_say(run):
    result = run("init")
    assert result.exit_code == 1 and "MODULE:ATTRIBUTE" in result.output


def test_print_config_reads_back_the_same(run, tmp_path):
    output = run("serve", "app:app", "--port", "5000", "--workers", "3", "--print-config").output
    (tmp_path / "printed.yaml").write_text(output)
    assert run("config", "check", "printed.yaml").exit_code == 0
    assert ":5000" in output and "num_workers: 3" in output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("serve",), "say what to serve"),
        (("serve", "app"), "such as app:app"),
        (("serve", "app.py"), "such as app:app"),
        (("serve", "./shop/web.py:site"), "such as shop.web:site"),
        (("serve", ":app"), "names no module"),
        (("serve", "app:app", "--status", "127.0.0.1"), "--status: expected"),
        (("init", "app.py"), "such as app:app"),
        (("init", "app:app", "--output", "no/such/x.yaml"), "cannot write no/such/x.yaml"),
        (("serve", "app:app", "-c", "x.yaml"), "not both"),
        (("serve", "-c", "x.yaml", "--port", "1"), "--port"),
        (("serve", "-c", "no/such/x.yaml"), "no/such"),
        (("serve", "app:app", "--port", "70000"), "70000"),
    ],
)
def test_wrong_use_is_explained(run, words, said):
    result = run(*words)
    assert result.exit_code != 0 and said in result.output
    assert "Traceback" not in result.output and "<memory>" not in result.output


def test_a_missing_file_is_one_line(run):
    result = run("serve", "-c", "absent.yaml")
    assert result.exit_code == 1
    assert "absent.yaml" in result.output and "Traceback" not in result.output


def test_check_adds_up_the_budget_of_a_stop(run, tmp_path):
    (tmp_path / ".rr.yaml").write_text(GOOD + "endure: {grace_period: 5s}\ndrain: {finish: 4s, flush: 2s}\n")
    result = run("config", "check")
    assert result.exit_code == 1
    assert "finish 4s" in result.output and "flush 2s" in result.output and "budget of 5s" in result.output


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ("endure:\n  grace_period: 0s\n", "4:3: endure.grace_period: "),
        ("endure:\n  grace_period: 5s\ndrain:\n  flush: 9s\n", "5:1: drain: "),
        ("drain:\n  stream_grace: 1h\n", "4:3: drain.stream_grace: "),
        ("drain:\n  announce:\n    min: 2s\n    max: 1s\n", "5:5: drain.announce.min: "),
    ],
)
def test_a_budget_that_does_not_fit_is_shown_where_it_was_written(run, tmp_path, keys, place):
    file = tmp_path / "rr.yaml"
    file.write_text('version: "3"\nserver: {command: x}\n' + keys)
    done = run("config", "check", str(file))
    assert done.exit_code == 1
    assert f"error: {file}:{place}" in done.output


def test_no_line_of_help_is_cut(run):
    """Where it is piped, as into a pager, there are 80 columns."""
    for words in ((), ("config",)):
        assert "..." not in run(*words, "--help").output.partition("Commands:")[2]


def test_a_file_without_end_is_given_up(run):
    result = run("config", "check", "/dev/zero")
    assert result.exit_code == 1 and "larger than 16 MiB" in result.output


# ------------------------------------------------------------------------- relative paths

NAMES_A_FILE = GOOD + "logs: {output: log/rr.log}\ngrpc: {listen: ':9001', proto: [api/*.proto]}\n"


@pytest.fixture
def folder(tmp_path):
    """A configuration in a folder of its own, and another that has what it names."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/rr.yaml").write_text(NAMES_A_FILE)
    for name in ("conf", "app"):
        (tmp_path / name / "api").mkdir(parents=True)
    (tmp_path / "conf/api/a.proto").write_text('syntax = "proto3"; package conf;')
    return tmp_path


def test_files_are_sought_beside_the_configuration_whoever_looks(run, folder):
    for words in (
        ("config", "check", "conf/rr.yaml"),
        ("config", "show", "conf/rr.yaml"),
        ("serve", "-c", "conf/rr.yaml", "--print-config"),
    ):
        result = run(*words)
        assert result.exit_code == 0, result.output


def test_the_path_that_was_tried_is_told_whole(run, folder):
    (folder / "conf/api/a.proto").unlink()
    assert (
        f"grpc.proto: {folder}/conf/api/*.proto: no file matches"
        in run("config", "check", "conf/rr.yaml").output
    )
    assert f"cannot read {folder}/none.yaml: No such file" in run("config", "check", "none.yaml").output


def test_a_working_directory_is_where_every_path_begins_that_of_the_configuration_too(run, folder):
    """As RoadRunner has it."""
    for words in (("config", "check"), ("serve", "--print-config", "-c")):
        result = run(*words, "../conf/rr.yaml", "-w", "app")
        assert result.exit_code == 1 and f"{folder}/app/api/*.proto" in result.output, result.output
        (folder / "app/api/a.proto").write_text('syntax = "proto3"; package app;')
        os.chdir(folder)  # `serve` went elsewhere
        assert run(*words, "../conf/rr.yaml", "-w", "app").exit_code == 0
        os.chdir(folder)
        assert run(*words, "conf/rr.yaml", "-w", "app").exit_code == 1
        os.chdir(folder)
        (folder / "app/api/a.proto").unlink()


def test_under_twistd_they_are_the_same(folder, monkeypatch):
    monkeypatch.chdir(folder)
    options = Options()
    options.parseOptions(["--config", "conf/rr.yaml"])
    assert options["settings"].settings("logs").output == (f"{folder}/conf/log/rr.log",)


def test_workers_run_in_the_folder_of_relative_files(folder, monkeypatch):
    monkeypatch.chdir(folder)
    source = str(folder / "conf/rr.yaml")
    for workdir, expected in ((None, "conf"), ("app", "app")):
        if workdir:
            (folder / "app/api/a.proto").write_text('syntax = "proto3"; package app;')
        config = read_config(source, workdir=workdir)
        server = Builder(config, MemoryReactorClock(), {}, environ={}, clock=None, on_failure=None)
        assert server.server_settings(config).directory == str((folder / expected).resolve())


# --------------------------------------------------------------------------- what is odd


def test_a_plugin_that_cannot_be_loaded_is_told_in_a_line_by_every_command(run, monkeypatch, tmp_path):
    (tmp_path / ".rr.yaml").write_text(GOOD)
    plugins = discover()

    def broken():
        raise PluginLoadError("extra", "no module")

    commands = (("config", "show"), ("config", "schema"), ("init", "app:app", "--output", "-"))
    monkeypatch.setattr(discovery, "discover", broken)
    for words in commands:
        result = run(*words)
        assert result.exit_code == 1
        assert result.output == "plugin 'extra' cannot be loaded: no module\n"
    extra = ServerPlugin("extra", "one more", "no.such.module")
    monkeypatch.setattr(discovery, "discover", lambda: {**plugins, "extra": extra})
    result = run("config", "schema")
    assert result.exit_code == 1 and result.output.startswith("plugin 'extra' cannot be loaded: importing")


def test_secrets_of_a_file_are_masked_whoever_shows_it(run, tmp_path):
    (tmp_path / ".rr.yaml").write_text(GOOD + "env: {API_TOKEN: geheim}\n")
    result = run("serve", "--print-config")
    assert result.exit_code == 0 and "API_TOKEN" in result.output and "geheim" not in result.output


@pytest.mark.parametrize("option", ["--port", "--workers"])
def test_an_option_that_has_no_effect_is_refused_if_it_is_zero_too(run, tmp_path, option):
    (tmp_path / ".rr.yaml").write_text(GOOD)
    result = run("serve", "--print-config", option, "0")
    assert result.exit_code == 2 and f"{option}: only with MODULE:ATTRIBUTE" in result.output


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["serve", "app:app"], 2, "cannot work in this folder: No such file or directory"),
        (["status"], 3, "no server there"),
    ],
)
def test_a_folder_that_was_removed_is_no_place_to_work_in(tmp_path, command, code, told):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = 'cd "$1" && rmdir "$1" && shift && exec "$@"'
    words = ["sh", "-c", script, "sh", str(gone), sys.executable, "-m", "twisted_rr.cli.entry", *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert (done.returncode, told in done.stderr, "Traceback" in done.stderr) == (code, True, False)


def test_streams_that_are_closed_lead_nowhere_and_give_nobody_their_numbers(tmp_path):
    code = (
        "import os, sys; from twisted_rr.cli.entry import open_streams; open_streams();"
        "sys.stdout.write('x'); sys.stderr.write('x'); sys.stdin.read(1);"
        f"next = os.open({str(tmp_path / 'next')!r}, os.O_CREAT | os.O_WRONLY);"
        "same = [os.path.samefile(f'/proc/self/fd/{n}', os.devnull) for n in range(3)];"
        "os.write(next, repr((next, same)).encode())"
    )
    script = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(["sh", "-c", script, "sh", sys.executable, "-c", code], timeout=60)
    assert done.returncode == 0
    assert (tmp_path / "next").read_text() == "(3, [True, True, True])"


@pytest.mark.parametrize(
    ("twistd", "output"),
    [
        ({"nodaemon": True}, "stderr"),
        ({"logfile": "-"}, "stdout"),
        ({"nodaemon": False}, "{}/twistd.log"),
        ({"nodaemon": True, "logfile": "a.log"}, "{}/a.log"),
        ({"logfile": "/a.log"}, "/a.log"),
    ],
)
def test_the_log_of_twistd_is_the_same_file_wherever_it_works_later(monkeypatch, tmp_path, twistd, output):
    monkeypatch.chdir(tmp_path)
    assert _OfThisProcess._log_output(SimpleNamespace(_twistd=twistd)) == output.format(tmp_path)
