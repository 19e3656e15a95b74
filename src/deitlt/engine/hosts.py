"""A stage on several hosts: host 0 gives it to all of them, each starts its own ranks, and all end together."""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from omegaconf import DictConfig, OmegaConf

from deitlt.engine.host_place import HostPlace, find_place, refuse_lone_ranks
from deitlt.engine.meeting import Meeting, Order, Outcome
from deitlt.engine.ranks import STAGE_FILE, Ranks, conclude
from deitlt.engine.run_folder import AUTO
from deitlt.engine.stage_config import StageConfig
from deitlt.errors import FAILED, OK, USER_ERROR, Preempted, TrainingError, UserError, sentence

PATIENCE = 10.0  # seconds that this host's ranks get to notice that another host's have ended
LOST_AFTER = 30.0  # seconds, for runs of older versions


def find_hosts(config: DictConfig) -> tuple[HostPlace | None, float]:
    """Which of the run's hosts this is, and when one of them counts as lost.

    Args:
        config: as it was typed; a run to go on with says itself on how many hosts it trains.

    Returns:
        This host's place, None where it is the only one; and seconds without a sign of life.

    Raises:
        ConfigError: nothing says it, or it does not fit.
    """
    begun = None if config.resume in (None, AUTO) else Path(config.resume).expanduser() / "config.yaml"
    asked = OmegaConf.load(begun) if begun is not None and begun.exists() else config
    hosts = int(OmegaConf.select(asked, "trainer.num_nodes", default=1))
    lost_after = float(OmegaConf.select(asked, "trainer.lost_after", default=LOST_AFTER))
    if hosts == 1:
        refuse_lone_ranks(os.environ)
        return None, lost_after
    return find_place(hosts, os.environ), lost_after


def words_typed(config: DictConfig) -> list[str]:
    """What every host has to be told alike: the overrides, but for where the run lies; none of a run to go on with."""
    if config.resume not in (None, AUTO):
        return []
    return sorted(word for word in HydraConfig.get().overrides.task if not word.startswith(("resume=", "paths.")))


class Hosts:
    """Host 0's hold on the others.

    Args:
        meeting: with them.
    """

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._number = 0
        self._failed_since: float | None = None

    def run(self, stage: StageConfig, file: Path) -> None:
        """Train a stage on all hosts.

        Args:
            stage: it.
            file: where it was saved.

        Raises:
            UserError: what some host's ranks could not do, in their own words.
            Preempted: a signal, or a host that is lost; the others have ended, too.
        """
        if self._number == 0:
            self._meeting.gather()
        port = find_free_network_port()
        self._meeting.give(Order(self._number, file.read_text(), port))
        ranks = Ranks(file, variables(self._meeting.place, port))
        outcome = ranks.wait(self._look)
        self._wait_for_others(outcome)
        conclude(self._judged(outcome), ranks)
        self._number += 1

    def dismiss(self, code: int, said: str = "") -> None:
        """Tell the others that the run has ended, and how."""
        self._meeting.give(Order(self._number + 1 if self._is_running else self._number, None, 0, code, said))
        self._meeting.leave(expects_all=code == USER_ERROR)

    @property
    def _is_running(self) -> bool:
        """Whether the order at hand was given and not seen to its end."""
        return self._meeting.was_given(self._number)

    def _look(self) -> None:
        """Raise Preempted where another host is lost, or has failed and these ranks do not notice."""
        self._meeting.look_for_lost()
        failed = self._failed()
        if failed is not None:
            self._failed_since = self._failed_since or time.monotonic()
            if time.monotonic() - self._failed_since > PATIENCE:
                raise Preempted(why=failed)

    def _failed(self) -> str | None:
        """Which host's ranks did not end well, in words."""
        for host in self._meeting.others:
            outcome = self._meeting.outcome(self._number, host)
            if outcome is not None and outcome.code:
                return f"host {host}'s processes ended with code {outcome.code}"
        return None

    def _wait_for_others(self, own: Outcome) -> None:
        """Until each has told how it ended, or is lost; these ranks' own failure may be for nothing but that."""
        while any(self._meeting.outcome(self._number, host) is None for host in self._meeting.others):
            if own.code == Preempted.CODE:
                return
            self._meeting.look_for_lost()
            time.sleep(0.1)

    def _judged(self, own: Outcome) -> Outcome:
        """How the stage ended in all: a user's mistake counts first, then a kill, then the ranks' own end."""
        others = {host: self._meeting.outcome(self._number, host) for host in self._meeting.others}
        for host, outcome in others.items():
            if outcome is not None and outcome.said and not own.said:
                return Outcome(outcome.code, f"On host {host}: {outcome.said}")
        for host, outcome in others.items():
            if outcome is not None and outcome.code < 0 and not own.said:
                raise Preempted(why=f"host {host}'s processes were killed by signal {-outcome.code}")
        return own if own.code else next((o for o in others.values() if o is not None and o.code), own)


@contextmanager
def leading(place: HostPlace | None, words: list[str], lost_after: float) -> Iterator[Hosts | None]:
    """Lead the other hosts for a block, and tell them how it ended; None where there are none."""
    if place is None:
        yield None
        return
    hosts = Hosts(Meeting(place, words, lost_after))
    try:
        yield hosts
    except UserError as error:
        hosts.dismiss(USER_ERROR, sentence(error))
        raise
    except Preempted as stopped:
        hosts.dismiss(stopped.CODE, stopped.why)
        raise
    except BaseException:
        hosts.dismiss(FAILED)
        raise
    hosts.dismiss(OK)


def follow(place: HostPlace, words: list[str], lost_after: float) -> None:
    """Do what host 0 orders, stage after stage, to its end.

    Raises:
        UserError: what ended the run, in the words of the host that it concerns.
        Preempted: a signal, here or there, or host 0 is lost.
    """
    meeting = Meeting(place, words, lost_after)
    number, ranks, outcome = 0, None, Outcome(0)
    while (order := meeting.next_order(number)).stage is not None:
        with tempfile.TemporaryDirectory(prefix="deitlt-stage-") as folder:
            ranks, outcome = _obey(order, Path(folder), meeting)
        number += 1
    meeting.leave()
    if order.code == Preempted.CODE:
        raise Preempted(why=order.said)
    if order.said:
        raise TrainingError(order.said if order.said.startswith("On host") else f"Host 0: {order.said}")
    if order.code and ranks is not None:
        conclude(Outcome(outcome.code or order.code), ranks)
    if order.code:
        raise SystemExit(order.code)


def _obey(order: Order, folder: Path, meeting: Meeting) -> tuple[Ranks, Outcome]:
    """Run this host's ranks of a stage, and report how they ended."""
    assert order.stage is not None
    file = folder / STAGE_FILE
    file.write_text(order.stage)

    def look() -> None:
        meeting.beat()
        if meeting.has_ended(order.number):
            raise Preempted(why="host 0 has ended")

    ranks = Ranks(file, variables(meeting.place, order.port))
    try:
        outcome = ranks.wait(look)
    except Preempted as stopped:
        if stopped.signum:
            meeting.report(order.number, Outcome(stopped.CODE))
            meeting.leave()
            raise
        outcome = Outcome(stopped.CODE)
    meeting.report(order.number, outcome)
    return ranks, outcome


def variables(place: HostPlace, port: int) -> dict[str, str]:
    """What tells this host's ranks where they are."""
    return {"MASTER_ADDR": place.address, "MASTER_PORT": str(port), "NODE_RANK": str(place.rank)}
