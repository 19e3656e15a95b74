"""A sweep whose jobs train on several hosts each: submitit has Slurm start a task on each, and all of them train."""

import os

from omegaconf import DictConfig

from deitlt.errors import ConfigError

SLURM_LAUNCHER = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"


def check_hosts(config: DictConfig, launcher: DictConfig) -> None:
    """See that the launcher starts each job on as many hosts as the job trains on.

    Args:
        config: of a job.
        launcher: Hydra's configuration of it.

    Raises:
        ConfigError: it does not, and the hosts would wait for each other, or train the same job side by side.
    """
    hosts = config.trainer.num_nodes
    if not isinstance(hosts, int) or hosts < 1:
        return  # the job itself refuses what is no number of hosts
    nodes, tasks = (int(launcher[name]) if is_slurm(launcher) else 1 for name in ("nodes", "tasks_per_node"))
    devices = config.trainer.devices
    if hosts > 1 and not is_slurm(launcher):
        raise ConfigError(
            f"A sweep's jobs train on one host each here, and trainer.num_nodes={hosts}; type hydra/launcher=submitit_"
            f"slurm hydra.launcher.nodes={hosts} beside it, or leave out -m."
        )
    if nodes != hosts or (tasks != devices and (hosts > 1 or tasks > 1)):
        asked = f"trainer.num_nodes={hosts} trainer.devices={devices}"
        raise ConfigError(
            f"hydra.launcher.nodes={nodes} hydra.launcher.tasks_per_node={tasks} start other ranks than {asked} has; "
            f"type hydra.launcher.nodes={hosts} hydra.launcher.tasks_per_node={devices}."
        )
    if hosts > 1 and not config.sweep.isolated:
        raise ConfigError(f"sweep.isolated=false, and trainer.num_nodes={hosts}; type sweep.isolated=true.")


def is_slurm(launcher: DictConfig) -> bool:
    """Whether it gives each job to Slurm, which may start it on several hosts."""
    return bool(launcher.get("_target_") == SLURM_LAUNCHER)


def follows(launcher: DictConfig) -> bool:
    """Whether this is another host of a job than its first, which alone writes and decides how the job ends."""
    return is_slurm(launcher) and os.environ.get("SLURM_PROCID", "0") != "0"
