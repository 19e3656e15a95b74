"""A run's processes: this one alone, ranks that torch's elastic agent starts here, or those of torchrun and srun.

A signal ends each with the code `Preempted.CODE`, 75, by which what started it knows to start it again: a batch script
requeues its job, torchrun restarts its processes. Nothing here calls a scheduler, so that no job is requeued twice. A
launcher that waits for a signal itself, as submitit does for SIGUSR2, gets it after the checkpoint.
"""

import dataclasses
import hashlib
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import forkserver
from types import FrameType
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import deitlt.errors as errors
from deitlt.callbacks.stop_and_resume import taken_signals
from deitlt.engine.run_folder import RunFolder
from deitlt.errors import USER_ERROR, ConfigError, Preempted, TrainingError, UserError, refused

Found = TypeVar("Found")
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"  # that the agent passes on to its ranks
PATIENCE = timedelta(hours=1)  # for a rank that others wait for: the first looks at all files, draws, writes
A_MOMENT = 1.0  # seconds that a rank waits which fails because another did: the agent tells of the first to end
GONE_AFTER = 20.0  # the same where there are several hosts: torchrun counts a lost one as present for 15 s


def find_environment() -> ClusterEnvironment:
    """Lightning's view of what started this process; one process by itself is Lightning's own environment.

    Raises:
        ConfigError: Slurm was given a number of tasks, and none for each host.
    """
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if SLURMEnvironment.detect():
        tasks = int(os.environ.get("SLURM_NTASKS", 1))
        if tasks > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
            raise ConfigError(
                f"Slurm was told --ntasks={tasks}, from which nobody knows a host's ranks; type --ntasks-per-node=N "
                "instead, N being the devices of a host."
            )
        return SLURMEnvironment(auto_requeue=False)  # whatever requeues the job looks at the exit code
    return LightningEnvironment()


def is_launched() -> bool:
    """Whether this process is one of several ranks already.

    Raises:
        ConfigError: Slurm gave the job several tasks, and only this one was started.
    """
    environment = find_environment()
    tasks = environment.world_size()
    if isinstance(environment, SLURMEnvironment) and tasks > 1 and "SLURM_STEP_ID" not in os.environ:
        raise ConfigError(f"Slurm gave this job {tasks} tasks, and one was started; type srun deitlt train ...")
    return tasks > 1


def local_ranks(environment: ClusterEnvironment) -> int:
    """How many ranks this host has."""
    if isinstance(environment, TorchElasticEnvironment):
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return environment.world_size() // int(os.environ.get("SLURM_NNODES", 1))


def join(accelerator: str) -> None:
    """Meet the other ranks in one process group for the whole run: stage after stage, Lightning finds it there.

    Args:
        accelerator: auto | cpu | gpu; objects and counts travel by gloo in any case, so that no GPU is waited for.
    """
    environment = find_environment()
    rank_zero_only.rank = environment.global_rank()  # type: ignore[attr-defined]  # the Trainer sets it, too late
    if environment.world_size() == 1 or dist.is_initialized():
        return
    if isinstance(environment, TorchElasticEnvironment):
        end_with_parent()  # an agent that is killed leaves no rank behind
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = environment.main_address, str(environment.main_port)
    backend = "gloo"
    if accelerator != "cpu" and torch.cuda.is_available():
        torch.cuda.set_device(environment.local_rank() % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    _fork_workers_elsewhere()
    rank, size = environment.global_rank(), environment.world_size()
    dist.init_process_group(backend, rank=rank, world_size=size, timeout=PATIENCE)


def _fork_workers_elsewhere() -> None:
    """Have a process without threads fork this rank's data workers, as torch's notes on DDP ask.

    The process group's threads may hold a lock at the moment of a fork, which then stays held in the worker. A signal
    that a scheduler sends to every process is not that process's business; it ends with this one.
    """
    multiprocessing.set_start_method("forkserver", force=True)
    multiprocessing.set_forkserver_preload(["deitlt.data.loading"])
    before = signal.pthread_sigmask(signal.SIG_BLOCK, taken_signals())
    try:
        forkserver.ensure_running()  # at once: it inherits what is blocked, and imports torch meanwhile
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_first() -> bool:
    """Whether this is the rank that looks, decides, writes and speaks."""
    return not dist.is_initialized() or dist.get_rank() == 0


def from_first_rank(find: Callable[[], Found]) -> Found:
    """What the first rank finds, on every rank; the others end without a word where it cannot.

    Raises:
        UserError, OSError: on the first rank, as they came.
        SystemExit: on the others.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return find()
    box: list[Any] = [None, True]
    try:
        if is_first():
            box = [find(), False]
    finally:  # the others hear of whatever happens here
        dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    found, failed = box
    if failed:
        time.sleep(A_MOMENT)
        raise SystemExit(USER_ERROR)
    return found  # type: ignore[no-any-return]


def check_same(config: Mapping[str, Any]) -> None:
    """See that every rank was told the same.

    Args:
        config: the composed configuration, plain; where the run lies may differ by the time.

    Raises:
        ConfigError: one was told something else.
    """
    told = {key: value for key, value in config.items() if key != "paths"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()
    digests: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(digests, digest)
    odd = [rank for rank, other in enumerate(digests) if other != digests[0]]

    def look() -> None:
        if odd:
            raise ConfigError(f"Rank {odd[0]} was told other words than rank 0; type the same on every host.")

    from_first_rank(look)


def launch(entry: Callable[..., None], devices: int, grace: float, *arguments: Any) -> None:
    """Call a function in each of several fresh ranks on this host, and end as they end.

    Args:
        entry: of a module; its result is dropped.
        devices: how many ranks.
        grace: seconds that a rank may take after a signal; then it is killed.
        arguments: for `entry`; plain values.

    Raises:
        UserError: what some rank could not do, or that it was killed.
        Preempted, KeyboardInterrupt: a signal stopped them.
        SystemExit: a bug; its traceback was printed.
    """
    known = {field.name for field in dataclasses.fields(LaunchConfig)}
    options = {"shutdown_timeout": int(grace) + 60, "signals_to_handle": SIGNALS}  # torch 2.11 may lack them
    config = LaunchConfig(
        *(1, 1, devices),
        run_id=str(os.getpid()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        **{name: value for name, value in options.items() if name in known},  # type: ignore[arg-type]
    )
    for name in ("torch.distributed.elastic", "torch.multiprocessing.spawn"):  # we say what they would
        logging.getLogger(name).handlers, logging.getLogger(name).propagate = [logging.NullHandler()], False
    handlers = {taken: signal.getsignal(taken) for taken in map(signal.Signals.__getitem__, SIGNALS.split(","))}
    try:
        elastic_launch(config, _rank)(entry, arguments)
    except ChildFailedError as error:
        _conclude(*error.get_first_failure())
    except SignalException as stopped:
        if stopped.sigval == signal.SIGINT:
            raise KeyboardInterrupt from stopped
        raise Preempted(stopped.sigval) from stopped
    finally:
        for taken, handler in handlers.items():
            signal.signal(taken, handler)


def _rank(entry: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    """In a fresh process: the agent is told of a UserError by torch's own record of it."""
    with preemptible(), failing_late():
        entry(*arguments)


@contextmanager
def failing_late() -> Iterator[None]:
    """Let an error that is not the user's pass a little later: it may be for nothing but another rank's end."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and (words := refused(error, "paths.output_dir=FOLDER")):
            raise TrainingError(words) from error
        time.sleep(GONE_AFTER if int(os.environ.get("GROUP_WORLD_SIZE", 1)) > 1 else A_MOMENT)
        raise


def _conclude(rank: int, failure: ProcessFailure) -> NoReturn:
    """Raise what a rank's end means."""
    if failure.exitcode == Preempted.CODE:
        raise Preempted()
    if failure.exitcode == -signal.SIGKILL:
        raise TrainingError(
            f"Rank {rank} was killed by SIGKILL, as the system does when its memory runs out; type "
            "deitlt train resume=RUN to go on, with a smaller data.num_workers or batch_size in a new run."
        )
    said = (failure.error_file_data or {}).get("message", {})
    name, _, words = (said.get("message", "") if isinstance(said, dict) else "").partition(": ")
    kind = getattr(errors, name, None)
    if isinstance(kind, type) and issubclass(kind, UserError):
        raise kind(words)
    trace = said.get("extraInfo", {}).get("py_callstack") if isinstance(said, dict) else None
    sys.stderr.write(trace or f"rank {rank} ended with the exit code {failure.exitcode}\n")
    raise SystemExit(failure.exitcode if failure.exitcode > 0 else 1)


def end_with_parent() -> None:
    """Have this process end when the one that started it is gone, whatever it waits in."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()


@contextmanager
def preemptible(run: RunFolder | None = None, console: Console | None = None) -> Iterator[None]:
    """Let a signal end the block with `Preempted`, at once; training takes the signals over while it lasts.

    Args:
        run: of which it is said how to go on with it.
        console: where; None says nothing.

    Raises:
        Preempted: a signal came.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread gets signals
        yield
        return
    before = {taken: signal.signal(taken, _stop) for taken in taken_signals()}
    try:
        yield
    except Preempted as stopped:
        if console is not None and run is not None:
            why = f" by {signal.Signals(stopped.signum).name}" if stopped.signum else f", for {stopped.why}"
            advice = f"type deitlt train resume={run.path}" if run.can_be_resumed else "no epoch was finished"
            console.out(f"stopped{why}; {advice}", highlight=False)
        handler = before.get(signal.Signals(stopped.signum)) if stopped.signum else None
        if callable(handler):  # a launcher's, which may requeue the job and end the process
            handler(stopped.signum, None)
        raise
    finally:
        for taken, handler in before.items():
            signal.signal(taken, handler)


def _stop(signum: int, frame: FrameType | None) -> None:
    for taken in taken_signals():  # once is enough: what is being ended is not to be disturbed
        signal.signal(taken, signal.SIG_IGN)
    raise Preempted(signum)
