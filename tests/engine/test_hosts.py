"""Two hosts: two process trees with their own addresses, one CPU rank each, that meet over gloo."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from same_runs import same_end

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.errors import Preempted

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one"),
]
WORDS = (
    *("data.max_count=30", "student.epochs=8", "student.drw.start_epoch=4", "student.batch_size=4"),
    *("trainer=ddp", "trainer.accelerator=cpu", "report=false", "analysis.every=null"),
)


@pytest.fixture
def start(tiny, teacher, environment, tmp_path):
    """Starts the same command on both hosts; ends whatever is left of them."""
    started, port = [], find_free_network_port()

    def both(run, *words):
        for rank in (0, 1):
            place = {"NODE_RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            own = environment | place | {"GLOO_SOCKET_IFNAME": "lo"}
            command = [sys.executable, "-m", "deitlt", "train", *words]
            output = (tmp_path / f"host{rank}-{len(started) - rank}.txt").open("w+")
            started.append(subprocess.Popen(command, env=own, stdout=output, stderr=output, start_new_session=True))
        return started[-2:]

    yield lambda run, *words: both(run, *tiny, teacher, *WORDS, *words, f"paths.output_dir={run}")
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def together(tiny, teacher, tmp_path_factory):
    """The run of two ranks on one host."""
    run = tmp_path_factory.mktemp("together") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(["train", *tiny, teacher, *WORDS, "trainer.devices=2", f"paths.output_dir={run}"]) == 0
    return run


TWO = ("trainer.devices=1", "trainer.num_nodes=2", "trainer.lost_after=5", "resume=auto")


def wait_for(file, processes, seconds=120):
    end = time.monotonic() + seconds
    while not file.exists():
        assert all(process.poll() is None for process in processes), "a host ended too early"
        assert time.monotonic() < end, f"no {file.name} in {seconds} s"
        time.sleep(0.01)


def same_metrics(run, other):
    """Whether two runs found the same to the last digit."""
    ours, theirs = (json.loads((path / "metrics.json").read_text()) for path in (run, other))
    for part in ("student", "student_ema"):
        assert ours[part] == theirs[part]
    same_end(run, other, "student")


def test_two_hosts_find_what_two_ranks_of_one_find(start, together, tmp_path):
    hosts = start(tmp_path / "run", *TWO)
    assert [host.wait(240) for host in hosts] == [0, 0]
    same_metrics(tmp_path / "run", together)


def test_a_host_that_was_killed_and_brought_back_changes_nothing(start, together, tmp_path):
    run = tmp_path / "run"
    hosts = start(run, *TWO)
    wait_for(run / "student" / "last.ckpt", hosts)
    os.killpg(hosts[1].pid, signal.SIGKILL)
    began = time.monotonic()
    assert hosts[0].wait(60) == Preempted.CODE
    sys.stdout.write(f"the other host noticed after {time.monotonic() - began:.1f} s\n")
    said = (tmp_path / "host0-0.txt").read_text()
    assert said.splitlines()[-1].startswith("stopped, for host 1 of 2 gave no sign of life for ")
    assert "Traceback" not in said
    assert not (run / "metrics.json").exists()
    assert [host.wait(240) for host in start(run, *TWO)] == [0, 0]
    same_metrics(run, together)


def test_a_signal_to_one_host_stops_both_after_the_same_update(start, together, tmp_path):
    run = tmp_path / "run"
    hosts = start(run, *TWO)
    wait_for(run / "student" / "last.ckpt", hosts)
    hosts[1].send_signal(signal.SIGTERM)
    assert [host.wait(60) for host in hosts] == [Preempted.CODE, Preempted.CODE]
    assert read_checkpoint(run / "student" / "last.ckpt")["epoch"] < 7
    assert [host.wait(240) for host in start(run, *TWO)] == [0, 0]
    same_metrics(run, together)


def test_hosts_that_cannot_train_say_so_in_one_sentence(start, tmp_path):
    hosts = start(tmp_path / "run", *TWO, "data.imbalance_factor=2")
    assert [host.wait(120) for host in hosts] == [2, 2]
    assert not (tmp_path / "run").exists()
    for rank in (0, 1):
        said = (tmp_path / f"host{rank}-0.txt").read_text().splitlines()
        assert len(said) == 1
        assert said[0].startswith("deitlt: ")
