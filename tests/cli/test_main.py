"""The commands that start nothing: what they print and how they exit."""

import json
import os

import pytest
from click.testing import CliRunner
from twisted.internet.testing import MemoryReactorClock

import twisted_rr
from twisted_rr.build import Builder, read_config
from twisted_rr.cli.main import cli
from twisted_rr.tap import Options


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
