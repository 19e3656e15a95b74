import pytest
import torch
from torch.utils.data import DataLoader

from deitlt.callbacks import SeededSteps
from deitlt.metrics import GroupedAccuracy
from deitlt.models import create_teacher
from deitlt.types import IGNORED, ImageBatch, TokenLogits

NAMES = {"all", "balanced", "head", "mid", "tail", "top5"}


def loader(batches=3, seed=0, fill=0, without=None):
    """Images of four classes; the last batch ends with `fill` images that do not count."""
    stream = torch.Generator().manual_seed(seed)
    made = []
    for i in range(batches):
        targets = torch.randint(4, (10,), generator=stream)
        if without is not None:
            targets[targets == without] = 0
        if fill and i == batches - 1:
            targets[-fill:] = IGNORED
        made.append(ImageBatch(torch.randn(10, 3, 8, 8, generator=stream), targets))
    return DataLoader(made, batch_size=None)


def gathered(network, batches):
    """All logits of each token, and all targets."""
    with torch.no_grad():
        answers = [network.eval()(batch.images) for batch in batches]
    tokens = [a if isinstance(a, TokenLogits) else TokenLogits(a, None) for a in answers]
    cls = torch.cat([a.cls for a in tokens])
    dist = None if tokens[0].dist is None else torch.cat([a.dist for a in tokens])
    return TokenLogits(cls, dist), torch.cat([batch.targets for batch in batches])


def accuracies(logits, targets, info):
    metric = GroupedAccuracy(info.num_classes, info.groups)
    metric.update(logits, targets)
    return {name: float(value) for name, value in metric.compute().items()}, metric.per_class()


@pytest.mark.parametrize("fill", [0, 4])
def test_a_students_results_are_those_of_all_logits_together(make_trainer, student_module, info, fill):
    module = student_module()
    logged = make_trainer().test(module, loader(fill=fill), verbose=False)[0]
    logits, targets = gathered(module.network, loader(fill=fill))
    means = {"cls": logits.cls, "dist": logits.dist, "avg": (logits.cls + logits.dist) / 2}
    results = module.results["test"]["raw"]
    for token, values in means.items():
        expected, per_class = accuracies(values, targets, info)
        assert set(expected) == NAMES
        assert results.accuracy[token] == pytest.approx(expected)
        assert results.per_class[token] == pytest.approx(per_class.tolist())
        assert {name: logged[f"test/{token}/{name}"] for name in NAMES} == pytest.approx(expected, rel=1e-6)
    assert len(logged) == 3 * len(NAMES)


def test_a_teacher_has_one_answer(make_trainer, teacher_module, info):
    module = teacher_module()
    logged = make_trainer().test(module, loader(), verbose=False)[0]
    logits, targets = gathered(module.network, loader())
    expected, _ = accuracies(logits.cls, targets, info)
    assert logged == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-6)


def test_other_networks_share_the_pass_under_their_names(make_trainer, teacher_module, student_module, info):
    module, other = student_module(), student_module().network
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    module.evaluate_also("ema", other)
    logged = make_trainer().test(module, loader(), verbose=False)[0]
    logits, targets = gathered(other, loader())
    assert logged["test/ema/dist/tail"] == pytest.approx(accuracies(logits.dist, targets, info)[0]["tail"], rel=1e-6)
    assert module.results["test"]["ema"] != module.results["test"]["raw"]
    assert set(module.results["test"]) == {"raw", "ema"}
    assert not any(name.startswith("ema") for name in module.state_dict())
    teacher = teacher_module()
    teacher.evaluate_also("ema", create_teacher(4, "cifar_resnet8").eval())
    assert "test/ema/all" in make_trainer().test(teacher, loader(), verbose=False)[0]


def test_a_class_without_an_image_is_absent(make_trainer, student_module):
    module = student_module()
    logged = make_trainer().test(module, loader(without=3), verbose=False)[0]
    assert "test/cls/tail" not in logged  # the tail is class 3 alone
    assert "test/cls/mid" in logged
    assert module.results["test"]["raw"].per_class["cls"][3] is None
    assert all(value == value for value in logged.values())


def test_a_second_test_begins_at_zero(make_trainer, student_module):
    module, trainer = student_module(), make_trainer()
    first = trainer.test(module, loader(seed=1), verbose=False)[0]
    trainer.test(module, loader(seed=2), verbose=False)
    assert trainer.test(module, loader(seed=1), verbose=False)[0] == first


def test_each_watched_split_has_its_own_name(make_trainer, student_module, student_batches, info):
    module, trainer = student_module(), make_trainer(limit_val_batches=1.0)
    module.watched = ("val", "test")
    trainer.fit(module, student_batches(), [loader(seed=1), loader(seed=2)])
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for split, seed in (("val", 1), ("test", 2)):
        logits, targets = gathered(module.network, loader(seed=seed))
        expected, _ = accuracies(logits.dist, targets, info)
        assert logged[f"{split}/dist/balanced"] == pytest.approx(expected["balanced"], rel=1e-6)
    assert {name.split("/")[0] for name in logged} == {"val", "test", "train"}
    assert set(module.results) == {"val", "test"}


def test_a_watched_test_set_is_never_called_val(make_trainer, student_module, student_batches):
    module, trainer = student_module(), make_trainer(limit_val_batches=1.0)
    module.watched = ("test",)
    trainer.fit(module, student_batches(), [loader()])
    assert not any(name.startswith("val") for name in trainer.callback_metrics)
    assert "test/cls/all" in trainer.callback_metrics


def test_evaluation_leaves_training_as_it_was(make_trainer, student_module, student_batches):
    def trained(validated):
        module = student_module(drop_path=0.5)
        options = {"limit_val_batches": 1.0} if validated else {}
        trainer = make_trainer(max_epochs=2, callbacks=[SeededSteps(0)], **options)
        trainer.fit(module, student_batches(), [loader()] if validated else None)
        return torch.nn.utils.parameters_to_vector(module.network.parameters())

    assert torch.equal(trained(True), trained(False))
