"""What a run tells TensorBoard and MLflow, read back; loggers that are not there, fail, or are strangers' servers."""

import contextlib
import csv
import io
import os
import subprocess
import sys

import pytest
import torch
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from deitlt.callbacks import LastCheckpoint
from deitlt.cli import main
from deitlt.config import checks
from deitlt.tracking import failures

BOTH = "logger=[tensorboard,mlflow]"
WATCHED = ("watch_test=true", "evaluate_every=1", "analysis.every=2", "analysis.images=20")


@pytest.fixture(scope="module")
def recorded(tiny, tmp_path_factory):
    """A run whose teacher was lost in its fourth epoch, after a checkpoint at the end of its second, and resumed."""
    run = tmp_path_factory.mktemp("loggers") / "run"
    words = [*tiny, *WATCHED, BOTH, "stages=[teacher,student]", "teacher.epochs=4", "checkpoint_every=2"]
    begin_epoch = LastCheckpoint.on_train_epoch_start

    def begin(self, trainer, module):
        if trainer.current_epoch == 3:
            raise RuntimeError("lost")
        begin_epoch(self, trainer, module)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(run.parent)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with patch.context() as lost:
            lost.setattr(LastCheckpoint, "on_train_epoch_start", begin)
            with pytest.raises(RuntimeError, match="lost"):
                main(["train", *words, f"paths.output_dir={run}"])
        assert torch.load(run / "teacher" / "last.ckpt", weights_only=True)["epoch"] == 1
        assert [row["epoch"] for row in rows(run, "teacher")] == ["0", "1", "2"]
        assert main(["train", f"resume={run}"]) == 0
        assert "MLFLOW_TRACKING_URI" not in os.environ  # which MLflow sets, and the next run would follow
    assert printed.getvalue().splitlines()[-2:] == [
        f"tensorboard --logdir {run}/tensorboard",
        f"mlflow ui --backend-store-uri sqlite:///{run}/mlflow/mlflow.db",
    ]
    return run


def rows(run, stage):
    return list(csv.DictReader((run / stage / "metrics.csv").open()))


def points(run, stage):
    """Name -> (step, value) of each of its rows in metrics.csv."""
    found = {}
    for row in rows(run, stage):
        for name, value in row.items():
            if value and name != "step":
                found.setdefault(name, []).append((int(row["step"]), float(value)))
    return found


def events(run, stage):
    read = EventAccumulator(str(run / "tensorboard" / stage), {"scalars": 0, "images": 0, "tensors": 0})
    return read.Reload()


def mlflow_run(run, stage):
    client = MlflowClient(f"sqlite:///{run}/mlflow/mlflow.db")
    return client, client.get_run((run / stage / "mlflow_run_id.txt").read_text())


def curves(found):
    return {name: values for name, values in found.items() if not name.startswith("final/")}


def check_same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert [step for step, _ in found[name]] == [step for step, _ in values], name
        if not name.startswith("speed/"):  # of an epoch that was trained twice, MLflow keeps the first
            assert [value for _, value in found[name]] == pytest.approx([value for _, value in values], rel=1e-6), name


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_tensorboard_has_the_numbers_of_metrics_csv_each_once(recorded, stage):
    read = events(recorded, stage)
    found = {name: [(one.step, one.value) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}
    check_same(curves(found), points(recorded, stage))
    last = {name.replace("final/", "test/"): values for name, values in found.items() if name.startswith("final/")}
    assert last
    assert all(values == found[name][-1:] for name, values in last.items() if name in found)


@pytest.mark.parametrize("stage", ["teacher", "student"])
def test_mlflow_has_the_numbers_of_metrics_csv_each_once(recorded, stage):
    client, known = mlflow_run(recorded, stage)
    history = {name: client.get_metric_history(known.info.run_id, name) for name in known.data.metrics}
    found = {name: sorted((one.step, one.value) for one in values) for name, values in history.items()}
    check_same(curves(found), points(recorded, stage))
    assert len(found["final/all" if stage == "teacher" else "final/ema/avg/all"]) == 1


def test_pictures_and_tables_are_in_both(recorded):
    read = events(recorded, "student")
    wanted = {"pictures/views", "pictures/per_class", "pictures/confusion_dist", "pictures/analysis/rank"}
    assert wanted <= set(read.Tags()["images"])
    assert {f"{name}/text_summary" for name in ("config", "per_class", "confusions")} <= set(read.Tags()["tensors"])
    table = read.Tensors("per_class/text_summary")[0].tensor_proto.string_val[0].decode()
    assert table.startswith("| class | train images | group | cls |")
    assert len(table.splitlines()) == 12
    client, known = mlflow_run(recorded, "student")
    names = {file.path for file in client.list_artifacts(known.info.run_id, "pictures")}
    assert {f"{name}.png" for name in wanted if "analysis" not in name} <= names
    (file,) = recorded.glob(f"mlflow/artifacts/{known.info.run_id}/artifacts/per_class.csv")
    assert [row["train images"] for row in csv.DictReader(file.open())][:3] == ["20", "15", "11"]


def test_each_stage_is_a_finished_run_of_mlflows_with_its_configuration(recorded):
    client, teacher = mlflow_run(recorded, "teacher")
    _, student = mlflow_run(recorded, "student")
    assert len(client.search_runs([teacher.info.experiment_id])) == 2
    assert {run.info.status for run in (teacher, student)} == {"FINISHED"}
    assert student.data.params["student/loss/_target_"] == "deitlt.losses.CrossEntropyLoss"
    assert (student.data.tags["stage"], teacher.data.tags["group"]) == ("student", student.data.tags["group"])


def test_an_analysis_joins_the_records_of_its_stage(recorded):
    before = points(recorded, "teacher")
    words = ("stage=teacher", "parts=[calibration]", "images=20", "accelerator=cpu", BOTH)
    assert main(["analyze", f"checkpoint={recorded}", *words]) == 0
    read, last = events(recorded, "teacher"), before["test/all"][-1][0]
    found = {name: values for name in read.Tags()["scalars"] if (values := read.Scalars(name))[0].step == last}
    found = {name: values for name, values in found.items() if name.startswith("final/analysis/calibration/")}
    assert {len(values) for values in found.values()} == {1}
    check_same({name: [(one.step, one.value) for one in read.Scalars(name)] for name in before}, before)
    client, known = mlflow_run(recorded, "teacher")
    for name, (one,) in found.items():
        assert known.data.metrics[name] == pytest.approx(one.value)
    assert len(client.search_runs([known.info.experiment_id])) == 2


def test_a_dead_server_and_a_broken_logger_cost_no_training(tiny_vit, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(failures, "_warned", set())
    monkeypatch.setattr("deitlt.tracking.tensorboard.StageTensorBoardLogger.add_table", _fails)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", _fails)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    words = (BOTH, "logger.mlflow.tracking_uri=http://127.0.0.1:9", "analysis.every=null")
    assert main(["train", *tiny_vit, *words, f"paths.output_dir={tmp_path}/run"]) == 0
    said = [message.split(", and training goes on")[0] for message in caplog.messages if "failed to record" in message]
    assert said == [
        "MLflow failed to record anything",
        "TensorBoard failed to record metrics",
        "TensorBoard failed to record the summary",
        "TensorBoard failed to record the tables",
    ]


def _fails(*_, **__):
    raise OSError("broken")


@pytest.mark.parametrize("how", [(), ("-m", "seed=0,1")], ids=["run", "sweep"])
@pytest.mark.parametrize(
    ("name", "package"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow"), ("mlflow", "alembic")]
)
def test_a_logger_that_is_not_installed_says_what_to_install(name, package, how, tiny, complain, monkeypatch):
    monkeypatch.setattr(checks, "find_spec", lambda asked: None if asked == package else asked)
    sentence = complain("train", *tiny, f"logger=[wandb,{name}]", *how, output=None if how else "run")
    assert sentence.endswith(
        f"logger={name} needs {package}, which is not installed; type pip install 'deitlt[{name}]'."
    )


def test_a_run_that_goes_on_where_its_logger_is_not_installed_says_so(begun, capfd, monkeypatch):
    change_logger(begun, {"tensorboard": {}})
    monkeypatch.setattr(checks, "find_spec", lambda asked: None if asked == "tensorboard" else asked)
    assert main(["train", f"resume={begun}"]) == 2
    assert "type pip install 'deitlt[tensorboard]'" in capfd.readouterr().err


def change_logger(run, node):
    config = OmegaConf.load(run / "config.yaml")
    config.logger = node
    OmegaConf.save(config, run / "config.yaml")


def test_a_strangers_run_sends_nothing_to_a_server_of_his(begun, capfd, monkeypatch):
    change_logger(begun, {"mlflow": {"experiment": "x", "tracking_uri": "https://elsewhere"}})
    assert main(["train", f"resume={begun}"]) == 2
    said = capfd.readouterr().err
    assert "would log to https://elsewhere, and was refused; type MLFLOW_TRACKING_URI=https://elsewhere before" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("logger=[wandb,tensorbord]", "logger=tensorbord is no choice; did you mean 'tensorboard'?"),
        ("logger=wandb,mlflow", "type -m beside it for a job each, or logger=[wandb,mlflow] for a list."),
        ("logger.mlflow.experiment=x", "type logger=mlflow logger.mlflow.experiment=x."),
        ("+logger.wnadb.project=x", "logger.wnadb is no logger; did you mean 'wandb'?"),
        ("+logger.mine.project=x", "logger.mine is no logger; give it a _target_."),
        ("+logger.mine._target_=torch.nn.Linear", "torch.nn.Linear is no logger; name a subclass of lightning."),
        ("+logger.mine._target_=lightning.pytorch.loggers.WandbLogger", "was refused"),
        (
            "+logger.mine._target_=deitlt.losses.LDAM",
            "deitlt.losses.LDAM is not there; did you mean 'LDAMLoss'?",
        ),
    ],
)
def test_what_is_no_logger_is_said_before_anything_trains(words, said, tiny, complain):
    assert said in complain("train", *tiny, words)


@pytest.mark.slow
def test_of_two_devices_the_first_rank_records(tiny, tmp_path, environment):
    words = [*tiny, *WATCHED, BOTH, "stages=[teacher]", "trainer.devices=2", f"paths.output_dir={tmp_path}/run"]
    command = [sys.executable, "-m", "deitlt", "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    read = events(run, "teacher")
    found = {name: [(one.step, one.value) for one in read.Scalars(name)] for name in read.Tags()["scalars"]}
    check_same(curves(found), points(run, "teacher"))
    client, known = mlflow_run(run, "teacher")
    assert len(client.search_runs([known.info.experiment_id])) == 1
