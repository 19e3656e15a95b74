import lightning as L
import pytest
import torch

from deitlt.optim import WarmupCosine, schedule_time

SCHEDULE = WarmupCosine(lr=0.2, epochs=3, warmup_epochs=1, warmup_lr=0.01, min_lr=0.02)


class NotingRates(torch.optim.SGD):
    """Notes the learning rate that each step really uses."""

    def step(self, closure=None):
        loss = super().step(closure)
        self.used = [*getattr(self, "used", []), self.param_groups[0]["lr"]]
        return loss


def used_rates(make_trainer, module, batches, accumulate, **options):
    trainer = make_trainer(max_epochs=3, accumulate_grad_batches=accumulate, **options)
    trainer.fit(module, batches)
    return trainer.optimizers[0].used


def noting(network):
    return NotingRates(network.parameters(), lr=123.0)


@pytest.mark.parametrize("accumulate", [1, 2, 4])  # the last window of four is short
def test_each_update_uses_the_rate_of_its_time(make_trainer, student_module, student_batches, accumulate):
    module = student_module(optimizer=noting, schedule=SCHEDULE)
    used = used_rates(make_trainer, module, student_batches(6), accumulate)
    lasts = [i for i in range(6) if i % accumulate == accumulate - 1 or i == 5]
    times = [schedule_time(epoch, i, 6, accumulate) for epoch in range(3) for i in lasts]
    assert used == pytest.approx([SCHEDULE(time) for time in times], rel=1e-12)


def test_every_group_of_parameters_moves(make_trainer, student_module, student_batches):
    def two_groups(network):
        tokens = [network.vit.cls_token, network.vit.dist_token]
        return NotingRates([{"params": tokens, "lr": 5.0}, {"params": [network.vit.pos_embed]}], lr=7.0)

    module = student_module(optimizer=two_groups, schedule=SCHEDULE)
    trainer = make_trainer()
    trainer.fit(module, student_batches(2))
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [SCHEDULE(0.5)] * 2


def test_the_rate_that_an_epoch_ended_with_is_logged(make_trainer, student_module, student_batches):
    logged = []

    class Watching(L.Callback):
        def on_train_epoch_end(self, trainer, pl_module):
            logged.append(float(trainer.callback_metrics.get("train/lr", -1)))

        def on_train_end(self, trainer, pl_module):
            logged.append(float(trainer.callback_metrics["train/lr"]))

    module = student_module(schedule=SCHEDULE)
    make_trainer(max_epochs=3, callbacks=[Watching()]).fit(module, student_batches(4))
    assert logged[-1] == pytest.approx(SCHEDULE(2 + 3 / 4))


def test_a_resumed_run_needs_no_scheduler(make_trainer, student_module, student_batches, tmp_path):
    module = student_module(optimizer=noting, schedule=SCHEDULE)
    whole = used_rates(make_trainer, module, student_batches(6), 2)
    trainer = make_trainer(accumulate_grad_batches=2)
    trainer.fit(student_module(optimizer=noting, schedule=SCHEDULE), student_batches(6))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    trainer = make_trainer(accumulate_grad_batches=2, max_epochs=3)
    module = student_module(optimizer=noting, schedule=SCHEDULE)
    trainer.fit(module, student_batches(6), ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert trainer.optimizers[0].used == whole[3:]
