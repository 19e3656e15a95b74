import pytest
import torch

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.fitting import fit_in_rounds

PACO = (
    *("experiment=digits_paco", "data.num_workers=0", "data.max_count=20", "data.imbalance_factor=0.1"),
    *("teacher.images_per_update=16", "teacher.batch_size=8", "teacher.model.queue_size=64"),
)
CASES = {
    "a plain teacher": ("teacher",),
    "a teacher with SAM, clipped": ("sam_teacher", "teacher.gradient_clip=0.5"),
    "a student who accumulates": ("student", "student.batch_size=8", "student.model.drop_path=0.5"),
    "a student with SAM who accumulates": ("sam_student", "student.batch_size=8", "student.model.depth=2"),
    "a student in bf16": ("student", "trainer.precision=bf16-mixed"),
    "a student with local crops": ("student", "student/views=multicrop", "student.views.train.local_size=8"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_bare_loop_does_the_same_work(open_tiny, case):
    name, *words = CASES[case]
    _compare(*(open_tiny(name, *words, batches=7) for _ in range(2)))


@pytest.mark.parametrize("name", ["teacher", "sam_teacher"])
def test_the_bare_loop_does_paco_s_work(open_tiny, name):
    _compare(*(open_tiny(name, batches=7, recipe=PACO) for _ in range(2)))


def _compare(by_lightning, by_hand):
    """Train one by Lightning, the other in a bare loop: weights, statistics, queues and losses end alike."""
    before = [value.clone() for value in by_hand.module.network.state_dict().values()]
    loop = BareLoop(by_hand)
    loop.train()
    loop.train()  # Lightning's warm-up is a round, too
    fit_in_rounds(by_lightning)
    ours, theirs = (bench.module.network.state_dict() for bench in (by_hand, by_lightning))
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.allclose(value.float(), theirs[key].float(), rtol=1e-5, atol=1e-7), key
    assert any(not torch.equal(value, ours[key]) for key, value in zip(ours, before, strict=True))
    loss = by_lightning.trainer.callback_metrics["train/loss"]
    assert loop.logged[-1]["loss"] == pytest.approx(float(loss), rel=1e-4)


def test_the_average_is_that_of_training(open_tiny):
    by_lightning, by_hand = (open_tiny("student", "student.ema.decay=0.9") for _ in range(2))
    loop = BareLoop(by_hand)
    loop.train()
    loop.train()
    fit_in_rounds(by_lightning)
    ours, theirs = (bench.module.evaluated["ema"].state_dict() for bench in (by_hand, by_lightning))
    raw = by_hand.module.network.state_dict()
    assert all(torch.allclose(value, theirs[key], rtol=1e-5, atol=1e-7) for key, value in ours.items())
    assert any(not torch.equal(value, raw[key]) for key, value in ours.items())


def test_feeding_alone_leaves_the_weights_and_the_labeller(open_tiny):
    loop = BareLoop(open_tiny("student"))
    before = [parameter.clone() for parameter in loop.module.parameters()]
    labeller = loop.data.labeller
    for work in (loop.load, loop.feed, loop.hook, loop.label):
        work()
    assert all(torch.equal(a, b) for a, b in zip(before, loop.module.parameters(), strict=True))
    assert loop.data.labeller is labeller
    batch = loop.held[1]
    assert batch.teacher.shape == (16,)
    assert batch.images.shape == (16, 3, 16, 16)


def test_steps_on_a_held_batch_make_updates(open_tiny):
    loop = BareLoop(open_tiny("student", "student.batch_size=8", batches=4))
    loop.train_on_held()
    assert loop.updates == 2
    loop.train()
    assert loop.updates == 4
