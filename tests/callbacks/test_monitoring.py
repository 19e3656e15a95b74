import io
import re
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console

from deitlt.callbacks import FiniteLoss, StageProgress, Throughput, monitoring
from deitlt.errors import TrainingError


def shown(make_trainer, module, batches, terminal, epochs=10, **options):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100)
    speed = Throughput("student")
    trainer = make_trainer(callbacks=[speed, StageProgress("student", console, speed, **options)], max_epochs=epochs)
    trainer.fit(module, batches)
    return stream.getvalue()


def test_prints_a_few_lines_where_nobody_watches(make_trainer, student_module, student_batches):
    lines = shown(make_trainer, student_module(), student_batches(2), terminal=False).splitlines()
    said = r"student: epoch (\d+)/10, loss \d\.\d{3}, [\d,]+ images/s, \d+ s, \d+ s left"
    assert [re.fullmatch(said, line)[1] for line in lines] == list(map(str, range(2, 11, 2)))


@pytest.mark.parametrize(("epochs", "expected"), [(1, [1]), (3, [1, 2, 3]), (7, [3, 6, 7])])
def test_the_last_epoch_is_always_told(make_trainer, student_module, student_batches, epochs, expected):
    lines = shown(make_trainer, student_module(), student_batches(1), False, epochs, lines=2).splitlines()
    assert [int(re.search(r"epoch (\d+)/", line)[1]) for line in lines] == expected


def test_shows_a_bar_on_a_terminal(make_trainer, student_module, student_batches):
    text = shown(make_trainer, student_module(), student_batches(2), terminal=True, epochs=2)
    assert "2/2 epochs" in text
    assert re.search(r"loss \d\.\d{3} [\d,]+ images/s", text)


def test_each_line_says_how_fast_it_goes_and_how_long_it_will(clock, make_trainer, student_module, student_batches):
    lines = shown(make_trainer, student_module(), student_batches(3), terminal=False, epochs=3).splitlines()
    # A look at the clock at a stage's and an epoch's start, at each batch's end and for each line: 5 looks an epoch.
    assert [line.partition("images/s")[0].rpartition(", ")[2] for line in lines] == ["2 "] * 3
    assert [line.rpartition("images/s, ")[2] for line in lines] == [
        "10 s, 20 s left",
        "20 s, 10 s left",
        "30 s, 0 s left",
    ]


def test_a_stage_that_goes_on_tells_the_time_of_what_is_left(clock, make_trainer, student_module, student_batches):
    stream = io.StringIO()
    speed = Throughput("student")
    progress = StageProgress("student", Console(file=stream), speed)
    trainer = make_trainer(callbacks=[speed, progress], max_epochs=4)
    trainer.fit_loop.epoch_progress.current.processed = trainer.fit_loop.epoch_progress.current.completed = 2
    trainer.fit(student_module(), student_batches(3))
    assert [line.rpartition("images/s, ")[2] for line in stream.getvalue().splitlines()] == [
        "10 s, 10 s left",
        "20 s, 0 s left",
    ]


@pytest.mark.parametrize(("seconds", "said"), [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (7500, "2 h 5 min")])
def test_a_time_is_said_as_long_as_it_is(seconds, said):
    assert monitoring.in_words(seconds) == said


@pytest.mark.parametrize("terminal", [True, False])
def test_an_epoch_that_logged_no_loss_is_shown_without_one(make_trainer, student_module, student_batches, terminal):
    module = student_module()
    module.log = lambda *_, **__: None
    text = shown(make_trainer, module, student_batches(1), terminal, epochs=1)
    assert "nan" not in text
    assert "loss" not in text
    assert (
        ("1/1 epochs" in text) if terminal else re.fullmatch(r"student: epoch 1/1, \S+ images/s, 0 s, 0 s left\n", text)
    )


def test_gives_the_terminal_back_after_an_error(make_trainer, student_module):
    console = Console(file=io.StringIO(), force_terminal=True)
    progress = StageProgress("student", console, Throughput("student"))
    with pytest.raises(AttributeError):
        make_trainer(callbacks=[progress]).fit(student_module(), [0])
    assert progress._bar is None
    assert not console._live_stack


class Kept(Throughput):
    """Also keeps the names and values that it logs, epoch by epoch."""

    def __init__(self):
        super().__init__("student")
        self.logged = []

    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        found = trainer.callback_metrics
        self.logged.append({name: float(found[name]) for name in found if name.startswith("speed/")})


@pytest.fixture
def clock(monkeypatch):
    """Two seconds pass between any two looks at it."""
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(monitoring, "time", SimpleNamespace(monotonic=lambda: float(next(times))))


def test_images_and_seconds_of_each_epoch(clock, student_module, student_batches, make_trainer):
    kept = Kept()
    make_trainer(max_epochs=2, callbacks=[kept]).fit(student_module(), student_batches(batches=3))
    # A look at the clock at the epoch's start and at each batch's end: 3 batches of 4 images in 6 seconds.
    assert kept.logged == [{"speed/images_per_second": 2.0, "speed/epoch_seconds": 6.0}] * 2


@pytest.mark.parametrize("accumulate", [1, 3])
def test_the_first_update_is_measured_to_its_end(clock, make_trainer, student_module, student_batches, accumulate):
    measured, module = [], student_module()
    module.on_train_batch_end = lambda outputs, batch, batch_idx: measured.append(speed.first_step_seconds)
    speed = Throughput("student")
    make_trainer(callbacks=[speed], accumulate_grad_batches=accumulate, max_epochs=2).fit(module, student_batches())
    assert measured == [None] * (accumulate - 1) + [2.0 * accumulate] * (13 - accumulate)


def test_one_line_where_it_has_a_console(make_trainer, teacher_module, student_batches):
    text = io.StringIO()
    speed = Throughput("student", Console(file=text))
    make_trainer(callbacks=[speed], max_epochs=2).fit(teacher_module(), student_batches())
    assert re.fullmatch(r"student: first step \d+\.\d s, compiling included\n", text.getvalue())


class Breaking(L.LightningModule):
    """Its loss is not finite in the micro-batches named, counted over all epochs."""

    def __init__(self, bad, value=float("nan")):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.bad, self.value, self.seen = bad, value, 0

    def training_step(self, batch, batch_idx):
        self.seen += 1
        return self.weight * (self.value if self.seen - 1 in self.bad else 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.0)  # so that one bad loss does not spoil the next


def train(make_trainer, folder, bad, every=50, epochs=3, accumulate=1, value=float("nan")):
    last = ModelCheckpoint(folder, "last", save_on_train_epoch_end=True, enable_version_counter=False)
    trainer = make_trainer(
        callbacks=[FiniteLoss(folder, every), last],
        max_epochs=epochs,
        accumulate_grad_batches=accumulate,
        enable_checkpointing=True,
    )
    module = Breaking(bad, value)
    trainer.fit(module, torch.utils.data.DataLoader(range(6), batch_size=1))
    return module


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_names_the_update_and_the_last_checkpoint(make_trainer, tmp_path, value):
    with pytest.raises(TrainingError, match="not finite at update 14") as error:
        train(make_trainer, tmp_path, {14, 16}, value=value)
    assert f"the last good checkpoint is {tmp_path / 'last.ckpt'}" in str(error.value)
    assert re.search(r"start anew with a smaller learning rate, such as \S+lr=\S+", str(error.value))


def test_no_checkpoint_is_written_after_the_bad_update(make_trainer, tmp_path):
    with pytest.raises(TrainingError):
        train(make_trainer, tmp_path, {8})
    assert torch.load(tmp_path / "last.ckpt")["global_step"] == 6  # the first epoch's; the second had the bad one
    assert [path.name for path in tmp_path.glob("*.ckpt")] == ["last.ckpt"]


def test_says_so_where_there_is_no_checkpoint_yet(make_trainer, tmp_path):
    with pytest.raises(TrainingError, match=r"update 2; no checkpoint was written yet"):
        train(make_trainer, tmp_path, {2})
    assert not list(tmp_path.glob("*.ckpt"))


@pytest.mark.parametrize("micro_batch", range(12))
def test_names_the_update_that_a_micro_batch_belongs_to(make_trainer, tmp_path, micro_batch):
    update = 2 * (micro_batch // 6) + micro_batch % 6 // 4  # windows of 4 and 2 in an epoch of 6
    with pytest.raises(TrainingError, match=rf"at update {update};"):
        train(make_trainer, tmp_path, {micro_batch, *range(micro_batch + 4, 18)}, accumulate=4)


def test_looks_every_few_batches(make_trainer, tmp_path):
    module = Breaking({1})
    trainer = make_trainer(callbacks=[FiniteLoss(tmp_path, every=3)])
    with pytest.raises(TrainingError, match="at update 1;"):
        trainer.fit(module, torch.utils.data.DataLoader(range(6), batch_size=1))
    assert module.seen == 3


def test_finite_losses_are_left_alone(make_trainer, tmp_path):
    assert train(make_trainer, tmp_path, set()).seen == 18
