import pytest
import torch

from deitlt.benchmarks.timm_loop import TimmLoop, has_rival


@pytest.mark.parametrize("name", ["teacher", "student", "baseline"])
def test_timm_trains_the_same_network_on_as_many_images(open_tiny, name):
    bench = open_tiny(name, batches=4)
    assert has_rival(bench)
    before = [parameter.clone() for parameter in bench.module.parameters()]
    loop = TimmLoop(bench)
    assert [len(images) for images, _ in loop.loader] == [16] * 4
    loop.train()
    assert any(not torch.equal(a, b) for a, b in zip(before, bench.module.parameters(), strict=True))
    loop.feed()
    loop.train_on_held()


def test_its_images_are_mixed_and_normalised_by_the_recipe(open_tiny):
    loop = TimmLoop(open_tiny("student", "student.views.mixing.probability=1.0", "student.views.train.erasing=0"))
    images, targets = next(iter(loop.loader))
    assert images.shape == (16, 3, 16, 16)
    assert targets.shape == (16, 10)
    assert torch.allclose(targets.sum(1), torch.ones(16))
    mean, std = loop.bench.datamodule.normalisation.mean[0], loop.bench.datamodule.normalisation.std[0]
    assert images.min().item() == pytest.approx(-mean / std, abs=1e-4)  # black
    assert 0 < images.max().item() <= (1 - mean) / std + 1e-4


def test_its_loss_is_half_the_truth_and_half_the_teacher(open_tiny):
    bench = open_tiny("student", "student.model.drop_path=0.0", "student.views.mixing=null")
    loop = TimmLoop(bench)
    images, targets = next(iter(loop.loader))
    answers = bench.module.network(images)
    chosen = bench.datamodule.labeller(images)
    expected = sum(
        torch.nn.functional.cross_entropy(*pair) for pair in ((answers.cls, targets), (answers.dist, chosen))
    )
    assert loop.loss(images, targets).item() == pytest.approx(expected.item() / 2, rel=1e-5)


def test_updates_come_once_enough_images_were_seen(open_tiny):
    bench = open_tiny("student", "student.batch_size=8", batches=4)
    loop = TimmLoop(bench)
    before = [parameter.clone() for parameter in bench.module.parameters()]
    loop.step(*next(iter(loop.loader)))
    assert all(torch.equal(a, b) for a, b in zip(before, bench.module.parameters(), strict=True))
    loop.step(*next(iter(loop.loader)))
    assert any(not torch.equal(a, b) for a, b in zip(before, bench.module.parameters(), strict=True))


def test_timm_has_no_sam(open_tiny):
    assert not has_rival(open_tiny("sam_teacher"))
