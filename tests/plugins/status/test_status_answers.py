"""drain.md 5 as goldens: codes by state, bodies, headers, routes, negotiation."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from status_facts import BUSY, DEAD, FINE, ask, facts, header, listed

from twisted_rr.lifecycle.drain import STATES
from twisted_rr.plugins.status.answers import ROUTES, read
from twisted_rr.plugins.status.facts import Facts, PluginFacts

TROUBLED = (PluginFacts(name="grpc"), PluginFacts(name="http", not_ready="no worker is alive"))


@pytest.mark.parametrize(
    ("now", "health", "ready", "startup", "words"),
    [
        (facts("booting", plugins=()), 200, 503, 503, "pass fail"),
        (facts("booting"), 200, 503, 503, "pass fail"),
        (facts("starting", plugins=TROUBLED), 200, 503, 503, "pass fail"),
        (facts("running"), 200, 200, 200, "pass pass"),
        (facts("running", plugins=TROUBLED), 200, 503, 200, "pass fail"),
        (facts("running", plugins=DEAD), 503, 503, 200, "fail fail"),
        (facts("drained"), 200, 503, 200, "warn fail"),
        (facts("draining:announce"), 200, 503, 200, "warn fail"),
        (facts("draining:announce", flipped=False), 200, 200, 200, "warn warn"),
        (facts("draining:finish"), 200, 503, 200, "warn fail"),
        (facts("draining:finish", plugins=DEAD), 503, 503, 200, "fail fail"),
        (facts("draining:announce", plugins=DEAD), 503, 503, 200, "fail fail"),
        (facts("draining:force", plugins=DEAD), 200, 503, 200, "warn fail"),
        (facts("stopping", plugins=DEAD), 200, 503, 200, "warn fail"),
        (facts("stopping", was_ready=False), 200, 503, 503, "pass fail"),
    ],
)
def test_the_table_of_states(now: Facts, health: int, ready: int, startup: int, words: str) -> None:
    assert ask("/health", now).status == health
    assert ask("/ready", now).status == ready
    assert ask("/startup", now).status == startup
    accept = {"Accept": "application/health+json"}
    told = [
        msgspec.json.decode(ask(path, now, headers=accept).body)["status"] for path in ("/health", "/ready")
    ]
    assert " ".join(told) == words


def test_the_list_while_draining() -> None:
    now = facts("draining:finish")
    assert ask("/health", now).body == (
        b'[{"plugin_name":"lifecycle","error_message":"draining:finish; in_flight=3; oldest=8.1s; deadline_in=13.9s",'
        b'"status_code":200},'
        b'{"plugin_name":"grpc","error_message":"","status_code":200},'
        b'{"plugin_name":"http","error_message":"","status_code":200}]'
    )
    assert ask("/ready?plugin=http&plugin=lifecycle", now).body == (
        b'[{"plugin_name":"http","error_message":"draining","status_code":503},'
        b'{"plugin_name":"lifecycle","error_message":"draining:finish since 8.1s","status_code":503}]'
    )


def test_the_list_while_running_has_no_messages() -> None:
    for path in ("/health", "/ready", "/startup"):
        assert listed(ask(path, facts())) == [("lifecycle", "", 200), ("grpc", "", 200), ("http", "", 200)]


def test_the_list_while_stuck_says_what_is_proved() -> None:
    found = ask("/health", facts("draining:finish", plugins=DEAD))
    assert listed(found) == [
        ("lifecycle", "stuck: http: no worker can be started for 10.4s; in_flight=3", 503),
        ("grpc", "", 200),
        ("http", "no worker can be started", 503),
    ]
    assert header(found, "x-rr-lifecycle") == "stuck"


def test_a_reason_that_is_not_proved_is_told_and_is_no_failure() -> None:
    doubtful = (PluginFacts(name="http", not_alive="nothing was completed", not_alive_for=3.0),)
    found = ask("/health", facts(plugins=doubtful))
    assert (found.status, listed(found)[1]) == (200, ("http", "nothing was completed", 200))


def test_always_is_roadrunners_constant() -> None:
    assert ask("/health", facts(plugins=DEAD), liveness="always").status == 200
    assert ask("/ready", facts(plugins=DEAD), liveness="always").status == 503


def test_the_lifecycle_entry_can_be_left_out_and_still_decides() -> None:
    found = ask("/ready", facts("drained", plugins=()), lifecycle_entry=False)
    assert (found.status, found.body) == (503, b"[]")
    assert [name for name, _, _ in listed(ask("/health", facts(), lifecycle_entry=False))] == ["grpc", "http"]


def test_only_the_plugins_asked_for_are_told_and_judged() -> None:
    found = ask("/ready?plugin=grpc", facts(plugins=TROUBLED))
    assert (found.status, listed(found)) == (200, [("grpc", "", 200)])
    found = ask("/ready?plugin=grpc&plugin=http", facts(plugins=TROUBLED))
    assert (found.status, listed(found)[1]) == (503, ("http", "no worker is alive", 503))


@pytest.mark.parametrize("path", ["/health", "/ready", "/startup"])
@pytest.mark.parametrize("query", ["plugin=nope", "plugin=http,grpc", "plugin=", "plugin=http&plugin=nope"])
def test_an_unknown_plugin_is_an_entry_with_404_and_fails_the_whole(path: str, query: str) -> None:
    found = ask(f"{path}?{query}", facts())
    assert found.status == 503
    assert ("no such plugin", 404) in [(message, code) for _, message, code in listed(found)]


def test_a_query_beyond_all_measure_is_answered() -> None:
    assert ask("/health?" + "&".join(["plugin=http"] * 500), facts()).status == 503


def test_the_unavailable_code_is_the_users() -> None:
    now = facts("draining:finish")
    found = ask("/ready", now, unavailable_status_code=500)
    assert (found.status, {code for _, _, code in listed(found)}) == (500, {500})


def test_aliases_answer_alike() -> None:
    now = facts("draining:finish", plugins=TROUBLED)
    for first, second in (
        ("/livez", "/health"),
        ("/live", "/health"),
        ("/readyz", "/ready"),
        ("/startupz", "/startup"),
    ):
        assert ask(first, now) == ask(second, now)


def test_unknown_paths_and_methods() -> None:
    assert ask("/", facts()).status == 404
    assert ask("/health/", facts()).status == 404
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        found = ask("/health", facts(), method=method)
        assert (found.status, header(found, "allow")) == (405, "GET, HEAD")
    assert ask("/health", facts(), method="HEAD").status == 200


def test_jobs_without_jobs_says_so_in_roadrunners_words() -> None:
    found = ask("/jobs", facts())
    assert (found.status, found.body) == (503, b"jobs plugin not found\n")
    assert ask("/jobs", facts("draining:finish")).body == b"service is shutting down\n"


def test_roadrunners_text_by_option_is_for_the_drain_only() -> None:
    now = facts("draining:finish", plugins=DEAD)
    found = {path: ask(path, now, rr_strict_shutdown_body=True) for path in ("/health", "/ready", "/jobs")}
    assert [each.status for each in found.values()] == [200, 503, 503]
    assert {each.body for each in found.values()} == {b"service is shutting down\n"}
    assert ask("/health", facts(), rr_strict_shutdown_body=True).body.startswith(b"[")


def test_the_content_type_is_json_or_roadrunners_by_option() -> None:
    assert header(ask("/health", facts()), "content-type") == "application/json"
    assert header(ask("/health", facts(), rr_text_plain=True), "content-type") == "text/plain; charset=utf-8"


@pytest.mark.parametrize("target", ["/health", "/ready", "/startup", "/jobs", "/nowhere"])
@pytest.mark.parametrize("state", STATES)
def test_headers_that_are_always_there(target: str, state: str) -> None:
    found = ask(target, facts(state))
    assert header(found, "cache-control") == "no-store"
    assert header(found, "vary") == "accept"
    assert header(found, "x-content-type-options") == "nosniff"
    assert header(found, "x-rr-lifecycle") == state
    draining = facts(state).draining
    assert header(found, "x-rr-in-flight") == ("3" if draining else None)
    assert header(found, "x-rr-drain-deadline") == ("14" if draining else None)


@pytest.mark.parametrize(
    ("state", "wait"),
    [
        ("starting", "1"),
        ("draining:announce", "1"),
        ("draining:finish", "5"),
        ("stopping", "5"),
        ("drained", "5"),
    ],
)
def test_retry_after_comes_with_a_no_of_ready(state: str, wait: str) -> None:
    assert header(ask("/ready", facts(state)), "retry-after") == wait
    assert header(ask("/health", facts(state)), "retry-after") is None
    assert header(ask("/ready", facts()), "retry-after") is None


def test_health_json_only_when_it_is_named() -> None:
    for accept in ("*/*", "application/json", ""):
        assert (
            header(ask("/health", facts(), headers={"Accept": accept}), "content-type") == "application/json"
        )
    found = ask("/health", facts(), headers={"Accept": "text/html, Application/Health+JSON;q=0.9"})
    assert header(found, "content-type") == "application/health+json"


def test_health_json_in_full() -> None:
    now = facts("draining:finish", arrived_ago=2.21)
    found = msgspec.json.decode(ask("/health", now, headers={"Accept": "application/health+json"}).body)
    assert found == {
        "status": "warn",
        "version": "1",
        "description": "twisted_rr",
        "notes": ["draining:finish"],
        "output": "lifecycle: draining:finish; in_flight=3; oldest=8.1s; deadline_in=13.9s",
        "checks": {
            "lifecycle:state": [
                {"componentType": "system", "observedValue": "draining:finish", "status": "warn"}
            ],
            "grpc:state": [{"componentType": "component", "status": "pass"}],
            "http:state": [{"componentType": "component", "status": "pass"}],
            "grpc:inFlight": [{"observedValue": 0, "observedUnit": "requests", "status": "pass"}],
            "http:inFlight": [{"observedValue": 3, "observedUnit": "requests", "status": "warn"}],
            "http:oldestRequestAge": [{"observedValue": 8.1, "observedUnit": "s", "status": "pass"}],
            "drain:deadline": [{"observedValue": 13.9, "observedUnit": "s", "status": "pass"}],
            "drain:cut": [{"observedValue": 0, "observedUnit": "requests", "status": "pass"}],
            "drain:lastNewConnection": [{"observedValue": 2.2, "observedUnit": "s", "status": "pass"}],
        },
    }


def test_an_entity_tag_is_the_state_and_a_match_is_304_only_for_a_yes() -> None:
    assert header(ask("/ready", facts()), "etag") == '"running"'
    found = ask("/ready", facts(), headers={"If-None-Match": '"running"'})
    assert (found.status, found.body, header(found, "etag")) == (304, b"", '"running"')
    assert ask("/ready", facts(), headers={"If-None-Match": 'W/"running"'}).status == 304
    assert ask("/ready", facts(), headers={"If-None-Match": '"starting"'}).status == 200
    drained = facts("drained")
    assert ask("/ready", drained, headers={"If-None-Match": '"drained"'}).status == 503


@pytest.mark.parametrize(
    ("field", "status"),
    [
        ('"starting", W/"running"', 304),
        ('"starting","drained"', 200),
        ("*", 304),
        ("", 200),
        (",", 200),
    ],
)
def test_one_tag_of_a_list_is_enough(field: str, status: int) -> None:
    assert ask("/ready", facts(), headers={"If-None-Match": field}).status == status


@pytest.mark.parametrize(
    ("accept", "detailed"),
    [
        ("application/health+json;q=0", False),
        ("*/*, application/health+json ; q=0.000", False),
        ("application/health+json;q=0.1", True),
        ("application/health+json;profile=x;q=1", True),
        ("application/health+json-seq", False),
    ],
)
def test_who_does_not_want_the_details_does_not_get_them(accept: str, detailed: bool) -> None:
    found = header(ask("/health", facts(), headers={"Accept": accept}), "content-type")
    assert (found == "application/health+json") is detailed


def test_a_list_may_come_in_several_fields() -> None:
    fields = [(b"accept", b"application/health+json"), (b"accept", b"*/*"), (b"if-none-match", b'"a"')]
    question = read("GET", b"/health", [*fields, (b"if-none-match", b'"b"')])
    assert (question.detailed, question.known_tags) == (True, ("a", "b"))


def test_an_announce_that_is_still_ready_has_another_tag_than_one_that_is_not() -> None:
    before, after = (facts("draining:announce", flipped=flipped) for flipped in (False, True))
    tags = [header(ask("/ready", now), "etag") for now in (before, after)]
    assert tags == ['"draining:announce:ready"', '"draining:announce"']
    assert ask("/ready", before, headers={"If-None-Match": tags[0]}).status == 304


def test_running_and_not_ready_is_another_tag_than_running() -> None:
    assert header(ask("/ready", facts(plugins=TROUBLED)), "etag") == '"running:unready"'


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ("wait=30", 30.0),
        ("respond-async, Wait=5", 5.0),
        ("wait=9999999999", 60.0),
        ("wait=-1", 0),
        ("wait=x", 0),
        ("", 0),
    ],
)
def test_the_wait_of_a_long_poll_is_bounded(prefer: str, seconds: float) -> None:
    assert read("GET", b"/ready", [(b"prefer", prefer.encode())]).wait == seconds


@given(st.binary(max_size=60), st.binary(max_size=40), st.sampled_from(["accept", "prefer", "if-none-match"]))
def test_no_question_is_too_strange(target: bytes, value: bytes, name: str) -> None:
    read("GET", b"/" + target, [(name.encode(), value)])
    read("GET", target, [])


plugins = st.builds(
    PluginFacts,
    name=st.sampled_from(["http", "grpc", "jobs"]),
    not_alive=st.sampled_from([None, "dead"]),
    not_alive_for=st.floats(0, 100),
    proved=st.booleans(),
    not_ready=st.sampled_from([None, "busy"]),
)


@given(
    st.sampled_from(STATES),
    st.lists(plugins, unique_by=lambda plugin: plugin.name, max_size=3),
    st.sampled_from([path for path in ROUTES if path != "/jobs"]),
    st.sampled_from(["", "?plugin=http", "?plugin=nope&plugin=grpc"]),
    st.booleans(),
    st.sampled_from(["alive", "strict", "always"]),
)
def test_body_and_code_never_disagree(
    state: str, some: list[PluginFacts], path: str, query: str, flipped: bool, liveness: str
) -> None:
    some = [plugin for plugin in some if not (plugin.proved and plugin.not_alive is None)]
    now = facts(state, plugins=tuple(some), flipped=flipped and facts(state).draining)
    found = ask(path + query, now, liveness=liveness)
    codes = {code for _, _, code in listed(found)}
    assert (found.status == 200) == (codes == {200})
    detailed = msgspec.json.decode(
        ask(path + query, now, liveness=liveness, headers={"Accept": "application/health+json"}).body
    )
    assert (detailed["status"] == "fail") == (found.status != 200)
    assert len(found.body) < 10240


def test_nothing_that_names_the_machine_is_told() -> None:
    for accept in ("*/*", "application/health+json"):
        text = ask("/health", facts("draining:finish"), headers={"Accept": accept}).body.decode()
        assert "pid" not in text.lower()
        assert "/" not in text.replace("application/", "")


def test_facts_sum_over_protocols() -> None:
    now = facts("running", protocols=BUSY, plugins=FINE)
    assert (now.in_flight, now.oldest) == (3, 8.14)
