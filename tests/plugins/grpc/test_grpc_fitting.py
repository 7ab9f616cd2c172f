"""Ends of calls within what the client takes of a head."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

import pytest
from grpc_world import SETTINGS, Client, Stream, World, served
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.errors import ApplicationError
from twisted_rr.http2.frames import frame
from twisted_rr.plugins.grpc.fitting import MARK, MOST_TEXT, cut, fitted, size_of
from twisted_rr.plugins.grpc.metadata import message_field
from twisted_rr.plugins.grpc.status import Status
from twisted_rr.wire.grpc_status import encode_status


def limited(limit: int, mux: bool = True) -> tuple[World, Client]:
    """A client that takes heads of *limit*."""
    world, client = served(mux)
    client.send(frame(SETTINGS, 0, 0, (6).to_bytes(2) + limit.to_bytes(4)))
    return world, client


def count(fields: dict[str, str]) -> int:
    """What they count for, as RFC 9113 section 6.5.2 says."""
    return sum(len(name) + len(value) + 32 for name, value in fields.items())


def ended(world: World, client: Client, number: int) -> Stream:
    world.turn()
    answer = client.answer(number)
    assert answer.ended
    return answer


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("limit", [300, 1000, 5000, 100000])
def test_a_long_text_is_cut_to_what_the_client_takes(begun: bool, limit: int) -> None:
    world, client = limited(limit)
    number = client.call()
    if begun:
        world.call.reply(b"first")
    text = "no such thing: \u00e4%" * 10000
    world.call.end(5, text)
    answer = ended(world, client, number)
    assert answer.status == 5
    assert count(answer.trailers or answer.head) <= limit
    assert len(answer.text) <= MOST_TEXT
    shown = unquote(answer.text, errors="strict")
    assert shown.endswith(MARK) and text.startswith(shown.removesuffix(MARK))
    assert len(answer.text) > min(limit, MOST_TEXT) - 200
    assert any(text[:1000] in line for line in world.log("warn"))


def test_a_text_is_cut_where_the_client_has_told_nothing() -> None:
    world, client = served()
    number = client.call()
    world.call.fail(ApplicationError("x" * 60000))
    answer = ended(world, client, number)
    assert (answer.status, len(answer.text)) == (2, MOST_TEXT)


def test_a_text_that_fits_is_sent_whole_and_told_to_nobody_else() -> None:
    world, client = limited(1000)
    number = client.call()
    world.call.end(5, "x" * 700)
    assert ended(world, client, number).text == "x" * 700
    assert world.log("warn") == []


def test_an_error_without_room_for_its_details_keeps_its_code_and_text() -> None:
    world, client = limited(1000)
    number = client.call()
    world.call.end(5, "not here", b"d" * 2000, [("x-a", "b" * 2000)])
    answer = ended(world, client, number)
    assert (answer.status, answer.text) == (5, "not here")
    assert "grpc-status-details-bin" not in answer.head and "x-a" not in answer.head
    assert "details and metadata did not fit" in world.log("warn")[0]


@pytest.mark.parametrize("mux", [True, False])
def test_a_call_that_went_well_does_not_lose_its_trailing_metadata_in_silence(mux: bool) -> None:
    world, client = limited(1000, mux)
    number = client.call()
    if mux:
        world.call.end(0, metadata=[("x-a", "b" * 2000)])
    else:
        world.call.respond(json.dumps({"trailers": json.dumps({"x-a": "b" * 2000})}).encode(), b"ho")
    answer = ended(world, client, number)
    assert answer.status == 8
    assert answer.text.startswith("the trailing metadata")


@pytest.mark.parametrize("mux", [True, False])
def test_initial_metadata_that_the_client_does_not_take_ends_the_call(mux: bool) -> None:
    world, client = limited(1000, mux)
    number = client.call()
    if mux:
        world.call.initial([("x-a", "b" * 2000)])
        assert world.call.cancelled
    else:
        world.call.respond(json.dumps({"headers": json.dumps({"x-a": "b" * 2000})}).encode(), b"ho")
    answer = ended(world, client, number)
    assert (answer.status, answer.text) == (8, "the initial metadata is more than the client takes")
    assert answer.messages == []


def test_an_error_keeps_its_status_where_its_headers_do_not_fit() -> None:
    world, client = limited(1000, mux=False)
    number = client.call()
    error = base64.b64encode(encode_status(5, "not here")).decode()
    world.call.respond(json.dumps({"error": error, "headers": json.dumps({"x-a": "b" * 2000})}).encode())
    answer = ended(world, client, number)
    assert (answer.status, answer.text) == (5, "not here")


def test_an_end_that_is_kept_fits_each_client() -> None:
    world, roomy = served()
    narrow = world.connect()
    narrow.send(frame(SETTINGS, 0, 0, (6).to_bytes(2) + (300).to_bytes(4)))
    for client, whole in ((roomy, True), (narrow, False), (roomy, True)):
        number = client.call()
        world.call.end(5, "x" * 400)
        assert (ended(world, client, number).text == "x" * 400) is whole


texts = st.text(st.sampled_from(["a", " ", "%", "\u00e4", "\u20ac", "\U0001f600"]), max_size=200)


@given(texts, st.integers(-10, 700))
def test_a_cut_text_is_a_beginning_of_whole_characters(text: str, most: int) -> None:
    shown = cut(message_field(text), most)
    assert len(shown) <= max(most, 0)
    back = unquote(shown.decode(), errors="strict")
    assert back == text or not back or text.startswith(back.removesuffix(MARK))


@given(
    st.builds(Status, st.integers(0, 16), texts, st.none() | st.binary(max_size=300)),
    st.lists(st.tuples(st.just(b"x-a"), st.binary(max_size=100)), max_size=3),
    st.integers(60, 2000),
)
def test_what_is_fitted_fits(status: Status, rest: list[Any], room: int) -> None:
    fields, code, gave_way = fitted(status, rest, room)
    assert size_of(fields) <= room
    assert fields[0] == (b"grpc-status", b"%d" % code)
    assert code == status.code or (not status.code and gave_way)
    if gave_way in ("", "a part of the text"):
        assert fields[len(fields) - len(rest) :] == rest
