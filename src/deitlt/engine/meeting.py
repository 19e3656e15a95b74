"""What the hosts of a run tell each other: who is there, what to train next, how it ended.

Host 0 keeps a store (torch's `TCPStore`) that the others reach. Nothing of it depends on the ranks' process group, so
a host that is gone is noticed whatever the ranks wait in: host 0 counts the others' beats, and theirs end when its
store is gone.
"""

import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from torch.distributed import TCPStore  # type: ignore[attr-defined]

from deitlt.engine.host_place import HostPlace
from deitlt.errors import ConfigError, Preempted

JOIN_WITHIN = 600.0  # seconds within which all hosts have to have come: schedulers start them one after the other
BEAT_EVERY = 1.0  # seconds
LEAVE_WITHIN = 10.0  # seconds that host 0 waits for the others to have read how it ended
COME_WITHIN = 30.0  # seconds that it waits for those who have not come yet, so that they need not wait for it
ENDED = "ended"


@dataclass(frozen=True)
class Order:
    """What host 0 wants done: `number` counts. Either a stage (its file's text, and the port that its ranks meet at) or
    the end, with host 0's exit code and what it said."""

    number: int
    stage: str | None = None
    port: int = 0
    code: int = 0
    said: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a stage ended on one host: the exit code of its processes, and what they said of a user's mistake."""

    code: int
    said: str = ""


class Meeting:
    """One host's view of the store.

    Args:
        place: this host's.
        words: what was typed here, the same on every host; none where that does not matter.
        lost_after: seconds without a sign of life after which a host counts as lost.

    Raises:
        Preempted: host 0 could not be reached.
        ConfigError: host 0 cannot listen there.
    """

    def __init__(self, place: HostPlace, words: list[str], lost_after: float) -> None:
        self.place, self.words, self.lost_after = place, words, lost_after
        self._store = _listen(place, lost_after) if place.is_first else _reach(place, lost_after)
        self._beats: dict[int, tuple[str, float]] = {}  # host -> its last beat, and when it was seen
        self._beat = 0
        self._beaten = 0.0
        self._given = -1
        self._lost: set[int] = set()
        self._set(f"words/{place.rank}", json.dumps(words))

    @property
    def others(self) -> range:
        """The hosts beside host 0."""
        return range(1, self.place.hosts)

    def gather(self) -> None:
        """On host 0: wait until all hosts have come, and see that they were told the same.

        Raises:
            Preempted: one did not come.
            ConfigError: one was told something else.
        """
        end = time.monotonic() + JOIN_WITHIN
        for host in self.others:
            while not self._has(f"words/{host}"):
                if time.monotonic() > end:
                    raise Preempted(why=f"host {host} of {self.place.hosts} did not come in {JOIN_WITHIN:.0f} s")
                time.sleep(0.1)
            theirs = json.loads(self._get(f"words/{host}"))
            if theirs and self.words and theirs != self.words:
                odd = next(iter([*set(theirs) ^ set(self.words), "another order"]))
                raise ConfigError(f"Host {host} was told other words than host 0 ({odd}); type the same on every host.")

    def give(self, order: Order) -> None:
        """On host 0: have all hosts do it."""
        now = time.monotonic()
        self._given = order.number
        self._beats = dict.fromkeys(self.others, ("", now))
        self._set(f"order/{order.number}", json.dumps(order.__dict__))

    def was_given(self, number: int) -> bool:
        """On host 0: whether the order with this number was given."""
        return number <= self._given

    def next_order(self, number: int) -> Order:
        """On another host: wait for an order."""
        while not self._has(f"order/{number}"):
            self.beat()
            time.sleep(0.1)
        return Order(**json.loads(self._get(f"order/{number}")))

    def beat(self) -> None:
        """Show that this host is there."""
        if time.monotonic() - self._beaten > BEAT_EVERY:
            self._beat, self._beaten = self._beat + 1, time.monotonic()
            self._set(f"beat/{self.place.rank}", str(self._beat))

    def report(self, number: int, outcome: Outcome) -> None:
        """Say how the order with this number ended here."""
        self._set(f"{ENDED}/{number}/{self.place.rank}", json.dumps(outcome.__dict__))

    def outcome(self, number: int, host: int) -> Outcome | None:
        """How it ended on a host, if it has."""
        key = f"{ENDED}/{number}/{host}"
        return Outcome(**json.loads(self._get(key))) if self._has(key) else None

    def look_for_lost(self) -> None:
        """On host 0: see that the others live.

        Raises:
            Preempted: one does not.
        """
        now = time.monotonic()
        for host in self.others:
            beat = self._get(f"beat/{host}") if self._has(f"beat/{host}") else ""
            last, seen = self._beats[host]
            if beat != last:
                self._beats[host] = beat, now
            elif now - seen > self.lost_after:
                self._lost.add(host)
                raise Preempted(why=f"host {host} of {self.place.hosts} gave no sign of life for {now - seen:.0f} s")

    def has_ended(self, number: int) -> bool:
        """On another host: whether host 0 gave the order after this one while it is still at work."""
        return self._has(f"order/{number + 1}")

    def leave(self, expects_all: bool = False) -> None:
        """Go; host 0, whose store it is, goes last, if the others do not take too long.

        Args:
            expects_all: wait for those who have not come yet, too: what ends the run concerns them.
        """
        if not self.place.is_first:
            self._set(f"left/{self.place.rank}", "")
            return
        began = time.monotonic()
        while any(self._is_awaited(host, time.monotonic() - began, expects_all) for host in self.others):
            time.sleep(0.05)

    def _is_awaited(self, host: int, waited: float, expects_all: bool) -> bool:
        """Whether host 0, which has waited for some seconds, should go on waiting for a host to leave."""
        if host in self._lost or self._has(f"left/{host}"):
            return False
        if not self._has(f"words/{host}"):
            return expects_all and waited < COME_WITHIN
        return waited < (COME_WITHIN if expects_all else 0.0) + LEAVE_WITHIN

    def _has(self, key: str) -> bool:
        return bool(self._ask(lambda: self._store.check([key])))

    def _get(self, key: str) -> str:
        content: bytes = self._ask(lambda: self._store.get(key))
        return content.decode()

    def _set(self, key: str, value: str) -> None:
        self._ask(lambda: self._store.set(key, value))

    def _ask(self, question: Any) -> Any:
        """Ask the store; without an answer, its host is gone."""
        try:
            return question()
        except RuntimeError as error:  # torch's DistError is one
            raise Preempted(why=f"host 0 of {self.place.hosts} is gone") from error


def _listen(place: HostPlace, timeout: float) -> TCPStore:
    try:
        return _store(place, timeout)
    except RuntimeError as error:
        raise ConfigError(
            f"Host 0 cannot listen at port {place.port}, where something else may; set MASTER_PORT to another on "
            "every host."
        ) from error


def _reach(place: HostPlace, timeout: float) -> TCPStore:
    """Try again and again: host 0 may come later, and a signal should not have to wait for it."""
    end = time.monotonic() + JOIN_WITHIN
    while True:
        try:
            store = _store(place, min(timeout, 5.0))
            store.set_timeout(timedelta(seconds=timeout))
            return store
        except RuntimeError as error:
            if time.monotonic() > end:
                at = f"{place.address}:{place.port}"
                raise Preempted(why=f"host 0 did not answer at {at} in {JOIN_WITHIN:.0f} s") from error


def _store(place: HostPlace, timeout: float) -> TCPStore:
    wait = timedelta(seconds=timeout)
    return TCPStore(place.address, place.port, None, place.is_first, wait, wait_for_workers=False)
