import pytest

from deitlt.config.compose import check_flags, flags_first, runs_a_sweep
from deitlt.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "sweeps"),
    [
        (["-m", "seed=0,1"], True),
        (["seed=0,1", "--multirun"], True),
        (["-m", "seed=0,1", "--cfg", "job"], False),
        (["--cfg=job", "-m"], False),
        (["seed=0"], False),
        (["sweep=null"], False),
        (["sweep=nothing"], False),
    ],
)
def test_a_sweep_is_told_by_its_flag(words, sweeps):
    assert runs_a_sweep(words) == sweeps


@pytest.mark.parametrize("words", [["sweep=rho"], ["sweep=rho,drw"], ["sweep=mine", "--config-dir=here"]])
def test_a_ready_sweep_needs_the_flag(words):
    with pytest.raises(
        ConfigError, match=f"{words[0]} is a sweep, which has many jobs; type deitlt train -m {words[0]}"
    ):
        runs_a_sweep(words)


def test_a_job_of_a_sweep_is_no_sweep():
    assert not runs_a_sweep(["sweep=rho"], is_job=True)


def test_the_flag_of_a_sweep_stands_first():
    assert flags_first(["seed=0,1", "-m", "student.epochs=3"]) == ["-m", "seed=0,1", "student.epochs=3"]


def test_a_flag_that_there_is_not_is_refused():
    check_flags(["--cfg", "job", "--config-dir=here", "-c", "seed=1"])
    with pytest.raises(ConfigError, match="--multirunn is no flag; did you mean '--multirun'"):
        check_flags(["--multirunn"])
