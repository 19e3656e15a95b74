from shlex import split

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from deitlt.config.compose import config_dir
from deitlt.engine.sweep import prepare_sweep
from deitlt.engine.sweep_summary import best_command, draw_sweep
from deitlt.engine.sweep_words import literal
from deitlt.reports.sweep import SweepJob

JOBS = {"imbalance": 9, "rho": 5, "drw": 5, "alpha": 5, "teacher": 4}


def params(name):
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        config = compose("train", overrides=[f"sweep={name}"], return_hydra_config=True)
    return [f"{key}={value}" for key, value in config.hydra.sweeper.params.items()]


def test_every_ready_sweep_is_known_here():
    assert {path.stem for path in (config_dir() / "sweep").glob("*.yaml")} == {*JOBS, "optuna"}
    assert all(len(path.read_text().splitlines()) <= 30 for path in (config_dir() / "sweep").glob("*.yaml"))


@pytest.mark.parametrize("name", JOBS)
def test_a_ready_sweep_has_so_many_jobs_and_its_first_and_last_compose(name, tmp_path):
    sweep = prepare_sweep(["-m", f"sweep={name}", f"paths.sweep_dir={tmp_path}"])
    assert (sweep.folder, sweep.settings) == (tmp_path, [])
    jobs = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(params(name)), None)[0]
    assert len(jobs) == JOBS[name]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        compose("train", overrides=list(jobs[-1]))


def test_the_search_holds_images_out_and_its_best_command_says_so(tmp_path):
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    words = ["-m", "sweep=optuna", "hydra.sweeper.n_trials=3", f"paths.sweep_dir={tmp_path}"]
    sweep = prepare_sweep(words)
    assert sweep.settings == ["data.val_fraction=0.1"]
    assert f"hydra.sweeper.storage='sqlite:///{tmp_path}/study.db?timeout=60'" in sweep.pinned
    assert "hydra.sweeper.direction=maximize" in sweep.pinned
    overrides = ["sweep=optuna", "student.optimizer.lr=0.001", "objective.metric=val/student/dist/tail"]
    job = SweepJob("0", overrides, "finished", "val/student/dist/tail", value=1.0)
    assert best_command(job, sweep.settings) == "deitlt train data.val_fraction=0.1 student.optimizer.lr=0.001"
    assert prepare_sweep([*words, "data.val_fraction=0.2"]).settings == []


def test_the_best_command_says_all_that_a_sweeps_own_file_sets_and_where_that_lies(tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "own.yaml").write_text(
        "# @package _global_\nstudent: {drw: null, gradient_clip: 2.0, transforms: {mixing: null}}\n"
        "data: {num_workers: 0, group_cuts: [5, 9]}\nwatch_test: true\nobjective: {direction: minimize}\n"
    )
    sweep = prepare_sweep(["-m", "--config-dir", str(tmp_path), "sweep=own", "seed=0,1", "paths.sweep_dir=x"])
    assert sweep.settings[:2] == ["--config-dir", str(tmp_path)]
    nulls = {"student.drw=null", "student.transforms.mixing=null"}
    others = {"student.gradient_clip=2.0", "data.num_workers=0", "data.group_cuts=[5,9]", "watch_test=true"}
    assert set(sweep.settings[2:]) == nulls | others
    command = best_command(SweepJob("0", ["sweep=own", "seed=1"], "finished", "x", value=1.0), sweep.settings)
    words = split(command)
    assert words[:4] == ["deitlt", "train", "--config-dir", str(tmp_path)]
    assert words[-1] == "seed=1"
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        again = compose("train", overrides=words[4:])
    assert again.student.drw is None
    assert again.student.transforms.mixing is None
    assert again.data.group_cuts == [5, 9]


@pytest.mark.parametrize(
    "value", [None, True, 1e-5, [1, "a b"], {"x": None, "y": ["null"]}, "null", "it's", "a=b,c", "x"]
)
def test_a_value_is_written_as_hydra_reads_it_back(value):
    assert OverridesParser.create().parse_override(f"key={literal(value)}").value() == value


def test_one_job_alone_has_no_picture(tmp_path):
    job = SweepJob("0", ["seed=0"], "finished", "student/avg/all", value=1.0)
    assert draw_sweep([job], tmp_path / "sweep.png", "maximize") is None
    assert draw_sweep([job, SweepJob("1", ["seed=1"], "killed", "student/avg/all")], tmp_path / "s.png", "maximize")
