"""A run on several ranks, whoever starts them: torch's elastic agent for `trainer.devices`, torchrun, srun."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path

import pytest
from same_runs import same_end

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main
from deitlt.engine.launch import failing_late
from deitlt.errors import TrainingError
from deitlt.reports.comparison import Hits

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a CPU device is a core, and there is one")
GUIDE = Path(__file__).parents[2] / "docs" / "clusters.md"
WORDS = ("trainer=cpu", "student.images_per_update=16", "teacher.images_per_update=16", "data.num_workers=1")


@pytest.fixture(autouse=True)
def one_thread(environment, monkeypatch):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "WANDB_MODE"):
        monkeypatch.setenv(name, environment[name])


@pytest.fixture(scope="module")
def two(tiny, tmp_path_factory):
    """Teacher and student on two ranks of this host."""
    run = tmp_path_factory.mktemp("two") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        patch.setenv("OMP_NUM_THREADS", "1")
        assert main(["train", *tiny, *WORDS, "trainer.devices=2", f"paths.output_dir={run}"]) == 0
    return run


@pytest.fixture
def start(environment, tmp_path):
    """Starts a command of several processes and ends what is left of it after the test."""
    started = []

    def begin(*command, **variables):
        output = (tmp_path / f"{len(started)}.txt").open("w+")
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment | variables,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        started.append((process, output))
        return process, lambda: Path(output.name).read_text()

    yield begin
    for process, output in started:
        for pid in [process.pid, *children(process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        output.close()


def children(pid):
    """Processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] if alive(pid) else []


def family(pid):
    """A process, and all that it has started and these have."""
    return [pid, *(member for child in children(pid) for member in family(child))]


def alive(pid):
    return Path(f"/proc/{pid}/task/{pid}/children").exists()


def wait_for(file, process, said, seconds=240):
    end = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, said()
        assert time.monotonic() < end, said()
        time.sleep(0.02)
    time.sleep(0.1)  # the epoch's row of metrics.csv follows its checkpoint


def torchrun(*words, nodes=1, ranks=2, endpoint=None, restarts=0):
    """The words behind `python` that start a run under torchrun."""
    place = ["--standalone"] if endpoint is None else ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}"]
    agent = ["-m", "torch.distributed.run", f"--nnodes={nodes}", f"--nproc-per-node={ranks}", *place]
    return [*agent, f"--max-restarts={restarts}", "-m", "deitlt", "train", *words]


def wait_until_listening(port, seconds=60):
    end = time.monotonic() + seconds
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        assert time.monotonic() < end
        time.sleep(0.1)


def free_port():
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        return place.getsockname()[1]


def test_two_ranks_train_all_stages_and_count_each_image_once(two, tiny, tmp_path):
    metrics = json.loads((two / "metrics.json").read_text())
    assert {"teacher", "student", "student_ema"} <= metrics.keys()
    for stage in ("teacher", "student"):
        assert (two / stage / "metrics.csv").read_text().count("\n0,") <= 3  # one rank writes
        assert main(["evaluate", f"checkpoint={two}", f"stage={stage}", f"paths.output_dir={stage}"]) == 0
        alone = json.loads((tmp_path / stage / "metrics.json").read_text())[stage]
        found, hits = (Hits.load(run / "test_hits.npz") for run in (tmp_path / stage, two))
        assert found.key == hits.key
        assert found.right.keys() <= hits.right.keys()
        assert all(right.tolist() == hits.right[series].tolist() for series, right in found.right.items())
        assert metrics[stage]["all" if stage == "teacher" else "cls"] == alone["all" if stage == "teacher" else "cls"]
    assert {"rank 0", "rank 1"} <= {" ".join(line.split()[2:4]) for line in (two / "run.log").read_text().splitlines()}


@pytest.mark.slow
def test_ranks_of_torchrun_and_of_two_hosts_end_as_those_of_one(two, tiny, tmp_path, start):
    words = [*tiny, *WORDS, f"paths.output_dir={tmp_path / 'run'}"]
    process, said = start(*torchrun(*words))
    assert process.wait(300) == 0, said()
    hosts = [*tiny, *WORDS, "trainer.num_nodes=2", f"paths.output_dir={tmp_path / 'hosts'}"]
    command = torchrun(*hosts, nodes=2, ranks=1, endpoint=f"127.0.0.1:{free_port()}")
    first, second = start(*command), start(*command)
    assert (first[0].wait(300), second[0].wait(60)) == (0, 0), first[1]() + second[1]()
    for run in ("run", "hosts"):
        for stage in ("teacher", "student"):
            same_end(tmp_path / run, two, stage)


@pytest.mark.slow
def test_a_host_that_is_lost_comes_back_and_the_run_ends_the_same(two, tiny, tmp_path, start):
    run = tmp_path / "run"
    words = [*tiny, *WORDS, f"teacher.checkpoint={two}", f"paths.output_dir={run}"]
    port = free_port()
    command = torchrun(*words, nodes=2, ranks=1, endpoint=f"127.0.0.1:{port}", restarts=3)
    own_stores = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # else torch 2.15 has a host that comes later wait in vain
    first, said = start(*command, **own_stores)
    wait_until_listening(port)  # so that this agent, which is left, keeps what the agents share
    second, _ = start(*command, **own_stores)
    wait_for(run / "student" / "last.ckpt", first, said)
    os.kill(second.pid, signal.SIGKILL)
    assert not (run / "student" / "result.json").exists()
    time.sleep(20)  # a scheduler takes longer; torchrun counts a lost host as present for 15 s
    third, _ = start(*command, **own_stores)
    assert (first.wait(300), third.wait(60)) == (0, 0), said()
    same_end(run, two, "student")


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_all_ranks_with_75_and_the_same_words_go_on(signum, two, tiny, tmp_path, start):
    run = tmp_path / "run"
    words = [*tiny, *WORDS, "trainer.devices=2", f"teacher.checkpoint={two}", "resume=auto", f"paths.output_dir={run}"]
    process, said = start("-m", "deitlt", "train", *words)
    wait_for(run / "student" / "last.ckpt", process, said)
    process.send_signal(signum)
    assert process.wait(60) == 75, said()
    assert f"stopped by {signum.name}; type deitlt train resume={run}" in said()
    assert "Traceback" not in said()
    assert read_checkpoint(run / "student" / "last.ckpt")["epoch"] < 2
    assert main(["train", *words]) == 0
    same_end(run, two, "student")


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_and_the_run_goes_on(two, tiny, tmp_path, start):
    run = tmp_path / "run"
    words = [*tiny, *WORDS, "trainer.devices=2", f"teacher.checkpoint={two}", f"paths.output_dir={run}"]
    process, said = start("-m", "deitlt", "train", *words)
    wait_for(run / "student" / "last.ckpt", process, said)
    ranks = [pid for pid in children(process.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    killed = family(ranks[1])
    assert len(killed) > 2  # the process that forks its workers, and a worker
    os.kill(ranks[1], signal.SIGKILL)
    assert process.wait(60) == 2
    (line,) = [line for line in said().splitlines() if line.startswith("deitlt: ")]
    assert line.startswith("deitlt: Rank 1 was killed by SIGKILL")
    assert main(["train", f"resume={run}"]) == 0
    same_end(run, two, "student")
    assert not any(alive(pid) for pid in killed)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["student.optimizer.lr=1e30", "student.epochs=5", "paths.output_dir=run"], "The loss was not finite"),
        (["paths.output_dir=taken"], "Not a directory; make room or give way there, or type another path"),
    ],
)
def test_what_a_user_can_mend_on_two_ranks_is_one_sentence(words, sentence, tiny, teacher, tmp_path, capfd):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "student").touch()  # a file, where the stage's folder is to be
    assert main(["train", *tiny, *WORDS, teacher, "trainer.devices=2", *words]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert sentence in line


def test_what_the_system_refuses_a_rank_is_said_at_once_and_in_words():
    with pytest.raises(TrainingError, match="run/x: No space left on device; make room"), failing_late():
        raise OSError(errno.ENOSPC, "No space left on device", "run/x")


def test_a_run_that_another_process_trains_is_left_alone(begun, start, tmp_path, capsys):
    holder = textwrap.dedent("""\
        import sys, time
        from pathlib import Path
        from deitlt.engine.run_folder import RunFolder

        with RunFolder(Path(sys.argv[1])).held() as take:
            take()
            print("held", flush=True)
            time.sleep(600)
    """)
    left = begun / "student" / ".last.ckpt.123"
    left.write_text("half")
    process, said = start("-c", holder, str(begun))
    end = time.monotonic() + 60
    while "held" not in said():
        assert time.monotonic() < end
        time.sleep(0.05)
    assert not left.exists()  # what a killed process left half-written
    assert main(["train", f"resume={begun}"]) == 2
    assert f"{begun} is being trained by process {process.pid} on " in capsys.readouterr().err
    process.kill()
    process.wait()
    assert main(["train", f"resume={begun}"]) == 0  # the lock ended with its process


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ranks", "words", "sentence"),
    [
        (2, ["trainer.devices=4"], "type --nproc-per-node=4 for torchrun"),
        (1 + (os.cpu_count() or 1), [], f"type --nproc-per-node={os.cpu_count()} or fewer"),
    ],
)
def test_ranks_that_cannot_be_are_refused_in_one_sentence(ranks, words, sentence, tiny_vit, start):
    process, said = start(*torchrun(*tiny_vit, "trainer=cpu", *words, "paths.output_dir=run", ranks=ranks))
    assert process.wait(120) != 0
    lines = [line for line in said().splitlines() if line.startswith("deitlt: ")]
    assert len(lines) == 1, said()
    assert sentence in lines[0]


@pytest.mark.slow
def test_hosts_that_were_told_different_words_are_refused(tiny_vit, start):
    endpoint = f"127.0.0.1:{free_port()}"
    seeds = [
        torchrun(*tiny_vit, f"seed={seed}", "paths.output_dir=run", nodes=2, ranks=1, endpoint=endpoint)
        for seed in (0, 1)
    ]
    hosts = [start(*command) for command in seeds]
    assert all(process.wait(120) for process, _ in hosts)
    said = "".join(said() for _, said in hosts)
    assert said.count("was told other words than rank 0; type the same on every host") == 1
    assert not Path("run").exists()


def test_several_hosts_that_nothing_starts_are_refused(complain, tiny):
    sentence = complain("train", *tiny, "trainer.num_nodes=2")
    assert "trainer.num_nodes=2, but nothing has started several ranks; type torchrun --nnodes=2" in sentence


def test_a_batch_script_without_srun_is_refused(complain, tiny, monkeypatch):
    for name, value in {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "lt", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert "Slurm was told --ntasks=2" in complain("train", *tiny)
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    assert "Slurm gave this job 2 tasks, and one was started; type srun deitlt" in complain("train", *tiny)


def test_the_guides_batch_script_requeues_a_job_that_was_stopped_and_no_other(tmp_path, environment):
    def told(code):
        bin_folder, file = tmp_path / "bin", tmp_path / "told"
        bin_folder.mkdir(exist_ok=True)
        file.unlink(missing_ok=True)
        stand_ins = {"srun": '"$@"', "scontrol": f'echo "scontrol $@" >> {file}', "deitlt": f"exit {code}"}
        for name, line in stand_ins.items():
            (bin_folder / name).write_text(f"#!/bin/bash\n{line}\n")
            (bin_folder / name).chmod(0o755)
        text = GUIDE.read_text()
        script = textwrap.dedent(text[text.index("    #!/bin/bash") : text.index("`--signal` has Slurm")])
        variables = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "SLURM_JOB_ID": "4711"}
        subprocess.run(["bash", "-c", script], env=environment | variables, check=False)
        return file.read_text() if file.exists() else ""

    assert told(75) == "scontrol requeue 4711\n"
    assert told(0) + told(1) + told(2) == ""
