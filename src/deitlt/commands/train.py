"""`deitlt train`: the stages of a run one after the other, then the table and the picture."""

from omegaconf import DictConfig
from rich.console import Console

from deitlt.engine.launch import (
    check_same,
    failing_late,
    find_environment,
    from_first_rank,
    is_first,
    is_launched,
    join,
    launch,
    local_ranks,
    preemptible,
)
from deitlt.engine.run import Run, open_run
from deitlt.engine.stage_config import count_devices, plain
from deitlt.errors import ConfigError


def main(config: DictConfig) -> None:
    """Train the stages, or go on with a run that was interrupted: here, in ranks of this host, or as one of several."""
    launched = is_launched()
    if launched:
        join(config.trainer.accelerator)
        check_same(plain(config))
        from_first_rank(lambda: _check_devices(config.trainer.devices))
    elif config.trainer.num_nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes={config.trainer.num_nodes}, but nothing has started several ranks; type torchrun "
            f"--nnodes={config.trainer.num_nodes} --nproc-per-node=N -m deitlt train ... or srun deitlt train ..."
        )
    run = from_first_rank(lambda: open_run(config))
    console = Console(quiet=not is_first())
    if run.folder.finished:  # a scheduler may start a finished run again
        console.out(f"{run.folder.path} holds a finished run", highlight=False)
        return
    trainer = run.config["trainer"]
    devices = 1 if launched else count_devices(trainer["accelerator"], trainer["devices"])[1]
    with preemptible(run.folder, console):
        if launched:
            with failing_late():
                run.train()
        elif devices == 1:
            run.train()
        else:
            launch(Run.train, devices, float(trainer.get("grace", 0)), run)


def _check_devices(devices: int | str) -> None:
    """Raise ConfigError where torchrun or srun started another number of ranks on this host than was asked for."""
    here = local_ranks(find_environment())
    if devices not in (1, "auto", here):
        raise ConfigError(
            f"trainer.devices={devices}, and {here} ranks were started on this host; type --nproc-per-node={devices} "
            f"for torchrun or --ntasks-per-node={devices} for srun, or leave out trainer.devices."
        )
