import pytest

from deitlt.benchmarks.bench import ShortEpochs, Workload, configured_name, measured_stage, open_bench
from deitlt.data import RepeatedAugmentationSampler
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
    loader = bench.datamodule.train_dataloader()
    assert sum(bench.datamodule.info.counts) == bench.epoch_images == 78
    assert [len(targets) for _, targets in loader] == [16] * batches
    assert (bench.batches, bench.round_epochs, bench.round_images) == (
        batches,
        round_epochs,
        16 * batches * round_epochs,
    )


def test_an_epoch_shorter_than_a_batch_is_one_batch(open_tiny):
    bench = open_tiny("teacher", "teacher.images_per_update=128", "teacher.batch_size=128")
    assert (bench.batches, bench.batch_images, bench.round_epochs) == (1, 78, 3)


def test_images_that_an_epoch_leaves_out_do_not_count(open_tiny):
    assert open_tiny("student", "student.drop_last=true").epoch_images == 64


def test_sam_is_there_only_where_it_is_named(benchmark_config, tmp_path):
    config = benchmark_config("student/sam=none", "teacher.sam.rho.value=0.7")
    sam = {
        name: measured_stage(config, name, tmp_path).recipe["sam"]
        for name in ("teacher", "sam_teacher", "student", "sam_student")
    }
    assert [node["enabled"] for node in sam.values()] == [False, True, False, True]
    assert sam["sam_teacher"]["rho"]["value"] == 0.7
    assert sam["sam_student"]["rho"]["_target_"] == "deitlt.optim.ConstantRho"
    assert [configured_name(config, name) for name in ("teacher", "student", "baseline")] == [
        *("sam_teacher", "student", "baseline")
    ]


def test_what_is_measured_is_not_yet_reweighted(open_tiny):
    bench = open_tiny("student", batches=10, rounds=4)
    assert bench.trainer.max_epochs == 15
    assert bench.stage.recipe["drw"]["start_epoch"] == 15


def test_several_devices_are_refused(benchmark_config, tmp_path):
    config = benchmark_config("trainer.devices=2", "trainer.accelerator=cpu")
    with pytest.raises(ConfigError, match=r"measures one device; type trainer\.devices=1"):
        open_bench(config, "teacher", tmp_path, Workload(1, 1))


def test_missing_files_are_told_of_with_the_way_around(benchmark_config, tmp_path):
    words = ("data=cifar10", f"data.root={tmp_path / 'nowhere'}", "data.download=false")
    with pytest.raises(DataError, match=r"CIFAR10 is not in .*; or type generated=50000 to measure"):
        open_bench(benchmark_config(*words), "teacher", tmp_path, Workload(1, 1))
