from pathlib import Path

import numpy as np
import pytest
import torch

from deitlt.errors import ConfigError
from deitlt.optim.schedules import EpochCosine, WarmupCosine, WarmupSteps, schedule_time

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "lr_schedule.npz")
STUDENT = WarmupCosine(lr=2.5e-4, epochs=1200)
BATCHES = 48


def assert_close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_first_and_last_micro_batch_of_every_epoch():
    first = [STUDENT(schedule_time(epoch, 0, BATCHES, 4)) for epoch in range(1200)]
    last = [STUDENT(schedule_time(epoch, BATCHES - 1, BATCHES, 4)) for epoch in range(1200)]
    assert_close(first, GOLDEN["c10_if100_lr_first_microstep_per_epoch"])
    assert_close(last, GOLDEN["c10_if100_lr_last_microstep_per_epoch"])


def test_lag_of_one_epoch_without_accumulation():
    ours = [STUDENT(max(epoch - 1, 0)) for epoch in range(1200)]  # as DeiT's own loop, which moves after an epoch
    assert_close(ours, GOLDEN["c10_if100_accum1_lr_used_in_epoch"])


def test_learning_rate_of_each_update():
    for epoch, batch, lr in GOLDEN["c10_if100_update_lr_epoch_i_lr"]:
        assert_close(STUDENT(schedule_time(int(epoch), int(batch), BATCHES, 4)), lr)


def test_times_at_which_the_schedule_moves():
    for epoch, batch, t, lr in GOLDEN["c10_if100_scheduler_calls_epoch_i_t_lr"]:
        ours = schedule_time(int(epoch), int(batch), BATCHES, 4)
        assert ours == pytest.approx(t, rel=1e-12)
        assert_close(STUDENT(ours), lr)


def test_teachers_warm_up_and_steps():
    schedule = WarmupSteps(lr=0.1, epochs=200)
    assert_close([schedule(epoch) for epoch in range(200)], GOLDEN["teacher_cifar_ldam_lr"])


def test_a_short_last_window_has_the_last_batchs_time():
    times = [schedule_time(0, batch, 10, 4) for batch in range(10)]
    assert times == [0.0] * 4 + [0.4] * 4 + [0.8, 0.9]
    assert [schedule_time(2, batch, 4) for batch in range(4)] == [2.0, 2.25, 2.5, 2.75]


def test_cosine_rests_at_its_end():
    assert STUDENT(1200) == STUDENT(5000) == 1e-5


def test_warm_up_is_linear_and_then_joins_the_cosine():
    schedule = WarmupCosine(lr=1.0, epochs=100, warmup_epochs=10, warmup_lr=0.0, min_lr=0.0)
    assert schedule(5) == 0.5
    assert schedule(10) == pytest.approx(0.5 * (1 + np.cos(np.pi * 0.1)))


def test_steps_hold_within_an_epoch_and_need_no_warm_up():
    schedule = WarmupSteps(lr=2.0, epochs=9, warmup_epochs=0, factors={6: 0.1, 3: 0.5})
    assert [schedule(t) for t in (0, 2.99, 3, 5.9, 6.0, 8)] == [2.0, 2.0, 1.0, 1.0, 0.2, 0.2]
    assert WarmupSteps(lr=0.1, epochs=200)(0.7) == 0.02


def test_pacos_overshoot_is_a_factor():
    factors = {10: 1.1, 11: 1.0, 320: 0.1, 360: 0.01}
    schedule = WarmupSteps(lr=0.05, epochs=400, warmup_epochs=10, factors=factors)
    assert_close([schedule(t) for t in (0, 9, 10, 11, 320, 360)], [0.005, 0.05, 0.055, 0.05, 0.005, 0.0005])


def test_without_warm_up_the_epochs_cosine_is_torchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
    published = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90)
    schedule = EpochCosine(lr=0.2, epochs=90)
    for epoch in range(90):
        assert schedule(epoch) == schedule(epoch + 0.99) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        published.step()


def test_pacos_cosine_counts_from_the_warm_ups_last_epoch():
    schedule = EpochCosine(lr=0.02, epochs=400, warmup_epochs=10)
    assert_close([schedule(t) for t in (0, 4, 9)], [0.002, 0.01, 0.02])
    expected = [0.01 * (1 + np.cos(np.pi * (epoch - 10 + 1) / (400 - 10 + 1))) for epoch in range(10, 400)]
    assert_close([schedule(epoch) for epoch in range(10, 400)], expected)
    assert schedule(400) == schedule(1000) == 0


def test_a_warm_up_as_long_as_the_run_or_longer_never_falls():
    rates = [EpochCosine(lr=1.0, epochs=2, warmup_epochs=w)(t) for w, t in ((2, 1), (3, 1), (3, 2), (3, 3))]
    assert rates == [1, 2 / 3, 1, 0]


def test_a_negative_factor_is_named():
    with pytest.raises(ConfigError, match=r"factors has -0\.1 from epoch 3"):
        WarmupSteps(lr=0.1, epochs=10, factors={3: -0.1})
