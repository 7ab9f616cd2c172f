"""Requests for other pools: which route counts, what is refused where it stands, and that the call goes there."""

import textwrap

import pytest
from front_world import FakePort, RecordingSession, request
from twisted.internet.task import Clock

from twisted_rr.build import read_config
from twisted_rr.errors import ConfigError
from twisted_rr.plugins.http.config import HttpSettings
from twisted_rr.plugins.http.routes import Routes, RouteSettings
from twisted_rr.plugins.http.service import HttpFront
from twisted_rr.testing.host import FakeHost


def table(*routes: tuple[str, str, str]) -> Routes:
    made = [RouteSettings(host=host, path=path, pool=pool) for host, path, pool in routes]
    return Routes(made, "own", lambda name, index: name)


@pytest.mark.parametrize(
    ("target", "pool"),
    [
        (b"/", "own"),
        (b"/admin", "admin"),
        (b"/admin?x=/api", "admin"),
        (b"/admin/users", "admin"),
        (b"/administrator", "own"),
        (b"/admin/api/x", "api"),
        (b"/admin/apis", "admin"),
        (b"/files/", "files"),
        (b"/files/a", "files"),
        (b"/files", "own"),
        (b"*", "own"),
    ],
)
def test_the_longest_path_counts_and_ends_at_a_slash(target: bytes, pool: str) -> None:
    routes = table(("", "/admin", "admin"), ("", "/admin/api", "api"), ("", "/files/", "files"))
    assert routes.pool(b"example.com", target) == pool


@pytest.mark.parametrize(
    ("host", "target", "pool"),
    [
        (b"api.example.com", b"/", "api"),
        (b"API.example.com:8080", b"/admin", "api"),
        (b"a.example.com", b"/", "sub"),
        (b"example.com", b"/", "own"),
        (b"admin.test", b"/x", "admin"),
        (b"admin.example.com", b"/", "sub"),
        (b"other.com", b"/admin", "path"),
        (b"a.example.com", b"/big/1", "big"),
        (b"[::1]:80", b"/", "own"),
    ],
)
def test_the_narrowest_host_counts_before_the_path(host: bytes, target: bytes, pool: str) -> None:
    routes = table(
        ("", "/admin", "path"),
        ("*.example.com", "", "sub"),
        ("*.example.com", "/big", "big"),
        ("api.example.com", "/", "api"),
        ("admin.*", "", "admin"),
    )
    assert routes.pool(host, target) == pool


def test_a_route_may_lead_back_to_the_fronts_own_pool() -> None:
    routes = table(("", "/admin", "admin"), ("", "/admin/health", "http"))
    assert routes.pool(b"x", b"/admin/health") == "own"
    assert routes.pools == ("own", "admin")


# --------------------------------------------------------------------------- the front


def front(**keys) -> tuple[FakeHost, HttpFront]:
    host = FakeHost(Clock())
    host.drain.arrived = lambda: None  # type: ignore[attr-defined]
    settings = HttpSettings(address="127.0.0.1:0", **keys)
    own = host.pool("http", None, "http")
    made = HttpFront(
        settings, own, host, bind=FakePort, pool_of=lambda name, _: host.named_pool(name, "http", "")
    )
    return host, made


def test_a_call_goes_to_the_pool_of_its_route() -> None:
    host, made = front(routes=(RouteSettings(path="/admin", pool="admin"),))
    made.begin(RecordingSession(), request(target=b"/admin/x"))
    made.begin(RecordingSession(), request(target=b"/"))
    assert [len(host.pools[name].calls) for name in ("admin", "http")] == [1, 1]


def test_it_listens_when_every_pool_is_ready() -> None:
    from twisted.internet.defer import Deferred

    host, made = front(routes=(RouteSettings(path="/admin", pool="admin"),))
    late: Deferred[None] = Deferred()
    host.pools["admin"].start = late
    made.privilegedStartService()
    made.startService()
    assert not made.listening
    late.callback(None)
    assert made.listening


def test_a_reload_changes_routes_among_pools_that_run() -> None:
    from twisted_rr.plugins.http.plugin import HttpReload

    host, made = front(routes=(RouteSettings(path="/admin", pool="admin"),))
    reload = HttpReload(made, host, {})
    assert "routes" in reload.live
    reload.prepare(HttpSettings(address="x:1", routes=(RouteSettings(path="/slow", pool="admin"),)))()
    assert made.routes.pool(b"", b"/slow").name == "admin"
    assert made.routes.pool(b"", b"/admin").name == "http"
    with pytest.raises(ConfigError, match=r"http.routes\[0\].pool.*restart"):
        reload.prepare(HttpSettings(address="x:1", routes=(RouteSettings(path="/", pool="new"),)))


# ------------------------------------------------------------------------------ config

BASE = """\
version: "3"
server: {command: python worker.py}
http:
  address: 127.0.0.1:8080
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_config(BASE + text, environ={})
    return [str(problem) for problem in caught.value.problems]


def indented(text: str) -> str:
    return textwrap.indent(textwrap.dedent(text), "  ")


def test_an_unknown_pool_is_named_with_its_line_and_the_nearest_name() -> None:
    [problem] = problems("  routes:\n    - {path: /a, pool: amdin}\npools: {admin: {num_workers: 1}}\n")
    assert "http.routes[0].pool" in problem
    assert ":6:18:" in problem
    assert "did you mean 'admin'?" in problem


def test_the_second_of_two_equal_routes_is_never_reached() -> None:
    text = "  routes:\n    - {path: /, host: a.b, pool: x}\n    - path: /c\n      pool: x\n    - {host: A.B, pool: x}\npools: {x: {}}\n"
    [problem] = problems(text)
    assert "http.routes[2]" in problem
    assert "the route at line 6 takes the same requests" in problem


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("{pool: x}", "needs a path, a host, or both"),
        ("{path: admin, pool: x}", "the beginning of a path such as /admin"),
        ("{path: /a?b, pool: x}", "the beginning of a path"),
        ("{host: 'a.b:80', pool: x}", "without a port"),
        ("{host: 'a*b', pool: x}", "a host such as"),
        ("{path: /a}", "pool: is required"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused(route: str, words: str) -> None:
    assert words in "\n".join(problems(f"  routes: [{route}]\npools: {{x: {{}}}}\n"))


def test_a_name_that_a_plugins_pool_has_is_taken() -> None:
    assert "choose another name" in "\n".join(problems("pools: {http: {}}\n"))


def test_a_pool_that_no_route_leads_to_is_a_warning() -> None:
    config = read_config(BASE + "pools: {spare: {num_workers: 1}}\n", environ={})
    assert ["no route leads to this pool" in str(warning) for warning in config.warnings] == [True]


def test_a_route_for_everything_is_a_warning() -> None:
    config = read_config(BASE + "  routes: [{path: /, pool: x}]\npools: {x: {}}\n", environ={})
    assert "http.pool get nothing" in str(config.warnings[0])


def test_every_key_of_a_pool_is_read_in_a_named_one() -> None:
    text = "  routes: [{path: /a, pool: x}]\npools:\n  x: {command: php w.php, num_workers: 3, supervisor: {ttl: 1h}}\n"
    pool = read_config(BASE + text, environ={}).settings("pools")["x"]
    assert pool.command == ("php", "w.php")
    assert pool.supervisor.ttl == 3600.0
    assert "unknown key" in problems("pools: {x: {num_wokers: 1}}\n")[0]
