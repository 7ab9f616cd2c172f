"""One budget: what it defaults to, how it scales, what is refused and what is only warned of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_rr.config.sections import EndureSettings
from twisted_rr.errors import ConfigError
from twisted_rr.lifecycle.budget import WITHOUT_EFFECT, Budget, plan
from twisted_rr.lifecycle.load_balancers import PRESETS
from twisted_rr.lifecycle.settings import (
    AnnounceSettings,
    DrainSettings,
    WebSocketDrainSettings,
    WorkerStopSettings,
)

KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}


def budget(grace: float | None = None, environ: dict[str, str] | None = None, **keys: object) -> Budget:
    return plan(DrainSettings(**keys), EndureSettings(grace_period=grace), environ or {})[0]


def test_with_nothing_configured_it_is_roadrunners_grace_period_without_an_announce() -> None:
    plain = budget()
    assert (plain.total, plain.announce_max, plain.cut) == (30.0, 0.0, 26.0)
    assert plain.ready_flip == 0.0


def test_kubernetes_is_recognised_and_leaves_its_margin() -> None:
    found = budget(environ=KUBERNETES)
    assert (found.total, found.announce_min, found.announce_max, found.announce_quiet) == (
        26.0,
        2.0,
        5.0,
        2.0,
    )
    assert found.cut == 22.0
    assert found.platform_deadline == 30.0


def test_another_platform_can_be_named_against_what_is_recognised() -> None:
    assert budget(environ=KUBERNETES, platform="docker").total == 8.0
    assert budget(platform="kubernetes").announce_max == 5.0
    assert budget(environ=KUBERNETES, platform="none").total == 30.0


def test_the_termination_grace_period_of_the_pod_is_used_less_the_margin() -> None:
    assert budget(environ={"RR_TERMINATION_GRACE_PERIOD": "60"}).total == 56.0
    assert budget(environ={"RR_TERMINATION_GRACE_PERIOD": "60s", **KUBERNETES}).total == 56.0
    assert budget(environ={"RR_TERMINATION_GRACE_PERIOD": "60"}, margin=10.0).total == 50.0


@pytest.mark.parametrize("text", ["soon", "-5", "0", "nan", "inf"])
def test_a_termination_grace_period_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="RR_TERMINATION_GRACE_PERIOD"):
        budget(environ={"RR_TERMINATION_GRACE_PERIOD": text})


def test_a_written_grace_period_wins_over_the_platform() -> None:
    assert budget(55.0, environ={"RR_TERMINATION_GRACE_PERIOD": "60"}).total == 55.0


def test_a_budget_that_reaches_the_platforms_deadline_is_warned_of() -> None:
    _, warnings = plan(DrainSettings(), EndureSettings(grace_period=30.0), KUBERNETES)
    assert any("platform" in warning for warning in warnings)
    _, warnings = plan(DrainSettings(), EndureSettings(grace_period=26.0), KUBERNETES)
    assert warnings == []


@pytest.mark.parametrize("grace", [1.0, 5.0, 10.0, 30.0, 300.0])
@pytest.mark.parametrize("environ", [{}, KUBERNETES])
def test_small_and_large_budgets_need_no_other_key(grace: float, environ: dict[str, str]) -> None:
    found = budget(grace, environ=environ)
    assert found.total == grace
    assert 0 <= found.announce_min <= found.announce_max <= 0.2 * grace
    assert found.cut >= 0.5 * grace


def test_small_reserves_keep_their_proportion_and_large_ones_their_size() -> None:
    small, large = budget(1.0), budget(300.0)
    assert (small.frame, small.term, small.flush) == pytest.approx((0.1, 0.2, 0.1))
    assert (large.frame, large.term, large.flush) == (1.0, 2.0, 1.0)


def test_what_the_user_wrote_is_kept() -> None:
    found = budget(
        30.0,
        announce=AnnounceSettings(min=3.0, max=8.0, quiet=1.0),
        worker_stop=WorkerStopSettings(frame=2.0, term=3.0),
        flush=0.5,
    )
    assert (found.announce_min, found.announce_max, found.announce_quiet) == (3.0, 8.0, 1.0)
    assert (found.frame, found.term, found.flush) == (2.0, 3.0, 0.5)


def test_a_written_minimum_raises_an_unwritten_maximum() -> None:
    found = budget(30.0, announce=AnnounceSettings(min=3.0))
    assert (found.announce_min, found.announce_max) == (3.0, 3.0)


def test_a_minimum_above_the_maximum_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"drain\.announce\.min"):
        budget(30.0, announce=AnnounceSettings(min=3.0, max=2.0))


def test_parts_that_do_not_fit_are_refused_with_the_sum() -> None:
    with pytest.raises(ConfigError, match=r"announce 5s \+ finish 20s .* = 29s .* budget of 26s"):
        budget(
            26.0,
            finish=20.0,
            announce=AnnounceSettings(max=5.0),
            worker_stop=WorkerStopSettings(frame=1.0, term=2.0),
            flush=1.0,
        )


def test_a_written_finish_ends_a_long_budget_earlier() -> None:
    found = budget(300.0, finish=10.0)
    assert found.cut == 10.0


def test_no_budget_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="endure.grace_period"):
        budget(0.0)


def test_a_margin_that_eats_the_deadline_is_refused() -> None:
    with pytest.raises(ConfigError, match="drain.margin"):
        budget(environ=KUBERNETES, margin=30.0)


def test_readiness_can_flip_at_the_end_of_the_announce() -> None:
    assert budget(ready_flip="announce_end").ready_flip is None
    assert budget(ready_flip=1.5).ready_flip == 1.5


def test_a_brisk_stop_is_short_and_has_no_announce() -> None:
    brisk = budget(environ=KUBERNETES).briskly()
    assert (brisk.announce_min, brisk.announce_max) == (0.0, 0.0)
    assert brisk.cut == pytest.approx(2.0)
    assert brisk.total < 3.0
    assert budget(1.0).briskly().cut <= budget(1.0).cut


def test_keys_that_do_nothing_yet_are_told_when_they_were_written() -> None:
    drain = DrainSettings(websocket=WebSocketDrainSettings(code=1012))
    _, warnings = plan(drain, EndureSettings(grace_period=30.0), {})
    assert warnings == ["drain.websocket has no effect yet"]
    assert len(set(WITHOUT_EFFECT)) == len(WITHOUT_EFFECT)


@pytest.mark.parametrize("lb", PRESETS)
@pytest.mark.parametrize("grace", [1.0, 5.0, 10.0, 30.0, 300.0])
def test_every_preset_starts_with_every_budget(lb: str, grace: float) -> None:
    found = budget(grace, lb=lb)
    assert found.announce_max <= PRESETS[lb].share * grace + 1e-9
    assert found.announce_min <= found.announce_max < found.cut
    assert found.ready_flip == PRESETS[lb].ready_flip and found.goaway_start == PRESETS[lb].goaway_start


def test_a_preset_that_was_written_holds_on_every_platform() -> None:
    assert budget(30.0, lb="kube-proxy").announce_max == 5.0
    assert budget(30.0, environ=KUBERNETES, lb="none").announce_max == 0.0


def test_a_cloud_balancer_gets_half_of_the_budget_and_a_word_about_it() -> None:
    found, warnings = plan(DrainSettings(lb="alb"), EndureSettings(grace_period=26.0), {})
    assert (found.announce_min, found.announce_max) == (13.0, 13.0)
    assert any("drain.lb alb" in text and "35s" in text and "70s" in text for text in warnings)
    found, warnings = plan(DrainSettings(lb="alb"), EndureSettings(grace_period=70.0), {})
    assert (found.announce_max, warnings) == (35.0, [])


def test_probe_cessation_is_waited_for_behind_cloud_balancers_or_when_told() -> None:
    assert budget(lb="nlb").wait_probes and not budget(environ=KUBERNETES).wait_probes
    assert budget(announce=AnnounceSettings(wait_probe_cessation="true")).wait_probes
    assert not budget(lb="nlb", announce=AnnounceSettings(wait_probe_cessation="false")).wait_probes


def test_defaults_make_room_for_what_was_written() -> None:
    found = budget(26.0, environ=KUBERNETES, finish=20.0)
    assert found.announce_max == pytest.approx(2.0) and found.cut == pytest.approx(22.0)
    found = budget(5.0, announce=AnnounceSettings(max=4.0))
    assert found.announce_max == 4.0 and found.worker_stop + found.flush == pytest.approx(1.0)


def test_written_parts_alone_too_large_are_refused_whatever_the_defaults_could_give() -> None:
    with pytest.raises(ConfigError, match=r"announce 5s .* do not fit into the budget of 5s"):
        budget(5.0, announce=AnnounceSettings(max=5.0))


def test_a_written_readiness_flip_keeps_the_listeners_open_until_then() -> None:
    found = budget(30.0, ready_flip=3.0)
    assert (found.announce_max, found.ready_flip) == (3.0, 3.0)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"ready_flip": 8.0, "announce": AnnounceSettings(max=5.0)}, "drain.ready_flip.*8s is after.* 5s"),
        ({"goaway_start": 28.0}, "drain.goaway_start.*28s is after work is cut.*26s"),
        ({"stream_grace": 28.0}, "drain.stream_grace.*28s is after work is cut.*26s"),
    ],
)
def test_an_offset_beyond_what_it_has_to_precede_is_refused(keys: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        budget(30.0, **keys)


def test_the_stream_grace_scales_and_a_brisk_stop_has_none() -> None:
    assert budget(30.0).stream_grace == 5.0
    assert budget(2.0).stream_grace == pytest.approx(0.5 * budget(2.0).cut)
    assert budget(30.0).briskly().stream_grace == 0.0


def test_late_requests_are_served_unless_a_time_was_written() -> None:
    assert budget().late_reject is None
    assert budget(late_reject_after="off").late_reject is None
    assert budget(late_reject_after=2.0).late_reject == 2.0


@given(
    st.floats(0.05, 3600),
    st.sampled_from(["auto", "kubernetes", "docker", "systemd", "nomad", "none"]),
    st.booleans(),
)
def test_the_parts_always_fit_into_the_whole(grace: float, platform: str, in_pod: bool) -> None:
    found = budget(grace, environ=KUBERNETES if in_pod else {}, platform=platform)
    parts = found.announce_max + found.worker_stop + found.flush
    assert parts < found.total
    assert found.announce_max < found.cut
    assert found.briskly().cut > 0


def test_what_does_not_fit_is_told_with_the_key_that_the_whole_follows_from() -> None:
    told = {"RR_TERMINATION_GRACE_PERIOD": "20"}
    with pytest.raises(
        ConfigError, match=r"budget of 16s \(RR_TERMINATION_GRACE_PERIOD 20s less drain.margin\)"
    ):
        plan(DrainSettings(finish=30.0), EndureSettings(), told)
    with pytest.raises(ConfigError, match=r"budget of 16s \(endure.grace_period\)"):
        plan(DrainSettings(finish=30.0), EndureSettings(grace_period=16.0), told)


def test_an_announce_that_is_shortened_asks_for_what_would_give_it_its_time() -> None:
    told = {"RR_TERMINATION_GRACE_PERIOD": "60"}
    _, warnings = plan(DrainSettings(lb="alb"), EndureSettings(), told)
    (shortened,) = [warning for warning in warnings if "wants an announce" in warning]
    assert shortened.endswith("raise RR_TERMINATION_GRACE_PERIOD to 74s")
    _, warnings = plan(DrainSettings(lb="alb"), EndureSettings(), {"RR_TERMINATION_GRACE_PERIOD": "74"})
    assert not [warning for warning in warnings if "wants an announce" in warning]


def test_a_margin_of_nothing_is_warned_about_by_the_keys_that_were_written() -> None:
    told = {"RR_TERMINATION_GRACE_PERIOD": "60"}
    _, (warning,) = plan(DrainSettings(margin=0.0), EndureSettings(), told)
    assert warning.startswith("RR_TERMINATION_GRACE_PERIOD 60s less drain.margin (60s) is not below")


def test_roadrunners_grace_period_in_a_pod_of_the_default_is_told_both_ways_out() -> None:
    _, (warning,) = plan(DrainSettings(), EndureSettings(grace_period=30.0), KUBERNETES)
    assert warning.endswith(
        "let the platform wait 34s and say so in RR_TERMINATION_GRACE_PERIOD, or stop within 26s"
    )


@pytest.mark.parametrize(
    ("drain", "grace", "told"),
    [
        (DrainSettings(), 1e9, ""),
        (DrainSettings(platform_deadline=1e9), None, ""),
        (DrainSettings(), None, "9999999"),
    ],
)
def test_a_stop_of_more_than_a_week_is_refused(drain: DrainSettings, grace: float | None, told: str) -> None:
    with pytest.raises(ConfigError, match=r"more than a week|such as 60"):
        plan(drain, EndureSettings(grace_period=grace), {"RR_TERMINATION_GRACE_PERIOD": told})
