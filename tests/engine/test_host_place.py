import pytest
from omegaconf import OmegaConf

from deitlt.engine.host_place import HostPlace, find_place, refuse_lone_ranks
from deitlt.engine.hosts import LOST_AFTER, find_hosts
from deitlt.errors import ConfigError

TORCHRUN = {
    **{"TORCHELASTIC_RUN_ID": "none", "RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "1"},
    **{"MASTER_ADDR": "node-a", "MASTER_PORT": "29500"},
}
SLURM = {"SLURM_NODEID": "2", "SLURM_NTASKS": "3", "SLURM_JOB_NODELIST": "gpu[07-09]", "SLURM_JOB_ID": "1234567"}
BY_HAND = {"NODE_RANK": "0", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29400"}


def test_what_was_set_by_hand_says_which_host_this_is():
    assert find_place(2, BY_HAND) == HostPlace(0, 2, "10.0.0.1", 29400)
    assert find_place(2, BY_HAND).is_first


def test_torchrun_says_it_and_keeps_its_own_port():
    assert find_place(2, TORCHRUN) == HostPlace(1, 2, "node-a", 29501)


def test_slurm_says_it_and_its_job_gives_the_port():
    assert find_place(3, SLURM) == HostPlace(2, 3, "gpu07", 15000 + 4567)
    assert find_place(3, SLURM | {"MASTER_ADDR": "ib-07", "MASTER_PORT": "777"}) == HostPlace(2, 3, "ib-07", 777)


@pytest.mark.parametrize(
    ("hosts", "environment", "words"),
    [
        (2, {}, "nothing says which host this is"),
        (2, BY_HAND | {"NODE_RANK": "2"}, "This is host 2, and trainer.num_nodes=2"),
        (2, BY_HAND | {"NODE_RANK": "first"}, "NODE_RANK=first is no number"),
        (2, BY_HAND | {"MASTER_ADDR": ""}, "MASTER_ADDR is not; set MASTER_ADDR"),
        (2, TORCHRUN | {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2"}, "--nnodes=2 --nproc-per-node=1"),
        (2, SLURM, "Slurm started 3 tasks, and trainer.num_nodes=2"),
    ],
)
def test_what_does_not_fit_is_one_sentence(hosts, environment, words):
    with pytest.raises(ConfigError) as caught:
        find_place(hosts, environment)
    assert words in str(caught.value)


def test_several_processes_of_a_run_on_one_host_are_refused():
    refuse_lone_ranks({})
    refuse_lone_ranks(SLURM)  # a batch script's variables: no task of a step
    with pytest.raises(ConfigError, match=r"type trainer\.num_nodes=HOSTS"):
        refuse_lone_ranks(TORCHRUN)


@pytest.mark.parametrize(
    ("kept", "seconds"), [({"num_nodes": 2, "lost_after": 77}, 77), ({"num_nodes": 2}, LOST_AFTER)]
)
def test_a_run_to_go_on_with_says_itself_how_many_hosts_there_are_and_when_one_is_lost(
    kept, seconds, tmp_path, monkeypatch
):
    for name, value in BY_HAND.items():
        monkeypatch.setenv(name, value)
    OmegaConf.save({"trainer": {"num_nodes": 2, **kept}}, tmp_path / "config.yaml")
    typed = OmegaConf.create({"resume": str(tmp_path), "trainer": {"num_nodes": 1, "lost_after": 5}})
    assert find_hosts(typed) == (HostPlace(0, 2, "10.0.0.1", 29400), seconds)
