"""What `serve module:app` means as a configuration, and how an application is found."""

import pytest

from twisted_rr.cli.application import ServeOptions, config_for, find_application, in_container

APP = ServeOptions(application="app:app")


def test_the_least_command_serves_on_loopback_with_the_sdk():
    assert config_for(APP, {}, False, python="/usr/bin/python") == {
        "version": "3",
        "server": {"command": ["/usr/bin/python", "-m", "twisted_rr.worker", "app:app"]},
        "http": {"address": "127.0.0.1:8000", "pool": {"num_workers": 0}},
        "status": {"address": "127.0.0.1:2114"},
    }


def test_the_environment_is_read_as_everywhere():
    config = config_for(APP, {"PORT": "5000", "HOST": "::", "WEB_CONCURRENCY": "3"}, False)
    assert config["http"] == {"address": "[::]:5000", "pool": {"num_workers": 3}}


def test_options_win_over_the_environment():
    options = ServeOptions(
        application="app:app", host="10.0.0.1", port=0, workers=1, threads=8, interface="wsgi"
    )
    config = config_for(options, {"PORT": "5000", "HOST": "::", "WEB_CONCURRENCY": "3"}, True)
    assert config["http"] == {"address": "10.0.0.1:0", "pool": {"num_workers": 1}}
    assert config["server"]["command"][-5:] == ["--interface", "wsgi", "--threads", "8", "app:app"]


def test_preload_is_passed_to_the_workers():
    config = config_for(ServeOptions(application="app:app", preload=True), {}, False)
    assert config["server"]["command"][-2:] == ["--preload", "app:app"]


def test_a_container_is_reachable_from_outside():
    config = config_for(APP, {}, True)
    assert config["http"]["address"] == "0.0.0.0:8000"
    assert config["status"]["address"] == "0.0.0.0:2114"


@pytest.mark.parametrize("host", ("unix:///run/app.sock", "unix:/run/app.sock", "/run/app.sock"))
def test_a_unix_socket_needs_no_port_however_it_is_written(host):
    options = ServeOptions(application="app:app", host=host)
    assert config_for(options, {}, False)["http"]["address"] == "unix:///run/app.sock"


@pytest.mark.parametrize("text", ["eight", "-1", "99999", "8.0", "٣"])
def test_a_port_that_is_no_number_is_named(text):
    with pytest.raises(ValueError, match="PORT"):
        config_for(APP, {"PORT": text}, False)


@pytest.mark.parametrize("marker", [".dockerenv", "run/.containerenv"])
def test_container_runtimes_leave_a_mark(tmp_path, marker):
    assert not in_container({}, tmp_path)
    (tmp_path / marker).parent.mkdir(exist_ok=True)
    (tmp_path / marker).touch()
    assert in_container({}, tmp_path)


def test_a_pod_is_a_container(tmp_path):
    assert in_container({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("app.py", "app = Flask(__name__)\n", "app:app"),
        ("main.py", "import x\n\napplication: App = make()\n", "main:application"),
        ("app.py", "async def app(scope, receive, send):\n    pass\n", "app:app"),
        ("wsgi.py", "def application(environ, start_response):\n    pass\n", "wsgi:application"),
        ("mysite/wsgi.py", "application = get_wsgi_application()\n", "mysite.wsgi:application"),
        ("app.py", "print('nothing here')\n", None),
        ("other.py", "app = 1\n", None),
    ],
)
def test_an_application_is_found_by_reading(tmp_path, file, text, found):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    assert find_application(tmp_path) == found


def test_what_cannot_be_read_is_no_application(tmp_path):
    (tmp_path / "a/wsgi.py").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/wsgi.py").write_text("application = 1\n")
    assert find_application(tmp_path) == "b.wsgi:application"
