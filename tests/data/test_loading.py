import contextlib
import multiprocessing
import pickle
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from deitlt.data import loading
from deitlt.data.images import ArrayImages, FileImages, Relabelled, Subset
from deitlt.data.loading import (
    EvaluationImages,
    StreamedImages,
    TrainingImages,
    isolated_rng,
    load_cache,
    make_delivery,
    make_loader,
    should_cache,
)
from deitlt.data.samplers import EvaluationSampler, FullRepeatedAugmentationSampler, KeyedSampler, SampleKey
from deitlt.errors import ConfigError
from deitlt.types import IGNORED

CPU = torch.device("cpu")
EIGHT = ArrayImages(np.zeros((8, 2, 2, 3), np.uint8), np.arange(8) % 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
ARRAYS = Subset(ArrayImages(PIXELS, [0, 1, 2, 0, 1, 2]), [5, 3, 1, 0])
KEYS = [SampleKey(2, 0, 0), SampleKey(2, 3, 0), SampleKey(2, 3, 1)]  # of images 5, 0 and 0


def draw_all(image):
    """A transform that is one number from each of the three global generators."""
    return torch.tensor([random.random(), np.random.random(), torch.rand(()).item()], dtype=torch.float64)


def levels(*rows):
    return torch.from_numpy(PIXELS[list(rows)]).permute(0, 3, 1, 2)


def delivered(dataset, transform, cache=False, keys=KEYS, **options):
    """The delivery, what its transform made of a batch, and the batch's labels."""
    delivery = make_delivery(dataset, transform, cache, CPU, **{"seed": 0, "rank": 0, **options})
    travelled, targets = delivery.collate([delivery.samples[key] for key in keys])
    return delivery, delivery.finish(travelled, CPU, np.random.default_rng(7)), targets


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, size in enumerate([(40, 30), (30, 40), (64, 64)]):
        paths.append(tmp_path / f"{number}.jpg")
        Image.new("RGB", size, (60 * number, 80, 120)).save(paths[-1])
    return FileImages(paths, [0, 1, 2])


# Random numbers of a sample's own


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_samples_are_the_same_with_and_without_workers(context):
    def batches(num_workers, context=None):
        sampler = KeyedSampler(FullRepeatedAugmentationSampler(EIGHT, 1, 0, num_repeats=2))
        sampler.set_epoch(4)
        data = TrainingImages(EIGHT, draw_all, seed=1, rank=0)
        options = {"num_workers": num_workers, "multiprocessing_context": context}
        images, targets = zip(*DataLoader(data, batch_size=3, sampler=sampler, **options), strict=True)
        return torch.cat(images), torch.cat(targets)

    (alone, targets), (shared, same_targets) = batches(0), batches(2, context)
    assert torch.equal(alone, shared)
    assert torch.equal(targets, same_targets)
    assert len(alone.unique(dim=0)) == 16


def test_samples_do_not_depend_on_the_global_generators_nor_move_them():
    data = TrainingImages(EIGHT, draw_all, seed=0, rank=0)

    def seed_all():
        random.seed(5), np.random.seed(5), torch.manual_seed(5)

    seed_all()
    undisturbed = torch.stack([draw_all(None), draw_all(None)])
    seed_all()
    before, (sample, _), after = draw_all(None), data[SampleKey(0, 3, 0)], draw_all(None)
    assert torch.equal(torch.stack([before, after]), undisturbed)
    torch.manual_seed(99)
    assert torch.equal(data[SampleKey(0, 3, 0)][0], sample)
    seed_all()
    with contextlib.suppress(RuntimeError), isolated_rng(1):
        draw_all(None)
        raise RuntimeError
    assert torch.equal(draw_all(None), undisturbed[0])


def test_each_part_of_the_key_gives_other_numbers_in_each_generator():
    keys = [(0, 0, 0, 0, 0), (1, 0, 0, 0, 0), (0, 1, 0, 0, 0), (0, 0, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 1)]
    samples = [TrainingImages(EIGHT, draw_all, seed, rank)[SampleKey(*key)][0] for seed, rank, *key in keys]
    assert [len(numbers.unique()) for numbers in torch.stack(samples).T] == [6, 6, 6]


def test_evaluation_marks_what_only_fills_up():
    data = EvaluationImages(EIGHT, lambda image: torch.zeros(3))
    assert data[3, True][1] == 0
    assert data[3, False][1] == IGNORED
    loader = DataLoader(data, batch_size=2, sampler=EvaluationSampler(EIGHT, 3, 2))
    assert torch.cat([targets for _, targets in loader]).tolist() == [2, 2, IGNORED]


# The two ways of delivery


def test_several_crops_of_an_image_come_as_several_batches():
    delivery, images, targets = delivered(ARRAYS, lambda image: (torch.zeros(3, 4, 4), torch.ones(3, 2, 2)), cache=True)
    assert delivery.uses_workers
    assert targets.tolist() == [2, 0, 0]
    assert [crop.shape for crop in images] == [(3, 3, 4, 4), (3, 3, 2, 2)]


def test_cached_and_streamed_images_give_the_same_batch(see_through):
    for cache in (True, False):
        transform = see_through()
        delivery, images, targets = delivered(ARRAYS, transform, cache=cache)
        given, cropped = transform.given[0]
        assert delivery.uses_workers is not cache
        assert given.dtype == torch.uint8
        assert torch.equal(given, levels(5, 0, 0))
        assert not cropped
        assert targets.tolist() == [2, 0, 0]
        assert images.shape == (3, 3, 4, 4)
    relabelled = Relabelled(ARRAYS, np.array([2, 0, 1]))
    assert delivered(relabelled, see_through(), cache=True)[2].tolist() == [1, 2, 2]


def test_files_of_differing_sizes_are_cropped_by_workers(files, see_through):
    transform = see_through()
    delivered(files, transform, "auto", [SampleKey(0, i, 0) for i in range(3)])
    given, cropped = transform.given[0]
    assert given.shape == (3, 3, 4, 4)
    assert cropped
    assert (given.float().mean((2, 3)) - torch.tensor([[0, 80, 120], [60, 80, 120], [120, 80, 120]])).abs().max() < 4


def test_a_crop_depends_on_seed_rank_and_key_alone(files, see_through):
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(files.path(2))
    noisy = FileImages([files.path(2)] * 3, [0, 1, 2])

    def crops(*key, **options):
        transform = see_through()
        delivered(noisy, transform, keys=[SampleKey(*(key or (0, 2, 0)))], **options)
        return transform.given[0][0]

    assert torch.equal(crops(), crops())
    for other in (crops(seed=1), crops(rank=1), crops(1, 2, 0), crops(0, 2, 1), crops(0, 1, 0)):
        assert not torch.equal(crops(), other)


def test_workers_can_be_given_what_they_need(files, see_through):
    for dataset, cache in ((Subset(files, [1, 0, 2]), False), (ARRAYS, False), (ARRAYS, True)):
        samples = make_delivery(dataset, see_through(), cache, CPU, 0, 0).samples
        copy = pickle.loads(pickle.dumps(samples))
        assert len(copy) == len(samples)
        assert copy[SampleKey(0, 1, 0)][1] == samples[SampleKey(0, 1, 0)][1]


# Images kept on the device


def test_all_images_are_cached_in_their_order():
    pixels = np.random.default_rng(0).integers(0, 256, (2500, 3, 4, 3), dtype=np.uint8)
    dataset = Subset(ArrayImages(pixels, np.arange(2500) % 3), np.arange(2400))
    assert should_cache(dataset, "auto", CPU)
    assert should_cache(dataset, True, CPU)
    assert not should_cache(dataset, False, CPU)
    assert torch.equal(load_cache(dataset, CPU), torch.from_numpy(pixels[:2400]).permute(0, 3, 1, 2))


def pngs(folder, *sizes):
    paths = [folder / f"{number}.png" for number in range(len(sizes))]
    for number, (path, size) in enumerate(zip(paths, sizes, strict=True)):
        Image.new("RGB", size, (number, 0, 0)).save(path)
    return FileImages(paths, [0] * len(paths))


def test_files_of_one_size_are_cached_where_that_is_asked_for(tmp_path):
    dataset = pngs(tmp_path, (5, 4), (5, 4), (5, 4))
    assert should_cache(dataset, True, CPU)
    assert not should_cache(dataset, "auto", CPU)
    found = load_cache(dataset, CPU)
    assert found.shape == (3, 3, 4, 5)
    assert found[:, 0].flatten(1).unique(dim=1).flatten().tolist() == [0, 1, 2]


def test_files_of_differing_sizes_cannot_be_cached(tmp_path):
    dataset = pngs(tmp_path, (5, 4), (5, 4), (4, 5))
    for ask in (lambda: should_cache(dataset, True, CPU), lambda: load_cache(dataset, CPU)):
        with pytest.raises(ConfigError, match=r"these differ; type data\.cache_on_device=false"):
            ask()


def test_on_a_gpu_a_quarter_of_the_memory_is_taken_unless_more_is_asked_for(monkeypatch, tmp_path):
    dataset, gpu = pngs(tmp_path, (5, 4), (5, 4), (5, 4)), torch.device("cuda", 0)

    def memory(size):
        made = type("Properties", (), {"total_memory": size})
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: made)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (size, size))

    needed = 3 * 60
    memory(4 * needed)
    assert should_cache(dataset, "auto", gpu)
    memory(4 * needed - 1)
    assert not should_cache(dataset, "auto", gpu)
    assert should_cache(dataset, True, gpu)


@pytest.mark.parametrize(("device", "whose"), [(torch.device("cuda", 0), "the GPU"), (CPU, "this machine")])
def test_images_too_large_for_free_memory_are_streamed_which_is_said_once(
    monkeypatch, caplog, see_through, device, whose
):
    needed = 4 * 3 * 8 * 10
    monkeypatch.setattr(loading, "free_memory", lambda asked: needed * 5 // 4 if asked == device else 0)
    assert should_cache(ARRAYS, True, device)
    monkeypatch.setattr(loading, "free_memory", lambda asked: needed * 5 // 4 - 1 if asked == device else 0)
    for _ in range(2):
        assert isinstance(make_delivery(ARRAYS, see_through(), True, device, 0, 0), StreamedImages)
    said = f"the images need 8.9e-07 GiB, too much for what {whose} has free: they are streamed, as with"
    assert [said in record.getMessage() for record in caplog.records] == [True]


def test_what_torch_holds_of_a_gpu_and_does_not_use_is_free(monkeypatch):
    for name, found in {"mem_get_info": (5, 100), "memory_reserved": 40, "memory_allocated": 10}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, found=found: found)
    assert loading.free_memory(torch.device("cuda")) == 5 + 40 - 10


def test_this_machine_has_free_memory_where_it_is_known():
    assert sys.platform != "linux" or 2**20 < loading.free_memory(CPU) < 2**50


def test_a_program_ends_though_a_loader_of_its_is_still_being_read():
    lines = (
        "import torch",
        "from deitlt.data.loading import make_loader",
        "reading = iter(make_loader(torch.arange(8), range(8), 2, workers=1))",
        "print(next(reading).tolist())",
    )
    ended = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, timeout=60)
    assert (ended.stdout, ended.returncode) == ("[0, 1]\n", 0)


def test_a_worker_ends_by_its_own_process_alone():
    reading = iter(make_loader(torch.arange(8), range(8), 2, workers=1))
    next(reading)
    (worker,) = multiprocessing.active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    worker.join(1)
    assert worker.is_alive()
    worker.terminate()
    worker.join(10)
    assert not worker.is_alive()
