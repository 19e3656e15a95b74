import json

from deitlt.checkpoints import read_checkpoint
from deitlt.cli import main


def test_a_sweep_makes_a_finished_run_for_each_value(tiny_vit, tmp_path):
    assert main(["train", *tiny_vit, "paths.sweep_dir=sweep", "-m", "seed=0,1"]) == 0
    runs = [tmp_path / "sweep" / str(job) for job in (0, 1)]
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    assert [found["seed"] for found in metrics] == [0, 1]
    weights = [read_checkpoint(run / "student" / "last.ckpt")["state_dict"] for run in runs]
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])


def test_a_runs_seed_and_configuration_make_it_again(tiny_vit, tmp_path):
    for name in ("one", "two"):
        assert main(["train", *tiny_vit, "seed=5", f"paths.output_dir={name}"]) == 0
    one, two = (read_checkpoint(tmp_path / name / "student" / "last.ckpt")["state_dict"] for name in ("one", "two"))
    assert all((one[name] == two[name]).all() for name in one)
