from functools import partial
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch

from deitlt.callbacks import DeferredReweighting
from deitlt.data import (
    FullRepeatedAugmentationSampler,
    LongTailDataModule,
    RepeatedAugmentationSampler,
)
from deitlt.errors import ConfigError, DataError
from deitlt.transforms import IMAGENET, Mixed, Mixup, student_transform
from deitlt.transforms.teacher_input import training_batch
from deitlt.types import Batch, ImageBatch

TAILED = {"imbalance_factor": 0.25, "max_count": 30}  # 160 digits, 30 of 0 down to 7 of 9
STRONG = {"train": partial(student_transform, crop="padded", padding=1, flip=0.0), "mixing": Mixup}


def digits(**options):
    return LongTailDataModule.from_keys(**{"name": "digits", "batch_size": 20, **TAILED, **options})


class Keeping(L.LightningModule):
    """Keeps each batch that it gets, by epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.batches, self.evaluated = {}, []

    def training_step(self, batch, batch_idx):
        self.batches.setdefault(self.current_epoch, []).append(batch)
        return self.weight * 1.0

    def validation_step(self, batch, batch_idx, dataloader_idx=0):
        self.evaluated.append((dataloader_idx, batch))

    test_step = validation_step

    def reweight(self, weights):
        pass

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def batches(make_trainer, datamodule, epochs=1, ckpt_path=None, **options):
    module = Keeping()
    trainer = make_trainer(max_epochs=epochs, **options)
    trainer.fit(module, datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
    return module.batches


def same(first, second):
    """Whether two lists of batches are equal bit for bit."""
    pairs = [(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True)]
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def halve(images):
    """The teacher's input."""
    return images[..., ::2, ::2]


def test_a_batch_is_complete_when_it_arrives(make_trainer):
    got = batches(make_trainer, digits(teacher_input=halve, **STRONG))[0]
    assert len(got) == 160 // 20
    for batch in got:
        assert isinstance(batch, Batch)
        assert batch.images.shape == (20, 3, 8, 8)
        torch.testing.assert_close(batch.targets.sum(1), torch.ones(20))
        assert torch.equal(batch.teacher_images, halve(batch.images))  # of the mixed images


def test_without_mixing_and_teacher_an_epoch_shows_each_image_once_in_an_order_of_its_own(make_trainer):
    datamodule = digits()
    got = batches(make_trainer, datamodule, epochs=2)
    assert all(batch.teacher_images is None for epoch in got.values() for batch in epoch)
    labels = [torch.cat([batch.targets for batch in got[epoch]]) for epoch in range(2)]
    for seen in labels:
        assert seen.dtype == torch.int64
        assert torch.bincount(seen, minlength=10).tolist() == list(datamodule.info.counts)
    assert not torch.equal(labels[0], labels[1])


def test_mixing_ends_with_the_deferred_phase(make_trainer):
    datamodule = digits(**STRONG)
    drw = DeferredReweighting(1, datamodule.info.counts)
    got = batches(make_trainer, datamodule, epochs=3, callbacks=[drw])
    assert [batch.targets.ndim for epoch in range(3) for batch in got[epoch]] == [2] * 8 + [1] * 16


def as_it_is(image_size, normalisation):
    return lambda image: torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


@pytest.mark.parametrize("repeats", [2, 3])
def test_full_repeated_augmentation_shows_each_image_so_often_and_each_copy_drawn_apart(make_trainer, repeats):
    sampler = partial(FullRepeatedAugmentationSampler, num_repeats=repeats, shuffle=False)
    datamodule = digits(sampler=sampler, train=partial(student_transform, crop="padded"))
    got = batches(make_trainer, datamodule)[0]
    labels = torch.cat([batch.targets for batch in got])
    assert torch.bincount(labels, minlength=10).tolist() == [repeats * n for n in datamodule.info.counts]
    assert got[0].images[:repeats].unique(dim=0).shape[0] == repeats  # of one image


@pytest.mark.parametrize("seed", [0, 5])
def test_draws_depend_on_no_global_stream_and_not_on_the_number_of_workers(make_trainer, seed):
    torch.manual_seed(seed + 1), np.random.seed(seed + 1)
    alone = batches(make_trainer, digits(seed=seed, teacher_input=halve, **STRONG), epochs=2)
    torch.manual_seed(seed + 2), np.random.seed(seed + 2)
    shared = batches(make_trainer, digits(seed=seed, teacher_input=halve, num_workers=2, **STRONG), epochs=2)
    assert all(same(alone[epoch], shared[epoch]) for epoch in range(2))
    assert not same(alone[0], alone[1])


def test_each_batch_of_each_epoch_is_mixed_by_a_stream_of_its_own(make_trainer):
    def drawn(seed):
        numbers = []

        def mix(images, targets, rng):
            numbers.append(rng.random())
            return Mixed(images, targets, None)

        batches(make_trainer, digits(seed=seed, mixing=lambda num_classes: mix), epochs=3)
        return numbers

    assert drawn(0) == drawn(0)
    assert len({*drawn(0), *drawn(1)}) == 2 * 3 * 8


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_run_draws_what_the_whole_run_drew(make_trainer, tmp_path, num_workers):
    options = {"num_workers": num_workers, "teacher_input": halve, **STRONG}
    whole = batches(make_trainer, digits(**options), epochs=3)
    cut = L.pytorch.callbacks.ModelCheckpoint(tmp_path, "cut", save_on_train_epoch_end=True)
    batches(make_trainer, digits(**options), 1, callbacks=[cut], enable_checkpointing=True)
    resumed = batches(make_trainer, digits(**options), 3, ckpt_path=tmp_path / "cut.ckpt")
    assert sorted(resumed) == [1, 2]
    assert all(same(resumed[epoch], whole[epoch]) for epoch in (1, 2))


@pytest.mark.parametrize("world", [2, 3])
def test_ranks_share_the_images_and_the_evaluation_and_count_each_image_once(world):
    def of_rank(rank):
        datamodule = digits(train=as_it_is, drop_last=False)
        progress = SimpleNamespace(current=SimpleNamespace(processed=0))
        strategy = SimpleNamespace(root_device=torch.device("cpu"))
        fit_loop = SimpleNamespace(epoch_progress=progress, restarting=False)
        place = {"world_size": world, "global_rank": rank}
        datamodule.trainer = SimpleNamespace(**place, fit_loop=fit_loop, strategy=strategy)
        loaders = datamodule.train_dataloader(), datamodule.test_dataloader()
        return [torch.cat([targets for _, targets in loader]) for loader in loaders]

    trained, tested = zip(*map(of_rank, range(world)), strict=True)
    for shares in (trained, tested):
        assert len({len(share) for share in shares}) == 1
    shown, counted = torch.bincount(torch.cat(trained), minlength=10), torch.cat(tested)
    assert 0 <= (shown - torch.tensor(digits().info.counts)).sum() < world  # but for filling
    assert torch.bincount(counted[counted >= 0], minlength=10).tolist() == [50] * 10


def test_a_short_last_batch_is_dropped_unless_it_is_the_only_one():
    def sizes(batch_size, drop_last):
        loader = digits(batch_size=batch_size, drop_last=drop_last).train_dataloader()
        return [len(targets) for _, targets in loader]

    assert sizes(50, drop_last=True) == [50] * 3
    assert sizes(50, drop_last=False) == [50] * 3 + [10]
    for drop_last in (True, False):
        assert sizes(500, drop_last) == sizes(160, drop_last) == [160]
        assert sizes(53, drop_last) == [53] * 3  # a last image alone: BatchNorm could not normalise it
        assert sizes(1, drop_last) == [1] * 160


def test_repeated_augmentation_that_would_show_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"no image of a training set of 160; type data/sampler=repeated_full"):
        digits(sampler=RepeatedAugmentationSampler).train_dataloader()


def test_watched_splits_come_in_the_order_asked_for(make_trainer):
    datamodule = digits(val_fraction=0.25, watched=("test", "val"), eval_batch_size=100)
    assert datamodule.watched == ("test", "val")
    assert digits().watched == ()
    assert digits(watched=("val", "test")).watched == ("test",)  # there is no val
    test, val = datamodule.val_dataloader()
    assert len(test.dataset) == 500
    assert len(val.dataset) == len(datamodule.splits.val) == sum(1 for _ in datamodule.splits.val.labels)
    module = Keeping()
    trainer = make_trainer(limit_val_batches=1.0)
    trainer.fit(module, datamodule=datamodule)
    assert [index for index, _ in module.evaluated] == [0] * 5 + [1]
    labels = torch.cat([batch.targets for index, batch in module.evaluated if index == 0])
    assert labels.tolist() == datamodule.splits.test.labels.tolist()


def test_evaluation_is_neither_mixed_nor_labelled(make_trainer):
    def refuse(images):
        raise AssertionError("the teacher's input was made")

    datamodule = digits(teacher_input=refuse, **STRONG)
    module = Keeping()
    make_trainer().test(module, datamodule=datamodule, verbose=False)
    first = module.evaluated[0][1]
    assert isinstance(first, ImageBatch)
    assert torch.cat([b.targets for _, b in module.evaluated]).tolist() == datamodule.splits.test.labels.tolist()
    expected = datamodule.evaluation_transform()(datamodule.splits.test[0])
    assert torch.equal(first.images[0], expected)


def test_size_and_statistics_are_the_data_sets_own_unless_asked_for():
    assert digits().image_size == 8
    assert digits(image_size=16).image_size == 16
    assert digits().normalisation == IMAGENET
    own = digits(statistics="own")
    assert own.normalisation == own.spec.normalisation != IMAGENET
    (images, *_), _ = next(iter(digits(image_size=16).train_dataloader()))
    assert images.shape[-2:] == (16, 16)


@pytest.fixture
def broken_folder(image_folder):
    """Like `image_folder`, with one broken file in the training and one in the test set."""
    for name in ("train/cat/1.jpg", "test/dog/9.png"):
        (image_folder / name).write_bytes(b"no image")
    return image_folder


def folder(root, **options):
    return LongTailDataModule.from_keys(name="folder", root=root, image_size=8, batch_size=2, **options)


def test_a_broken_file_is_named_before_training(broken_folder):
    with pytest.raises(DataError, match=r"train/cat/1\.jpg cannot be decoded.*type data\.on_broken=skip"):
        folder(broken_folder).check_files()
    (broken_folder / "train/dog/1.jpg").write_bytes(b"")
    with pytest.raises(
        DataError, match=r"9\.png, .*cat/1\.jpg, .*dog/1\.jpg cannot be decoded as images; replace them,"
    ):
        folder(broken_folder).check_files()
    (broken_folder / "train/cat/1.jpg").unlink()
    (broken_folder / "train/dog/1.jpg").unlink()
    with pytest.raises(DataError, match=r"test/dog/9\.png cannot be decoded as an image; replace it"):
        folder(broken_folder).check_files()


def test_many_broken_files_are_all_named_in_a_file(image_folder, tmp_path):
    broken = [image_folder / f"train/cat/broken {i:02}.jpg" for i in range(12)]
    for file in broken:
        file.write_bytes(b"no image")
    listing = tmp_path / "run" / "broken.txt"
    with pytest.raises(DataError) as caught:
        folder(image_folder).check_files(listing)
    assert f"{broken[9]}, and 2 more, all named in {listing}, cannot be decoded as images" in str(caught.value)
    assert listing.read_text().splitlines() == [str(file) for file in broken]


def test_broken_files_are_skipped_where_that_is_asked_for(broken_folder):
    found = folder(broken_folder, on_broken="skip").check_files()
    assert found == [str(broken_folder / "test/dog/9.png"), str(broken_folder / "train/cat/1.jpg")]
    datamodule = folder(broken_folder, on_broken="skip", exclude=found)
    assert datamodule.info.counts == (2, 2)
    assert len(datamodule.splits.test) == 1
    assert sum(len(targets) for _, targets in datamodule.train_dataloader()) == 4


def test_unknown_choices_are_named():
    with pytest.raises(ConfigError, match=r"data\.name=digit is not a known data set; did you mean 'digits'"):
        LongTailDataModule.from_keys(name="digit")
    with pytest.raises(
        ConfigError, match=r"data\.group_cuts=\[3\] must be two positions .* type data\.group_cuts=\[3,7\]"
    ):
        digits(group_cuts=[3]).setup()


@pytest.fixture
def transform(see_through):
    return lambda image_size, normalisation: see_through(image_size)


@pytest.mark.parametrize("resident", ["auto", False])
def test_a_batch_transform_draws_anew_at_each_step_and_a_resumed_run_repeats_it(
    make_trainer, tmp_path, transform, resident
):
    options = {"train": transform, "cache_on_device": resident, "mixing": Mixup}
    whole = batches(make_trainer, digits(**options), epochs=2)
    assert not same(whole[0], whole[1])
    other_seed = batches(make_trainer, digits(**options, seed=1))
    assert not same(whole[0], other_seed[0])

    keep = make_trainer(max_epochs=1)
    keep.fit(Keeping(), datamodule=digits(**options))
    keep.save_checkpoint(tmp_path / "half.ckpt")
    rest = batches(make_trainer, digits(**options), epochs=2, ckpt_path=tmp_path / "half.ckpt")
    assert same(rest[1], whole[1])


def test_where_images_live_and_who_reads_them_changes_no_batch(make_trainer, transform):
    found = [
        batches(make_trainer, digits(train=transform, mixing=Mixup, cache_on_device=resident, num_workers=workers))
        for resident, workers in ((True, 0), (False, 0), (False, 2))
    ]
    assert same(found[0][0], found[1][0])
    assert same(found[0][0], found[2][0])


# Completion of a batch

B, C = 6, 10
TARGETS = torch.tensor([0, 3, 3, 9, 1, 4])


def crops(sizes, seed=0):
    stream = torch.Generator().manual_seed(seed)
    return [torch.rand(B, 3, size, size, generator=stream) for size in sizes]


def complete(sizes, mixing=None, teacher_input=None, teacher_sees="both", seed=0):
    return training_batch(crops(sizes), TARGETS, mixing, teacher_input, teacher_sees, np.random.default_rng(seed))


def test_crops_of_one_size_follow_each_other_with_their_targets_and_smaller_ones_are_local():
    batch = complete([8, 8, 4, 4, 4])
    assert torch.equal(batch.images, torch.cat(crops([8, 8])))
    assert batch.targets.tolist() == TARGETS.tolist() * 2
    assert batch.local.images.shape == (3 * B, 3, 4, 4)
    assert batch.local.targets.tolist() == TARGETS.tolist() * 3
    assert [(len(part.images), part.crops) for part in batch.parts] == [(2 * B, 2), (3 * B, 3)]
    single = training_batch(crops([8])[0], TARGETS, None, None, "both", np.random.default_rng(0))
    assert single.parts == (single,)
    assert torch.equal(single.images, crops([8])[0])


@pytest.mark.parametrize("sees", ["both", "global"])
def test_the_teachers_input_is_made_of_every_crop_or_of_global_ones(sees):
    batch = complete([8, 8, 4, 4], teacher_input=halve, teacher_sees=sees)
    assert torch.equal(batch.teacher_images, halve(batch.images))
    if sees == "both":
        assert torch.equal(batch.local.teacher_images, halve(batch.local.images))
    else:
        assert batch.local.teacher_images is None


def test_local_crops_are_mixed_as_the_global_ones_with_the_same_partners():
    batch = complete([8, 8, 4, 4, 4], Mixup(C, cutmix=0.0, smoothing=0.0), seed=3)
    torch.testing.assert_close(batch.local.targets[:B], batch.targets[:B])
    torch.testing.assert_close(batch.local.targets[B : 2 * B], batch.targets[B:])
    kept = float(batch.targets[0, 0])
    assert 0 < kept < 1
    local = torch.cat(crops([8, 8, 4, 4, 4])[2:])
    torch.testing.assert_close(batch.local.images, kept * local + (1 - kept) * local.flip(0))
