import pickle

import numpy as np
import pytest
import torch
from lightning_utilities.core.apply_func import apply_to_collection
from PIL import Image
from tests.data.batch_views import SeeThrough

from deitlt.data.delivery import make_feed
from deitlt.data.feeds import BatchView, EncodedCrops, ResidentImages, StreamedCrops, StreamedImages, WorkerViews
from deitlt.data.images import ArrayImages, FileImages, Relabelled, Subset
from deitlt.data.samplers import SampleKey
from deitlt.errors import ConfigError

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 10, 3), dtype=np.uint8)
SOURCE = Subset(ArrayImages(PIXELS, [0, 1, 2, 0, 1, 2]), [5, 3, 1, 0])
DRAW = SampleKey(0, 2, 0)
DRAWS = [SampleKey(2, 0, 0), SampleKey(2, 3, 0), SampleKey(2, 3, 1)]


def pixels(*rows):
    return torch.from_numpy(PIXELS[list(rows)]).permute(0, 3, 1, 2)


def feed_of(source, view, resident=False, decoder="worker", seed=0, rank=0):
    return make_feed(source, view, resident, decoder, CPU, seed, rank)


def batch_of(feed, draws=DRAWS, key=7):
    travelled, targets = feed.collate([feed.images[draw] for draw in draws])
    return feed.finish(travelled, CPU, np.random.default_rng(key)), targets


@pytest.fixture
def files(tmp_path):
    sizes = [(40, 30), (30, 40), (64, 64)]
    paths = []
    for number, size in enumerate(sizes):
        paths.append(tmp_path / f"{number}.jpg")
        Image.new("RGB", size, (60 * number, 80, 120)).save(paths[-1])
    return FileImages(paths, [0, 1, 2])


def test_a_per_image_view_is_made_by_workers():
    feed = feed_of(SOURCE, lambda image: torch.tensor(np.array(image)).permute(2, 0, 1), resident=True)
    views, targets = batch_of(feed)
    assert isinstance(feed, WorkerViews)
    assert feed.by_workers
    assert torch.equal(views, pixels(5, 0, 0))
    assert targets.tolist() == [2, 0, 0]


def test_resident_images_are_gathered_where_they_live():
    view = SeeThrough()
    feed = feed_of(SOURCE, view, resident=True)
    views, targets = batch_of(feed)
    assert isinstance(feed, ResidentImages)
    assert not feed.by_workers
    images, cropped = view.given[0]
    assert images.dtype == torch.uint8
    assert torch.equal(images, pixels(5, 0, 0))
    assert not cropped
    assert targets.tolist() == [2, 0, 0]
    assert views.shape == (3, 3, 4, 4)


def test_resident_and_streamed_images_give_the_same_batch():
    resident, streamed = (feed_of(SOURCE, SeeThrough(), resident=where) for where in (True, False))
    assert isinstance(streamed, StreamedImages)
    assert streamed.by_workers
    for first, second in zip(batch_of(resident), batch_of(streamed), strict=True):
        assert torch.equal(first, second)


def test_relabelled_images_keep_their_new_labels():
    source = Relabelled(SOURCE, np.array([2, 0, 1]))
    assert batch_of(feed_of(source, SeeThrough(), resident=True))[1].tolist() == [1, 2, 2]


def test_files_of_differing_sizes_are_cropped_by_workers(files):
    view = SeeThrough()
    feed = feed_of(files, view, resident="auto")
    batch_of(feed, [SampleKey(0, i, 0) for i in range(3)])
    assert isinstance(feed, StreamedCrops)
    images, cropped = view.given[0]
    assert images.shape == (3, 3, 4, 4)
    assert cropped
    assert (images.float().mean((2, 3)) - torch.tensor([[0, 80, 120], [60, 80, 120], [120, 80, 120]])).abs().max() < 4


@pytest.mark.parametrize("kind", ["streamed", "encoded"])
def test_a_crop_depends_on_seed_rank_and_draw_alone(files, kind):
    def crops(draw=DRAW, **options):
        noisy = FileImages([files.path(2)] * 3, [0, 1, 2])
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(files.path(2))
        view = SeeThrough()
        batch_of(feed_of(noisy, view, decoder="worker" if kind == "streamed" else "device", **options), [draw])
        return view.given[0][0]

    assert torch.equal(crops(), crops())
    for other in (
        crops(seed=1),
        crops(rank=1),
        crops(SampleKey(1, 2, 0)),
        crops(SampleKey(0, 2, 1)),
        crops(SampleKey(0, 1, 0)),
    ):
        assert not torch.equal(crops(), other)


def test_encoded_files_are_decoded_and_cropped_on_the_device(files):
    views = []
    for decoder in ("worker", "device"):
        views.append(SeeThrough(16))
        batch_of(feed_of(files, views[-1], decoder=decoder), [SampleKey(0, i, 0) for i in range(3)])
    assert isinstance(feed_of(files, views[0], decoder="device"), EncodedCrops)
    assert torch.equal(views[0].given[0][0], views[1].given[0][0])
    assert views[1].given[0][1]


def test_what_cannot_be_decoded_on_the_device_is_refused(files):
    with pytest.raises(ConfigError, match=r"these images have none; type data\.decoder=worker"):
        feed_of(SOURCE, SeeThrough(), decoder="device")
    with pytest.raises(ConfigError, match=r"or student\.views\.train\.crop=resized"):
        feed_of(files, SeeThrough(crop="padded"), decoder="device")


def test_workers_can_be_given_what_travels(files):
    some = Subset(files, [1, 0, 2])  # as every long-tailed split is
    for feed in (
        feed_of(some, SeeThrough()),
        feed_of(some, SeeThrough(), decoder="device"),
        feed_of(SOURCE, SeeThrough()),
        feed_of(SOURCE, SeeThrough(), resident=True),
    ):
        copy = pickle.loads(pickle.dumps(feed.images))
        assert len(copy) == len(feed.images)
        assert copy[SampleKey(0, 1, 0)][1] == feed.images[SampleKey(0, 1, 0)][1]


def test_a_view_of_batches_is_known_by_what_it_can_do():
    assert isinstance(SeeThrough(), BatchView)
    assert not isinstance(lambda image: image, BatchView)


def test_lightning_moves_a_batch_of_files_as_it_is(files):
    feed = feed_of(files, SeeThrough(), decoder="device")
    travelled, targets = feed.collate([feed.images[SampleKey(0, i, 0)] for i in range(3)])
    seen = []
    moved = apply_to_collection((travelled, targets), object, lambda item: seen.append(item) or item)
    assert moved[0] is travelled
    assert len(seen) <= 3  # the pair, or its two parts, and not the files' bytes
