import numpy as np
import pytest

from deitlt.benchmarks.bench import ShortEpochs, Workload, generate, measured_stage, open_bench
from deitlt.data import LongTailDataModule, RepeatedAugmentationSampler
from deitlt.data.samplers import EpochSampler
from deitlt.errors import ConfigError, DataError


@pytest.mark.parametrize("kind", [EpochSampler, RepeatedAugmentationSampler])
def test_a_short_epoch_is_the_beginning_of_the_whole_one(kind):
    whole, short = kind(range(600), 1, 0, seed=3), ShortEpochs(kind(range(600), 1, 0, seed=3), 40)
    for epoch in (0, 5):
        whole.set_epoch(epoch)
        short.set_epoch(epoch)
        assert list(short) == list(whole)[:40]
    assert len(short) == 40


@pytest.mark.parametrize(("asked", "batches", "round_epochs"), [(3, 3, 1), (4, 4, 1), (9, 4, 3)])
def test_a_round_is_whole_epochs_of_whole_batches(open_tiny, asked, batches, round_epochs):
    bench = open_tiny("teacher", batches=asked)
    assert [len(targets) for _, targets in bench.datamodule.train_dataloader()] == [16] * batches
    assert (bench.batches, bench.round_epochs) == (batches, round_epochs)
    assert bench.round_images == 16 * batches * round_epochs


def test_sam_is_there_only_where_it_is_named(benchmark_config, tmp_path):
    config = benchmark_config("student/sam=none", "teacher.sam.rho.value=0.7")
    names = ("teacher", "sam_teacher", "student", "sam_student")
    sam = {name: measured_stage(config, name, tmp_path).recipe["sam"] for name in names}
    assert [node["enabled"] for node in sam.values()] == [False, True, False, True]
    assert sam["sam_teacher"]["rho"]["value"] == 0.7
    assert sam["sam_student"]["rho"]["_target_"] == "deitlt.optim.ConstantRho"


def test_what_is_measured_is_not_yet_reweighted(open_tiny):
    bench = open_tiny("student", batches=10, rounds=4)
    assert bench.trainer.max_epochs == bench.stage.recipe["drw"]["start_epoch"] == 15


def test_several_devices_are_refused(benchmark_config, tmp_path):
    config = benchmark_config("trainer.devices=2", "trainer.accelerator=cpu")
    with pytest.raises(ConfigError, match=r"measures one device; type trainer\.devices=1"):
        open_bench(config, "teacher", tmp_path, Workload(1, 1))


def test_missing_files_are_told_of_with_the_way_around(benchmark_config, tmp_path):
    words = ("data=cifar10", f"data.root={tmp_path / 'nowhere'}", "data.download=false")
    with pytest.raises(DataError, match=r"CIFAR10 is not in .*; or type generated=50000 to measure"):
        open_bench(benchmark_config(*words), "teacher", tmp_path, Workload(1, 1))


def _generated(name, images, folder, **options):
    data = LongTailDataModule.from_keys(name, root=folder / "nowhere", download=False, **options)
    generate(data, images, folder / "images")
    return data


def test_arrays_stand_for_a_data_set_with_its_long_tail(tmp_path):
    data = _generated("cifar10", 50_000, tmp_path, imbalance_factor=0.01)
    assert data.info.counts == (5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50)
    assert len(data.splits.test) == 10_000
    images = [np.asarray(data.splits.train[i]) for i in (3, 4)]
    assert images[0].shape == (32, 32, 3)
    assert not np.array_equal(*images)


def test_files_stand_for_a_data_set_of_photographs(tmp_path):
    data = _generated("imagenet_lt", 20_000, tmp_path)
    counts = np.array(data.info.counts)
    assert (counts.sum(), len(counts), counts.min()) == (20_000, 1000, 1)
    assert counts.max() > 50
    image = data.splits.train[0]
    assert (image.size, image.mode) == ((500, 375), "RGB")
    assert 20_000 < next((tmp_path / "images").iterdir()).stat().st_size < 200_000


@pytest.mark.parametrize(
    ("name", "images", "sentence"),
    [
        ("folder", 100, "generated=100 cannot stand for data.name=folder, .* type generated=null"),
        ("cifar100", 99, "generated=99 leaves some of the 100 classes of cifar100 .* type generated=1000"),
    ],
)
def test_what_cannot_be_generated_is_refused(name, images, sentence, tmp_path):
    with pytest.raises(ConfigError, match=sentence):
        _generated(name, images, tmp_path)
