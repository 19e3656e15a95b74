"""What teachers and students share: steps, schedule, evaluation, checkpoints and compiled networks."""

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.nn import functional as F
from torch.utils.data import DataLoader

from deitlt.callbacks import DeferredReweighting, SeededSteps, SharpnessAwareMinimization, StudentAveraging
from deitlt.metrics import GroupedAccuracy
from deitlt.models import compile_network, create_teacher
from deitlt.optim import WarmupCosine, schedule_time
from deitlt.types import IGNORED, Batch, ImageBatch, TokenLogits

WEIGHTS = torch.tensor([0.1, 0.4, 1.0, 2.5])
SCHEDULE = WarmupCosine(lr=0.2, epochs=3, warmup_epochs=1, warmup_lr=0.01, min_lr=0.02)


def parameters(module):
    return torch.nn.utils.parameters_to_vector(module.network.parameters()).detach()


# Training


def crops(with_local=False):
    """Six global crops of 8 pixels, and three local ones of 4 if asked for."""
    stream = torch.Generator().manual_seed(5)
    images = torch.randn(6, 3, 8, 8, generator=stream)
    local = Batch(torch.randn(3, 3, 4, 4, generator=stream), torch.tensor([0, 1, 2])) if with_local else None
    return Batch(images, torch.tensor([0, 1, 2, 3, 0, 1]), local=local)


def test_a_teacher_learns_from_the_truth_alone_with_the_weights_of_the_classes(teacher_module, quietly):
    module, data = quietly(teacher_module()), crops()
    for weights in (WEIGHTS, None):
        module.reweight(weights)
        loss = module.training_step(data, 0)
        torch.testing.assert_close(loss, F.cross_entropy(module.network(data.images), data.targets, weights))
    assert set(module.logged) == {"train/loss"}


def test_a_teacher_learns_from_local_crops_too(teacher_module, quietly):
    module, data = quietly(teacher_module()), crops(with_local=True)
    loss = module.training_step(data, 0)
    whole, local = (F.cross_entropy(module.network(part.images), part.targets) for part in data.parts)
    torch.testing.assert_close(loss, (6 * whole + 3 * local) / 9)


def test_the_epochs_mean_is_logged(make_trainer, student_module, student_batches):
    module = student_module("none", optimizer=lambda network: torch.optim.SGD(network.parameters(), lr=0.0))
    module.schedule = lambda time: 0.0
    trainer = make_trainer()
    trainer.fit(module, student_batches(3))
    module.log = lambda *args, **kwargs: None
    losses = [float(module.training_step(data, 0).detach()) for data in student_batches(3)]
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    assert logged["train/loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)
    assert logged["train/loss"] == pytest.approx(logged["train/loss_cls"] + logged["train/loss_dist"], rel=1e-5)


def test_only_the_network_is_optimised_and_stored_with_the_metadata(
    make_trainer, student_module, student_batches, tmp_path
):
    module = student_module()
    optimised = {id(p) for group in module.configure_optimizers().param_groups for p in group["params"]}
    assert optimised == {id(p) for p in module.network.parameters()}
    module.spec = {"kind": "student", "counts": [1, 2]}
    trainer = make_trainer()
    trainer.fit(module, student_batches(1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)
    assert stored["deitlt"] == module.spec
    assert all(name.startswith("network.") for name in stored["state_dict"])


# Learning rates


class NotingRates(torch.optim.SGD):
    """Notes the learning rate that each step really uses."""

    def step(self, closure=None):
        loss = super().step(closure)
        self.used = [*getattr(self, "used", []), self.param_groups[0]["lr"]]
        return loss


@pytest.fixture
def scheduled(make_trainer, student_module, student_batches):
    """Trains on six batches an epoch; the Trainer, whose optimiser noted its rates."""

    def run(accumulate, epochs=3, resume=None, **options):
        module = student_module(
            optimizer=lambda network: NotingRates(network.parameters(), lr=123.0), schedule=SCHEDULE
        )
        trainer = make_trainer(max_epochs=epochs, accumulate_grad_batches=accumulate, **options)
        trainer.fit(module, student_batches(6), ckpt_path=resume, weights_only=True)
        return trainer

    return run


@pytest.mark.parametrize("accumulate", [1, 2, 4])  # the last window of four is short
def test_each_update_uses_the_rate_of_its_time_also_after_a_resume(scheduled, tmp_path, accumulate):
    used = scheduled(accumulate).optimizers[0].used
    lasts = [i for i in range(6) if i % accumulate == accumulate - 1 or i == 5]
    times = [schedule_time(epoch, i, 6, accumulate) for epoch in range(3) for i in lasts]
    assert used == pytest.approx([SCHEDULE(time) for time in times], rel=1e-12)
    scheduled(accumulate, epochs=1).save_checkpoint(tmp_path / "one.ckpt")
    assert scheduled(accumulate, resume=tmp_path / "one.ckpt").optimizers[0].used == used[len(lasts) :]


def test_every_group_of_parameters_moves(make_trainer, student_module, student_batches):
    def two_groups(network):
        tokens = [network.vit.cls_token, network.vit.dist_token]
        return NotingRates([{"params": tokens, "lr": 5.0}, {"params": [network.vit.pos_embed]}], lr=7.0)

    trainer = make_trainer()
    trainer.fit(student_module(optimizer=two_groups, schedule=SCHEDULE), student_batches(2))
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [SCHEDULE(0.5)] * 2


def test_the_rate_that_an_epoch_ended_with_is_logged(scheduled):
    logged = []

    class Watching(L.Callback):
        def on_train_end(self, trainer, pl_module):
            logged.append(float(trainer.callback_metrics["train/lr"]))

    scheduled(1, callbacks=[Watching()])
    assert logged == [pytest.approx(SCHEDULE(2 + 5 / 6))]


# Evaluation

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


def logged_by(trainer, module, batches):
    return trainer.test(module, batches, verbose=False)[0]


def expected_of(network, batches, token, info):
    """The accuracies, and those of each class, of one token's logits of all images together."""
    with torch.no_grad():
        answers = [network.eval()(batch.images) for batch in batches]
    tokens = [a if isinstance(a, TokenLogits) else TokenLogits(a, None) for a in answers]
    cls, targets = torch.cat([a.cls for a in tokens]), torch.cat([batch.targets for batch in batches])
    dist = cls if tokens[0].dist is None else torch.cat([a.dist for a in tokens])
    metric = GroupedAccuracy(info.num_classes, info.groups)
    metric.update({"cls": cls, "dist": dist, "avg": (cls + dist) / 2}[token], targets)
    return {name: float(value) for name, value in metric.compute().items()}, metric.per_class().tolist()


@pytest.mark.parametrize("fill", [0, 4])
def test_a_students_results_are_those_of_all_logits_together(make_trainer, student_module, info, fill):
    module = student_module()
    logged = logged_by(make_trainer(), module, loader(fill=fill))
    results = module.results["test"]["raw"]
    for token in ("cls", "dist", "avg"):
        expected, per_class = expected_of(module.network, loader(fill=fill), token, info)
        assert set(expected) == NAMES
        assert results.accuracy[token] == pytest.approx(expected)
        assert results.per_class[token] == pytest.approx(per_class)
        assert {name: logged[f"test/{token}/{name}"] for name in NAMES} == pytest.approx(expected, rel=1e-6)
    assert len(logged) == 3 * len(NAMES)


def test_a_teacher_has_one_answer(make_trainer, teacher_module, info):
    module = teacher_module()
    expected, _ = expected_of(module.network, loader(), "cls", info)
    logged = logged_by(make_trainer(), module, loader())
    assert logged == pytest.approx({f"test/{name}": value for name, value in expected.items()}, rel=1e-6)


def test_other_networks_share_the_pass_under_their_names(make_trainer, teacher_module, student_module, info):
    module, other = student_module(), student_module().network
    with torch.no_grad():
        for p in other.parameters():
            p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(2)))
    module.evaluated["ema"] = other
    logged = logged_by(make_trainer(), module, loader())
    expected, _ = expected_of(other, loader(), "dist", info)
    assert logged["test/ema/dist/tail"] == pytest.approx(expected["tail"], rel=1e-6)
    assert module.results["test"]["ema"] != module.results["test"]["raw"]
    assert set(module.results["test"]) == {"raw", "ema"}
    assert not any(name.startswith("ema") for name in module.state_dict())
    teacher = teacher_module()
    teacher.evaluated["ema"] = create_teacher(4, "cifar_resnet8").eval()
    assert "test/ema/all" in logged_by(make_trainer(), teacher, loader())


def test_a_second_test_begins_at_zero(make_trainer, student_module):
    module, trainer = student_module(), make_trainer()
    first = logged_by(trainer, module, loader(seed=1))
    logged_by(trainer, module, loader(seed=2))
    assert logged_by(trainer, module, loader(seed=1)) == first


def test_no_group_gains_by_ties_while_half_precision_trains(make_trainer, student_module, student_batches):
    module = student_module(schedule=lambda time: 0.0)
    with torch.no_grad():  # logits 1 to 1.0003: in bfloat16 they are equal, and the first class is the most frequent
        for head in (module.network.vit.head, module.network.vit.head_dist):
            head.weight.zero_()
            head.bias.copy_(1 + 1e-4 * torch.arange(4))
    make_trainer(precision="bf16-mixed", limit_val_batches=1.0).fit(module, student_batches(1), loader())
    for found in module.results["val"]["raw"].accuracy.values():
        assert (found["head"], found["mid"], found["tail"]) == (0.0, 0.0, 100.0)


def test_the_test_is_in_float32_whatever_training_is_in(make_trainer, teacher_module):
    module, asked = teacher_module(), []
    module.network.register_forward_hook(lambda *_: asked.append(torch.is_autocast_enabled("cpu")))
    trainer = make_trainer(precision="bf16-mixed", limit_val_batches=1.0)
    trainer.test(module, loader(), verbose=False)
    trainer.validate(module, loader(), verbose=False)
    assert asked == [False] * 6


@pytest.mark.parametrize("watched", [("val", "test"), ("test",)])
def test_each_watched_split_has_its_own_name(make_trainer, student_module, student_batches, info, watched):
    module, trainer = student_module(), make_trainer(limit_val_batches=1.0)
    module.watched = watched
    trainer.fit(module, student_batches(), [loader(seed=seed) for seed in range(len(watched))])
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    for seed, split in enumerate(watched):
        expected, _ = expected_of(module.network, loader(seed=seed), "dist", info)
        assert logged[f"{split}/dist/balanced"] == pytest.approx(expected["balanced"], rel=1e-6)
    assert {name.split("/")[0] for name in logged} == {"train", *watched}
    assert set(module.results) == set(watched)


def test_evaluation_leaves_training_as_it_was(make_trainer, student_module, student_batches):
    def trained(validated):
        module = student_module(drop_path=0.5)
        options = {"limit_val_batches": 1.0} if validated else {}
        trainer = make_trainer(max_epochs=2, callbacks=[SeededSteps(0)], **options)
        trainer.fit(module, student_batches(), [loader()] if validated else None)
        return parameters(module)

    assert torch.equal(trained(True), trained(False))


# Compiled networks under a Trainer, with everything that happens around their steps


@pytest.fixture
def no_graphs_of_others():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(module, graphs):
    compile_network(module.network, backend=lambda graph, inputs: graphs.append(graph) or graph.forward)
    return module


@pytest.fixture
def fit(make_trainer, student_batches, tmp_path, no_graphs_of_others):
    """Trains with seeds, SAM, re-weighting and an average; returns the weights and the average."""

    def run(module, epochs=3, ckpt_path=None):
        averaging = StudentAveraging(0.5)
        last = ModelCheckpoint(tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False)
        callbacks = [SeededSteps(0), DeferredReweighting(2, (40, 20, 8, 2)), SharpnessAwareMinimization(0.1)]
        made = make_trainer(callbacks=[*callbacks, averaging, last], max_epochs=epochs, enable_checkpointing=True)
        made.fit(module, student_batches(), ckpt_path=ckpt_path, weights_only=True)
        weights = torch.cat([value.flatten().double() for value in module.network.state_dict().values()])
        return weights, torch.cat([p.detach().flatten() for p in averaging.average.module.parameters()])

    return run


# A student has one graph for both of SAM's passes, with class weights and without; BatchNorm counts in one pass alone.
@pytest.mark.parametrize(("kind", "number"), [("student", 1), ("teacher", 2)])
def test_a_compiled_network_ends_where_an_eager_one_does(fit, student_module, teacher_module, kind, number):
    make = teacher_module if kind == "teacher" else lambda: student_module(drop_path=0.3)
    graphs = []
    torch.testing.assert_close(fit(compiled(make(), graphs)), fit(make()), rtol=1e-4, atol=1e-6)
    assert len(graphs) == number
