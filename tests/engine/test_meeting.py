"""Two hosts in this process, each with a connection of its own."""

import threading

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from deitlt.engine.host_place import HostPlace
from deitlt.engine.meeting import Meeting, Order, Outcome
from deitlt.errors import ConfigError, Preempted


@pytest.fixture
def meetings():
    """Makes host 0's meeting and host 1's."""
    port = find_free_network_port()

    def make(words=("seed=1",), others=("seed=1",), lost_after=5.0):
        first = Meeting(HostPlace(0, 2, "127.0.0.1", port), list(words), lost_after)
        return first, Meeting(HostPlace(1, 2, "127.0.0.1", port), list(others), lost_after)

    return make


def test_an_order_reaches_the_other_host_and_its_end_comes_back(meetings):
    first, second = meetings()
    first.gather()
    first.give(Order(0, "stage text", 1234))
    assert second.next_order(0) == Order(0, "stage text", 1234)
    assert first.outcome(0, 1) is None
    second.report(0, Outcome(2, "The disk is full."))
    assert first.outcome(0, 1) == Outcome(2, "The disk is full.")
    assert not second.has_ended(0)
    first.give(Order(1, None, code=2, said="The disk is full."))
    assert second.has_ended(0)
    assert second.next_order(1).code == 2


def test_a_host_waits_for_its_order(meetings):
    first, second = meetings()
    threading.Timer(0.3, lambda: first.give(Order(0, "late"))).start()
    assert second.next_order(0).stage == "late"


def test_hosts_that_were_told_different_words_are_refused(meetings):
    first, _ = meetings(others=("seed=2",))
    with pytest.raises(ConfigError, match="Host 1 was told other words than host 0"):
        first.gather()


def test_a_run_to_go_on_with_is_told_in_other_words(meetings):
    first, _ = meetings(words=())
    assert first.gather() is None  # and refuses nobody


def test_a_host_without_a_sign_of_life_is_lost(meetings, monkeypatch):
    first, second = meetings(lost_after=5.0)
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    first.give(Order(0, "stage"))
    for _ in range(4):
        now[0] += 4
        second.beat()
        first.look_for_lost()
    now[0] += 6
    with pytest.raises(Preempted) as stopped:
        first.look_for_lost()
    assert stopped.value.why == "host 1 of 2 gave no sign of life for 6 s"


def test_a_port_that_is_taken_is_one_sentence(meetings):
    first, _ = meetings()
    with pytest.raises(ConfigError, match="set MASTER_PORT to another"):
        Meeting(first.place, [], 5.0)
