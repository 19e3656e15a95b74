import pytest

from deitlt.callbacks import Throughput, throughput


class Kept(Throughput):
    """Also keeps the names and values that it logs, epoch by epoch."""

    def __init__(self):
        super().__init__()
        self.logged = []

    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        found = trainer.callback_metrics
        self.logged.append({name: float(found[name]) for name in found if name.startswith("speed/")})


@pytest.fixture
def clock(monkeypatch):
    """Two seconds pass between any two looks at it."""
    times = iter(range(0, 1000, 2))
    monkeypatch.setattr(throughput.time, "monotonic", lambda: float(next(times)))


def test_images_and_seconds_of_each_epoch(clock, student_module, student_batches, make_trainer):
    kept = Kept()
    make_trainer(max_epochs=2, callbacks=[kept]).fit(student_module(), student_batches(batches=3))
    # A look at the clock at the epoch's start and at each batch's end: 3 batches of 4 images in 6 seconds.
    assert kept.logged == [{"speed/images_per_second": 2.0, "speed/epoch_seconds": 6.0}] * 2


def test_in_the_midst_of_an_epoch_what_is_left_is_measured(clock, student_module, student_batches, make_trainer):
    kept = Kept()
    kept.on_train_epoch_start = lambda trainer, pl_module: None
    make_trainer(callbacks=[kept]).fit(student_module(), student_batches(batches=3))
    assert kept.logged == [{"speed/images_per_second": 2.0, "speed/epoch_seconds": 6.0}]
