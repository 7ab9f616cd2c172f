"""From files to settings: order, includes, dotenv, overrides, versions, sections that are not served."""

import json
from pathlib import Path

import attrs
import pytest
from sample import SampleHttp, SamplePool, registry

from twisted_rr import __version__
from twisted_rr.config import Registry, kinds, load
from twisted_rr.config.nodes import Mark, Scalar
from twisted_rr.config.report import INVALID, Place, Report
from twisted_rr.config.sections import LogSettings
from twisted_rr.errors import ConfigError

GOOD = 'version: "3"\nserver: {command: php w.php}\nhttp:\n  address: 127.0.0.1:80\n'


def problems(source, *overrides, environ=None, **options):
    with pytest.raises(ConfigError) as caught:
        load(source, registry(), overrides, environ, **options)
    return [str(one) for one in caught.value.problems]


def warnings(config):
    return [str(one) for one in config.warnings]


@pytest.fixture
def write(tmp_path):
    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_a_working_directory_that_was_removed_does_not_matter_to_whole_paths(write, tmp_path, monkeypatch):
    folder = write(rr_yaml=GOOD + "include: [a.yaml]\n", a_yaml='version: "3"\n')
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load(folder / "rr.yaml", registry(), directory=folder, workdir=folder).folder == str(folder)


def test_a_text_becomes_frozen_settings():
    config = load(GOOD, registry())
    assert config.settings("http") == SampleHttp(address="127.0.0.1:80", pool=SamplePool())
    assert config.settings("server").command == ("php", "w.php")
    assert config.sections == ("server", "http")
    assert (config.source, config.files, config.warnings, config.unserved) == ("<text>", (), (), ())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.settings("http").address = "x"


def test_general_sections_are_there_with_defaults_and_others_are_none():
    config = load('version: "3"\n', registry())
    assert config.settings("version") == "3"
    assert config.settings("logs") == LogSettings()
    assert config.settings("endure").grace_period is None
    assert config.settings("compat").unserved == "error"
    assert config.settings("http") is None
    assert config.settings("nonsense") is None


def test_a_dict_goes_the_same_way_and_its_texts_are_taken_as_they_are():
    data = {"version": "3", "server": {"command": ["sh", "-c", "echo $HOME"]}, "http": {"address": ":80"}}
    config = load(data, registry(), ["http.pool.num_workers=$N"], {"N": "4"})
    assert config.settings("server").command == ("sh", "-c", "echo $HOME")
    assert config.settings("http").pool.num_workers == 4
    assert config.source == "<memory>"


def test_a_dict_tells_its_problems_too():
    assert problems({"version": "3", "htp": {}}) == [
        "<memory>: htp: unknown section; did you mean 'http'?",
    ]


def test_a_file_is_read_from_the_working_directory(write):
    folder = write(_rr_yaml=GOOD)
    config = load(".rr.yaml", registry(), directory=folder)
    assert config.source == ".rr.yaml"
    assert config.files == (str(folder / ".rr.yaml"),)


def test_json_files_are_read_by_json_s_rules(write):
    folder = write(rr_json=json.dumps({"version": "3", "kv": {"x": "\U0001f600"}}, indent="\t"))
    assert load(folder / "rr.json", registry()).settings("kv") == {"x": "\U0001f600"}
    folder = write(rr_json='{"version": "3", }')
    assert problems("rr.json", directory=folder) == [
        "rr.json:1:18: not JSON: expected a key in double quotes"
    ]


def test_a_file_that_cannot_be_used_at_all(write):
    folder = write(empty_yaml="# nothing\n", list_yaml="- a\n", broken_yaml="a: [\n")
    told = [f"none.yaml: cannot read {folder}/none.yaml: No such file or directory"]
    assert problems("none.yaml", directory=folder) == told
    absolute = str(folder / "none.yaml")
    assert problems(absolute) == [f"{absolute}: cannot be read: No such file or directory"]
    assert problems("empty.yaml", directory=folder) == ["empty.yaml: the file is empty"]
    assert problems("list.yaml", directory=folder) == [
        "list.yaml:1:1: expected sections, each with its keys, not a list"
    ]
    assert problems("broken.yaml", directory=folder)[0].startswith("broken.yaml:2:1: not YAML: ")
    (folder / "latin.yaml").write_bytes(b"a: 1\nb: \xe4\n")
    assert problems("latin.yaml", directory=folder) == [
        "latin.yaml:2:1: not UTF-8: invalid continuation byte"
    ]


def test_a_byte_order_mark_is_no_part_of_the_first_key(write):
    folder = write(rr_yaml="\ufeff" + GOOD)
    assert load("rr.yaml", registry(), directory=folder).settings("http").address == "127.0.0.1:80"


# ------------------------------------------------------------------------------ version


OLD = 'write version: "3" and check which of its keys differ)'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("http: {}", "<text>:1:1: version: is required: write version: \"3\""),
        ("version:", "<text>:1:1: version: is required: write version: \"3\""),
        ("version: 3", "<text>:1:10: version: expected the text \"3\" in quotes, not the number 3"),
        ("version: 2.7", f'<text>:1:10: version: expected the text "3" in quotes, not the number 2.7 (this file is for RoadRunner 2; {OLD}'),
        ("version: '2.7'", f'<text>:1:10: version: expected the text "3" in quotes, not the text \'2.7\' (this file is for RoadRunner 2; {OLD}'),
        ("version: '4'", "<text>:1:10: version: expected the text \"3\" in quotes, not the text '4'"),
        ("version: ['3']", "<text>:1:10: version: expected the text \"3\" in quotes, not a list"),
    ],
)  # fmt: skip
def test_the_version_is_the_text_3_and_nothing_like_it(text, problem):
    assert problem in problems(text + "\n")


def test_the_version_may_come_from_the_command_line_or_a_variable():
    assert load("kv: {}\n", registry(), ["version=3"]).settings("version") == "3"
    assert load('version: "${V}"\n', registry(), (), {"V": "3"}).settings("version") == "3"


# ----------------------------------------------------------------------------- sections


def test_keys_that_begin_with_x_are_free_and_feed_anchors():
    config = load(
        'version: "3"\nx-pool: &pool {num_workers: 3, debug: "${NOT_SET}"}\nx-2.a: [{}]\n'
        "server: {command: a}\nhttp: {address: ':80', pool: {<<: *pool, debug: false}}\n",
        registry(),
    )
    assert config.settings("http").pool == SamplePool(num_workers=3)
    assert config.warnings == ()
    assert "x-pool" not in config.data


def test_an_unknown_section_is_an_error_with_the_nearest_name():
    assert problems(GOOD + "servr: {}\nqqqqqq: 1\n") == [
        "<text>:5:1: servr: unknown section; did you mean 'server'?",
        "<text>:6:1: qqqqqq: unknown section",
    ]


@pytest.mark.parametrize("name", ["grpc", "jobs", "amqp", "temporal", "rpc", "tcp", "otel", "google_pub_sub"])
def test_a_section_that_only_roadrunner_serves_is_an_error(name):
    (told,) = problems(GOOD + f"{name}: {{a: 1}}\n")
    assert told.startswith(f"<text>:5:1: {name}: is not served by twisted_rr {__version__}")
    assert told.endswith("; compat: {unserved: warn} starts without it")
    assert ("(operators have the admin socket" in told) == (name == "rpc")


def test_compat_makes_it_a_warning():
    config = load(GOOD + "compat: {unserved: warn}\nGRPC: {listen: x}\njobs.consume: []\n", registry())
    assert config.unserved == ("grpc", "jobs")
    assert warnings(config) == [
        "<text>:6:1: GRPC: keys are written in lower case: grpc",
        f"<text>:6:1: grpc: is not served by twisted_rr {__version__} and has no effect",
        f"<text>:7:1: jobs: is not served by twisted_rr {__version__} and has no effect",
    ]


def test_compat_holds_while_other_things_are_wrong():
    assert problems(GOOD + "compat: {unserved: warn}\ngrpc: {}\nhtp: 1\n") == [
        "<text>:7:1: htp: unknown section; did you mean 'http'?"
    ]


def test_a_bad_compat_is_told_besides():
    found = problems(GOOD + "compat: {unserved: wern}\ngrpc: {}\n")
    assert found[0].startswith("<text>:5:20: compat.unserved: expected one of error, warn")
    assert found[1].startswith("<text>:6:1: grpc: is not served by twisted_rr")


def test_an_empty_section_counts_as_absent_as_in_roadrunner():
    config = load(GOOD + "kv:\ngrpc:\n", registry())
    assert config.settings("kv") is None
    assert warnings(config) == ["<text>:5:1: kv: is empty, so it counts as absent; {} has the defaults"]


def test_a_section_can_require_another():
    assert problems('version: "3"\nhttp: {address: ":80"}\n') == [
        "<text>:2:1: server: this section is required by 'http'"
    ]


def test_dotted_sections_at_the_top():
    config = load(
        'version: "3"\nserver.command: a\nhttp.address: :80\nhttp.pool.num_workers: 2\n', registry()
    )
    assert config.settings("http").pool.num_workers == 2


def test_all_problems_come_at_once_in_the_order_of_the_file():
    text = (
        "version: 3\nserver: {}\nhttp:\n  adress: x\n  middleware: {}\n  pool:\n    num_workers: 5000\n"
        "    allocate_timeout: soon\nlogs: {level: loud}\nlocks: {}\n"
    )
    assert problems(text) == [
        '<text>:1:10: version: expected the text "3" in quotes, not the number 3',
        "<text>:2:9: server.command: is required: a command line, or a list of its words",
        "<text>:4:3: http.adress: unknown key; did you mean 'address'?",
        "<text>:4:3: http.address: is required: host:port, :port, [ipv6]:port, tcp://host:port or unix://path",
        "<text>:5:15: http.middleware: expected a list, each of it a text, not a map",
        "<text>:7:18: http.pool.num_workers: expected an integer from 0 to 2048, not the number 5000",
        '<text>:8:23: http.pool.allocate_timeout: expected a duration such as "30s", "1m30s" or "100ms", '
        "not the text 'soon'",
        "<text>:9:15: logs.level: expected one of debug, info, warn, error, panic, not the text 'loud'",
        "<text>:10:1: locks: unknown section; did you mean 'lock'?",
    ]


# ------------------------------------------------------------------ environment, dotenv


def test_variables_are_expanded_everywhere_and_typed_by_the_key():
    config = load(
        GOOD.replace("127.0.0.1:80", '"127.0.0.1:${PORT:-8080}"')
        + '  pool: {num_workers: "${N}", debug: "${D:-false}"}\n  middleware: ["${M}", b]\n'
        "  headers: {a: $M}\n",
        registry(),
        (),
        {"N": "4", "M": "m"},
    )
    http = config.settings("http")
    assert (http.address, http.pool.num_workers, http.pool.debug) == ("127.0.0.1:8080", 4, False)
    assert (http.middleware, http.headers) == (("m", "b"), {"a": "m"})


def test_an_unset_variable_is_empty_and_so_the_default_with_a_warning():
    config = load(GOOD + '  pool: {num_workers: "${N}"}\n', registry())
    assert config.settings("http").pool.num_workers == 0
    assert warnings(config) == [
        "<text>:5:23: http.pool.num_workers: the variable N is not set, so it is empty; ${N:-default} gives a default"
    ]


def test_endure_sees_variables_and_overrides_unlike_in_roadrunner():
    text = GOOD + "endure: {grace_period: $G}\n"
    assert load(text, registry(), (), {"G": "5s"}).settings("endure").grace_period == 5.0
    assert load(text, registry(), ["endure.grace_period=6s"]).settings("endure").grace_period == 6.0


def test_an_envfile_lies_beside_the_config_and_never_overrides(write):
    folder = write(
        a__rr_yaml=GOOD + "envfile: ${E:-x}.env\nkv: {a: $A, b: $B}\n", a__x_env="A=file\nB=file\n"
    )
    config = load("a/rr.yaml", registry(), (), {"A": "process"}, directory=folder)
    assert config.settings("kv") == {"a": "process", "b": "file"}
    assert config.environment == {"A": "process", "B": "file"}
    assert str(folder / "a/x.env") in config.files


def test_the_environment_of_workers_has_env_on_top(write):
    folder = write(rr_yaml=GOOD + "env: {a: 1, path: /x}\nenvfile: x.env\n", x_env="A=file\nB=$HOME\n")
    config = load("rr.yaml", registry(), (), {"PATH": "/bin", "HOME": "/h"}, directory=folder)
    assert config.environment == {"PATH": "/x", "HOME": "/h", "A": "1", "B": "/h"}
    assert config.settings("env") == {"A": "1", "PATH": "/x"}


def test_dotenv_path_wins_over_the_option_and_both_are_from_the_working_directory(write):
    folder = write(rr_yaml=GOOD + "kv: {a: $A}\n", one="A=1", two="A=2")
    assert load("rr.yaml", registry(), directory=folder, dotenv="one").settings("kv") == {"a": 1}
    environ = {"DOTENV_PATH": "two"}
    config = load("rr.yaml", registry(), (), environ, directory=folder, dotenv="one")
    assert config.settings("kv") == {"a": 2}
    assert environ == {"DOTENV_PATH": "two"}


def test_a_dotenv_file_that_is_missing_or_broken_is_an_error(write):
    folder = write(rr_yaml=GOOD + "envfile: none.env\n", bad_env="x\n")
    assert problems("rr.yaml", directory=folder, dotenv="bad.env") == [
        f"{folder}/bad.env:1:1: expected NAME=value",
        f"rr.yaml:5:1: envfile: cannot read {folder}/none.env: No such file or directory",
    ]
    assert problems(GOOD + "envfile: [x]\n") == ["<text>:5:10: envfile: expected a path, not a list"]


# ---------------------------------------------------------------------------- overrides


def test_overrides_win_over_the_file_and_the_last_one_over_all():
    config = load(
        GOOD + "  pool.num_workers: 1\n",
        registry(),
        ["http.pool.num_workers=2", "http.pool.num_workers=${N:-3}", "http.middleware=[a, b]", "kv={x: 1}"],
    )
    assert config.settings("http").pool.num_workers == 3
    assert config.settings("http").middleware == ("a", "b")
    assert config.settings("kv") == {"x": 1}


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("server.command='php x.php'", lambda c: c.settings("server").command, ("php", "x.php")),
        ("server.command=`php x.php`", lambda c: c.settings("server").command, ("php", "x.php")),
        ('server.command=["php", "x y"]', lambda c: c.settings("server").command, ("php", "x y")),
        ("http.address=:81", lambda c: c.settings("http").address, ":81"),
        ("http.middleware=a,b", lambda c: c.settings("http").middleware, ("a", "b")),
        ("http.middleware=", lambda c: c.settings("http").middleware, ()),
        ("http.headers.X.Y=a=b", lambda c: c.settings("http").headers, {"X.Y": "a=b"}),
        ("http.pool.debug=1", lambda c: c.settings("http").pool.debug, True),
        ("http.pool.supervisor.ttl=1m", lambda c: c.settings("http").pool.supervisor.ttl, 60.0),
        ("HTTP.Pool.Num_Workers=6", lambda c: c.settings("http").pool.num_workers, 6),
        ("server.env.app_env=x", lambda c: c.settings("server").env, {"APP_ENV": "x"}),
        ("kv.a.b.c=1", lambda c: c.settings("kv"), {"a": {"b": {"c": 1}}}),
        ("logs.channels.http.level=warn", lambda c: c.settings("logs").channels["http"].level, "warn"),
        (" http.pool.num_workers = 6 ", lambda c: c.settings("http").pool.num_workers, 6),
    ],
)
def test_what_an_override_can_say(override, read, value):
    assert read(load(GOOD, registry(), [override])) == value


def test_an_override_replaces_a_value_that_is_no_map():
    assert load(GOOD + "kv: {a: 5}\n", registry(), ["kv.a.b=1"]).settings("kv") == {"a": {"b": 1}}


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("http.pool", "-o: expected key=value with a dotted key, not 'http.pool'"),
        ("=1", "-o: expected key=value with a dotted key, not '=1'"),
        ("http..pool=1", "-o: expected key=value with a dotted key, not 'http..pool=1'"),
        ("http.pool.num_workers=x", "-o http.pool.num_workers: http.pool.num_workers: expected an integer from 0 to 2048, not the text 'x'"),
        ("http.pol.num_workers=1", "-o http.pol.num_workers: http.pol: unknown key; did you mean 'pool'?"),
        ("htp.x=1", "-o htp.x: htp: unknown section; did you mean 'http'?"),
        ("http.middleware=[a", "-o http.middleware:2:1: not YAML: did not find expected ',' or ']' while parsing a flow sequence"),
        ("http.address=${X", "-o http.address: http.address: ${ without its closing }; write $$ for a dollar sign"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_override_is_told_by_its_name(override, problem):
    assert problem in problems(GOOD, override)


def test_overrides_may_use_the_envfile(write):
    folder = write(rr_yaml=GOOD, x_env="N=9\n")
    config = load("rr.yaml", registry(), ["envfile=x.env", "http.pool.num_workers=$N"], directory=folder)
    assert config.settings("http").pool.num_workers == 9
    assert config.warnings == ()


# ----------------------------------------------------------------------------- includes


def test_an_included_section_replaces_the_whole_one_and_the_last_file_wins(write):
    folder = write(
        rr_yaml=GOOD + "  middleware: [a]\ninclude: [a.yaml, b.yaml]\n",
        a_yaml='version: "3"\nhttp: {address: ":1", pool: {num_workers: "${N}"}}\nkv: {from: a}\n',
        b_yaml='version: "3"\nkv: {from: b}\nx-y: 1\n',
    )
    config = load("rr.yaml", registry(), (), {"N": "7"}, directory=folder)
    assert config.settings("http") == SampleHttp(address=":1", pool=SamplePool(num_workers=7))
    assert config.settings("kv") == {"from": "b"}
    assert [name.rpartition("/")[2] for name in config.files] == ["rr.yaml", "a.yaml", "b.yaml"]


def test_overrides_win_over_includes_unlike_in_roadrunner(write):
    folder = write(rr_yaml=GOOD, a_yaml='version: "3"\nhttp: {address: ":1"}\n')
    config = load("rr.yaml", registry(), ["http.address=:2", "include=a.yaml"], directory=folder)
    assert config.settings("http").address == ":2"


def test_includes_are_sought_in_the_working_directory_then_beside_the_file(write):
    folder = write(sub__rr_yaml=GOOD + "include: a.yaml b.yaml\n", a_yaml='version: "3"\nkv: {a: 1}\n')
    (folder / "sub/a.yaml").write_text('version: "3"\nkv: {beside: 1}\n')
    (folder / "sub/b.yaml").write_text('version: "3"\nserver: {command: b}\n')
    config = load("sub/rr.yaml", registry(), directory=folder, workdir=".")
    assert config.settings("kv") == {"a": 1}
    assert config.settings("server").command == ("b",)
    # Without a working directory of its own that is the folder of the file, not the one of who starts it.
    assert load("sub/rr.yaml", registry(), directory=folder).settings("kv") == {"beside": 1}


def test_relative_files_are_the_configurations_wherever_it_is_read_from(write, monkeypatch):
    folder = write(
        sub__rr_yaml=GOOD + "logs: {output: [stderr, x/rr.log, /var/rr.log]}\n", one="N=1\n", two="N=2\n"
    )
    monkeypatch.chdir(folder)
    for source in ("sub/rr.yaml", "./sub/rr.yaml", str(folder / "sub/rr.yaml")):
        config = load(source, registry())
        assert config.settings("logs").output == ("stderr", f"{config.folder}/x/rr.log", "/var/rr.log")
        assert Path(config.folder).is_absolute() and Path(config.folder).samefile(folder / "sub")
    told = load("sub/rr.yaml", registry(), workdir=folder, dotenv="one").settings("logs").output[1]
    assert told == f"{folder}/x/rr.log"
    (reason,) = problems("sub/rr.yaml", dotenv="one")
    assert f"cannot read {folder}/sub/one: No such file" in reason


def test_a_folder_that_is_a_link_is_not_followed(write):
    """What it leads to may be another one by the time that the file is opened."""
    folder = write(real__rr_yaml=GOOD + "logs: {output: rr.log}\n")
    (folder / "current").symlink_to("real")
    assert load("current/rr.yaml", registry(), directory=folder).settings("logs").output == (
        f"{folder}/current/rr.log",
    )


def test_an_include_that_no_file_could_be_called_is_a_problem_as_any_other(tmp_path):
    name = "a" * 300
    (told,) = problems(f"{GOOD}include: [{name}]\n", directory=tmp_path)
    assert told.endswith(f"cannot read {tmp_path / name}: File name too long")


def test_problems_of_includes_are_told_by_their_file(write):
    folder = write(
        rr_yaml=GOOD + "include: [a.yaml, b.yaml, c.yaml, none.yaml]\n",
        a_yaml="version: 3\nhttp: {}\ninclude: [x]\nenvfile: y\n",
        b_yaml="a: [\n",
        c_yaml="",
    )
    assert problems("rr.yaml", directory=folder) == [
        'a.yaml:1:10: version: expected the text "3" in quotes, not the number 3',
        "a.yaml:2:7: http.address: is required: host:port, :port, [ipv6]:port, tcp://host:port or unix://path",
        "a.yaml:3:1: include: works in the main file only; name every file there",
        "a.yaml:4:1: envfile: works in the main file only; name every file there",
        "b.yaml:2:1: not YAML: did not find expected node content while parsing a flow node",
        f"rr.yaml:5:1: include: cannot read {folder}/none.yaml: No such file or directory",
    ]
    assert problems(GOOD + "include: {a: 1}\n") == [
        "<text>:5:10: include: expected a list, each of it a path, not a map"
    ]


def test_an_empty_include_is_told(write):
    folder = write(rr_yaml=GOOD + "include: c.yaml\n", c_yaml="")
    assert problems("rr.yaml", directory=folder) == ["c.yaml: the file is empty"]


# ----------------------------------------------------------------------------- registry


@pytest.mark.parametrize("name", ["", "a.b", "Upper", "x-y", "version"])
def test_a_name_that_cannot_be_a_section_is_refused(name):
    with pytest.raises(ValueError, match=r"section|registered"):
        Registry().add(name, kinds.any_value())


def test_a_registry_reads_maps_only():
    report = Report()
    assert registry().read(Scalar("x", Mark("f")), Place("", report)) is INVALID
    assert [str(one) for one in report.problems] == [
        "f: expected sections, each with its keys, not the text 'x'"
    ]


def test_a_section_s_sentence_is_its_class_s_first_line_or_given():
    assert registry().sections["http"].doc == "The HTTP front."
    assert registry().sections["kv"].doc == "Stores."


def test_reading_a_config_loads_no_twisted():
    import subprocess
    import sys

    code = (
        "import sys, twisted_rr.config as c; c.load('version: \"3\"\\n', c.Registry());"
        "sys.exit(any(name.split('.')[0] in ('twisted', 'zope') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
