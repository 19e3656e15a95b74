"""Which of a run's hosts this is, as whatever started it says."""

from collections.abc import Mapping
from dataclasses import dataclass

from deitlt.errors import ConfigError

SLURM_PORTS = 15000  # and the last four digits of the job's number: one that every host can work out


@dataclass(frozen=True)
class HostPlace:
    """rank: this host's, from 0. hosts: how many. address, port: where host 0 is reached."""

    rank: int
    hosts: int
    address: str
    port: int

    @property
    def is_first(self) -> bool:
        """Whether it is the host that checks, decides and writes; the others follow."""
        return self.rank == 0


def find_place(hosts: int, environment: Mapping[str, str]) -> HostPlace:
    """Read it from what torchrun, srun or the user have set, in this order of trust: by hand, torchrun, Slurm.

    Args:
        hosts: trainer.num_nodes.
        environment: `os.environ`.

    Raises:
        ConfigError: nothing says it, or it does not fit `hosts`.
    """
    if "TORCHELASTIC_RUN_ID" in environment:
        place = _of_torchrun(hosts, environment)
    elif "NODE_RANK" in environment:
        place = _by_hand(hosts, environment)
    elif "SLURM_NODEID" in environment:
        place = _of_slurm(hosts, environment)
    else:
        raise ConfigError(
            f"trainer.num_nodes={hosts}, but nothing says which host this is; start each by torchrun "
            "--nproc-per-node=1 or srun --ntasks-per-node=1, or set NODE_RANK, MASTER_ADDR and MASTER_PORT."
        )
    if not 0 <= place.rank < hosts:
        raise ConfigError(f"This is host {place.rank}, and trainer.num_nodes={hosts}; hosts count from 0.")
    return place


def refuse_lone_ranks(environment: Mapping[str, str]) -> None:
    """Raise ConfigError where torchrun started several processes of a run that was told of one host."""
    processes = int(environment.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in environment else 1
    if processes > 1:
        raise ConfigError(
            f"torchrun started {processes} processes, and trainer.num_nodes=1; type trainer.num_nodes=HOSTS and start "
            "one process a host (--nproc-per-node=1): it starts one for each of trainer.devices."
        )


def _by_hand(hosts: int, environment: Mapping[str, str]) -> HostPlace:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not environment.get(name):
            raise ConfigError(f"NODE_RANK is set, and {name} is not; set {name} to host 0's on every host.")
    rank, port = (_number(environment, name) for name in ("NODE_RANK", "MASTER_PORT"))
    return HostPlace(rank, hosts, environment["MASTER_ADDR"], port)


def _of_torchrun(hosts: int, environment: Mapping[str, str]) -> HostPlace:
    processes, beside = _number(environment, "WORLD_SIZE"), _number(environment, "LOCAL_WORLD_SIZE")
    if beside != 1 or processes != hosts:
        raise ConfigError(
            f"torchrun started {processes} processes, {beside} of them here, and trainer.num_nodes={hosts}; type "
            f"torchrun --nnodes={hosts} --nproc-per-node=1: each starts one for each of trainer.devices."
        )
    port = _number(environment, "MASTER_PORT") + 1  # torchrun itself listens at the port that it names
    return HostPlace(_number(environment, "RANK"), hosts, environment["MASTER_ADDR"], port)


def _of_slurm(hosts: int, environment: Mapping[str, str]) -> HostPlace:
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS") or environment.get("SLURM_NTASKS") or 1)
    if tasks != hosts:
        raise ConfigError(
            f"Slurm started {tasks} tasks, and trainer.num_nodes={hosts}; type srun --nodes={hosts} "
            "--ntasks-per-node=1: each task starts a process for each of trainer.devices."
        )
    names = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "127.0.0.1")
    address = environment.get("MASTER_ADDR") or _first_of(names)
    digits = int(environment.get("SLURM_JOB_ID", "0")[-4:])
    port = _number(environment, "MASTER_PORT") if "MASTER_PORT" in environment else SLURM_PORTS + digits
    return HostPlace(_number(environment, "SLURM_NODEID"), hosts, address, port)


def _first_of(names: str) -> str:
    """The first of Slurm's list of hosts, such as gpu[07-09]."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    return SLURMEnvironment.resolve_root_node_address(names)


def _number(environment: Mapping[str, str], name: str) -> int:
    value = environment.get(name, "")
    if not value.isdecimal():
        raise ConfigError(f"{name}={value} is no number from 0; set it to one.")
    return int(value)
