"""What a stop teaches: the key, the value it needed, and when nothing is to be said."""

from __future__ import annotations

import pytest

from twisted_rr.config.sections import EndureSettings
from twisted_rr.lifecycle.advice import Seen, advise, nice
from twisted_rr.lifecycle.budget import Budget, plan
from twisted_rr.lifecycle.settings import AnnounceSettings, DrainSettings

PLAIN = Budget(total=30.0)
ANNOUNCING = Budget(total=30.0, announce_min=2.0, announce_max=5.0)


def test_nothing_is_said_after_a_stop_in_which_all_went_well() -> None:
    assert advise(Seen(closed=0.0), PLAIN) == []
    assert advise(Seen(closed=4.0, last_connection=2.0), ANNOUNCING) == []


def test_a_cut_names_the_key_the_value_and_the_grace_period_of_the_pod() -> None:
    (advice,) = advise(Seen(oldest_cut=31.0, closed=0.0), PLAIN)
    assert (advice.key, advice.now, advice.value) == ("endure.grace_period", "30s", "60s")
    assert advice.text == (
        "endure.grace_period was 30s, the longest cut call was 31.0 s old and needed more: "
        "set endure.grace_period: 60s and terminationGracePeriodSeconds: 65"
    )


@pytest.mark.parametrize(
    ("drain", "environ", "key", "value"),
    [
        (DrainSettings(), {"RR_TERMINATION_GRACE_PERIOD": "60"}, "RR_TERMINATION_GRACE_PERIOD", "120s"),
        (DrainSettings(platform_deadline=60.0), {}, "drain.platform_deadline", "120s"),
    ],
)
def test_where_the_budget_follows_the_platform_no_second_number_is_advised(
    drain: DrainSettings, environ: dict[str, str], key: str, value: str
) -> None:
    budget, _ = plan(drain, EndureSettings(), environ)
    (advice,) = advise(Seen(oldest_cut=54.0, closed=5.0), budget)
    assert (advice.key, advice.value) == (key, value)
    assert "endure.grace_period" not in advice.text
    assert "was 60s, which leaves 56 s for a stop; the longest cut call was 54.0 s old" in advice.text
    assert advice.text.endswith(f"set {key}: {value} and terminationGracePeriodSeconds: 120")


def test_a_grace_period_that_was_written_is_the_one_to_raise_whatever_the_platform_says() -> None:
    told = {"RR_TERMINATION_GRACE_PERIOD": "60"}
    budget, _ = plan(DrainSettings(), EndureSettings(grace_period=30.0), told)
    (advice,) = advise(Seen(oldest_cut=27.0, closed=0.0), budget)
    assert advice.key == "endure.grace_period"


@pytest.mark.parametrize("oldest", [0.1, 3.0, 26.0, 27.0, 200.0, 5000.0])
@pytest.mark.parametrize("total", [1.0, 10.0, 26.0, 30.0, 300.0])
def test_what_is_advised_is_a_budget_that_starts_and_lets_such_a_call_finish(
    oldest: float, total: float
) -> None:
    budget, _ = plan(DrainSettings(), EndureSettings(grace_period=total), {})
    (advice,) = advise(Seen(oldest_cut=oldest, closed=0.0), budget)
    better, _ = plan(DrainSettings(), EndureSettings(grace_period=float(advice.value[:-1])), {})
    assert better.total > budget.total
    assert better.cut > oldest


def test_a_written_finish_is_the_key_to_change_and_the_whole_follows() -> None:
    budget, _ = plan(DrainSettings(finish=5.0), EndureSettings(grace_period=30.0), {})
    (advice,) = advise(Seen(oldest_cut=8.0, closed=0.0), budget)
    assert (advice.key, advice.now, advice.value) == ("drain.finish", "5s", "15s")
    assert "endure.grace_period to at least 20s and terminationGracePeriodSeconds: 25" in advice.text


def test_a_finish_that_the_whole_does_not_reach_is_not_the_one_to_change() -> None:
    budget, _ = plan(DrainSettings(finish=26.0), EndureSettings(grace_period=30.0), {})
    (advice,) = advise(Seen(oldest_cut=27.0, closed=0.0), budget)
    assert advice.key == "endure.grace_period"


def test_a_connection_in_the_last_part_of_the_announce_makes_it_too_short() -> None:
    (advice,) = advise(Seen(closed=5.0, last_connection=4.8), ANNOUNCING)
    assert (advice.key, advice.now, advice.value) == ("drain.announce.max", "5s", "8s")
    assert "4.8 s after the stop began" in advice.text


def test_an_announce_that_became_quiet_was_long_enough() -> None:
    assert advise(Seen(closed=4.0, last_connection=2.0), ANNOUNCING) == []
    assert advise(Seen(closed=5.0, last_connection=3.9), ANNOUNCING) == []


def test_without_an_announce_a_connection_at_the_very_close_advises_one() -> None:
    (advice,) = advise(Seen(closed=0.01, last_connection=0.01), PLAIN)
    assert (advice.key, advice.value) == ("drain.announce.max", "5s")
    assert advise(Seen(closed=0.0), PLAIN) == []


def test_an_announce_that_would_eat_the_whole_asks_for_more_of_it() -> None:
    budget, _ = plan(DrainSettings(announce=AnnounceSettings(max=5.0)), EndureSettings(grace_period=10.0), {})
    (advice,) = advise(Seen(closed=5.0, last_connection=4.9), budget)
    assert "and endure.grace_period: 20s" in advice.text


def test_an_announce_that_would_eat_the_whole_asks_for_more_of_what_the_whole_follows_from() -> None:
    told = {"RR_TERMINATION_GRACE_PERIOD": "12"}
    budget, _ = plan(DrainSettings(announce=AnnounceSettings(max=5.0)), EndureSettings(), told)
    (advice,) = advise(Seen(closed=5.0, last_connection=4.9), budget)
    assert "and RR_TERMINATION_GRACE_PERIOD: 20s" in advice.text


def test_a_worker_that_had_to_be_killed_advises_patience_unless_a_cut_explains_it() -> None:
    (advice,) = advise(Seen(killed=2, closed=0.0), PLAIN)
    assert (advice.key, advice.value) == ("drain.worker_stop.term", "5s")
    assert advice.text.startswith("2 workers did not end within 3 s")
    (advice,) = advise(Seen(killed=2, oldest_cut=27.0, closed=0.0), PLAIN)
    assert advice.key == "endure.grace_period"


def test_numbers_are_those_that_people_write() -> None:
    assert [nice(value) for value in (0.2, 1, 4.1, 31, 46, 601, 4000)] == [1, 1, 5, 45, 60, 900, 7200]
