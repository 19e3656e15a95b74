import os
import pickle
import stat
from functools import partial

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from deitlt.data.file_checks import find_broken
from deitlt.data.file_index import FileIndex, IndexedImages, open_index, save_index
from deitlt.data.images import Subset, drop
from deitlt.data.index_cache import ENDING, cached_index
from deitlt.data.lists import KIND, parse_list
from deitlt.errors import DataError

LIST = b"cat/1.jpg 0\ndog/2.jpg 1\ncat/3.jpg 0\n"
PATHS = ["cat/1.jpg", "dog/2.jpg", "cat/3.jpg"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "data" / "list.txt"
    path.parent.mkdir()
    path.write_bytes(LIST)
    return path


def refuse(file, content):
    raise AssertionError("the list was parsed again")


def paths_of(index):
    return [index.path(i) for i in range(len(index))]


read = partial(cached_index, parser=parse_list, kind=KIND)
read_again = partial(cached_index, parser=refuse, kind=KIND)


def test_a_list_is_parsed_once_and_mapped_after_that(file):
    first, second = read(file), read_again(file)
    assert paths_of(first) == paths_of(second) == PATHS
    assert second.table.labels.tolist() == [0, 1, 0]
    assert second.table.names == ("cat", "dog")
    assert first.file == second.file == file.with_name(f"list.txt{ENDING}")
    assert sorted(path.name for path in file.parent.iterdir()) == ["list.txt", f"list.txt{ENDING}"]


@pytest.mark.parametrize(("mode", "expected"), [(0o644, 0o644), (0o664, 0o664), (0o600, 0o600), (0o777, 0o666)])
def test_whoever_may_read_the_list_may_map_its_index(file, mode, expected):
    file.chmod(mode)
    assert stat.S_IMODE(read(file).file.stat().st_mode) == expected


def test_a_file_system_without_modes_keeps_an_index_too(file, monkeypatch):
    def refuse(place, mode):
        raise PermissionError(place)

    monkeypatch.setattr("deitlt.data.file_index.Path.chmod", refuse)
    assert read(file).file == file.with_name(f"list.txt{ENDING}")


def test_a_changed_list_is_parsed_again_though_size_and_time_are_the_same(file):
    read(file)
    before = file.stat()
    file.write_bytes(LIST.replace(b"3.jpg 0", b"3.jpg 1"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert read(file).table.labels.tolist() == [0, 1, 1]


def test_what_another_parser_made_is_not_taken(file):
    read(file)
    with pytest.raises(AssertionError, match="parsed again"):
        cached_index(file, refuse, "other 1")


def break_with(**changes):
    """Rewrites a cache with other arrays or words, as whoever made it wrongly would."""

    def broken(cache):
        with safe_open(cache, "np") as content:
            words = content.metadata()
        arrays = load_file(cache)
        for name, value in changes.items():
            if isinstance(value, str):
                words[name] = value
            elif value is None:
                del arrays[name]
            else:
                arrays[name] = value
        save_file(arrays, cache, words)

    return broken


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: cache.write_bytes(b""),
        lambda cache: cache.write_bytes(cache.read_bytes()[:-1]),
        lambda cache: cache.write_bytes(cache.read_bytes()[:-1] + b"X"),
        lambda cache: cache.write_bytes(pickle.dumps({"paths": PATHS})),
        break_with(labels=np.array([0, 1, 7], np.int32)),  # right in form, but not what was written
        break_with(labels=np.array([0, 1], np.int32)),
        break_with(labels=np.array([0, 1, 0], np.int64)),
        break_with(labels=None),
        break_with(more=np.zeros(1, np.uint8)),
        break_with(borders=np.array([0, 9, 99, 27], np.int64)),
        break_with(borders=np.array([[0, 9, 18, 27]], np.int64)),
        break_with(names="cow\npig"),
        break_with(format="deitlt file index 0"),
        break_with(key="list 1 0000"),
    ],
)
def test_a_cache_that_is_broken_or_foreign_is_made_anew(file, damage):
    cache = read(file).file
    damage(cache)
    assert paths_of(read(file)) == PATHS
    assert read_again(file).table.labels.tolist() == [0, 1, 0]


def test_where_the_folder_takes_no_file_the_users_cache_does(file, tmp_path):
    file.with_name(f"list.txt{ENDING}").mkdir()  # as good as a folder that is read-only
    assert read(file).file.parent == tmp_path / "cache" / "deitlt"
    assert paths_of(read_again(file)) == PATHS


def test_where_nothing_can_be_written_the_index_is_in_memory(file, tmp_path):
    file.with_name(f"list.txt{ENDING}").mkdir()
    (tmp_path / "cache").write_text("a file where the folder would be")
    index = read(file)
    assert index.file is None
    assert paths_of(index) == PATHS
    assert paths_of(pickle.loads(pickle.dumps(index))) == PATHS


def test_no_half_of_an_index_is_ever_seen(file, monkeypatch):
    def fail(arrays, place, metadata):
        place.write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr("deitlt.data.file_index.save_file", fail)
    assert read(file).file is None
    assert [path.name for path in file.parent.iterdir()] == ["list.txt"]


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match=r"The list .*none\.txt cannot be read \(No such file.*; type data\.train_list"):
        read(tmp_path / "none.txt")
    with pytest.raises(DataError, match=r"cannot be read \(Is a directory\)"):
        read(tmp_path)


def test_a_worker_that_is_spawned_gets_the_name_of_the_file_and_no_copy(file):
    rows = 20_000
    file.write_text("".join(f"class{i % 50}/{i:030d}.jpg {i % 50}\n" for i in range(rows)))
    images = IndexedImages(read(file), str(file.parent))
    assert len(images.labels) == rows
    content = pickle.dumps(images)
    assert len(content) < 1000 < rows < images.index.nbytes
    again = pickle.loads(content)
    assert again.path(7) == f"{file.parent}/class7/{7:030d}.jpg"
    assert again.labels.tolist() == images.labels.tolist()
    assert again.index.file == images.index.file


def test_a_worker_does_not_take_an_index_that_was_changed_meanwhile(file):
    index = read(file)
    content = pickle.dumps(index)
    file.write_bytes(b"other/1.jpg 0\n")
    read(file)
    with pytest.raises(DataError, match="was changed while it was in use; start the command again"):
        pickle.loads(content)
    assert paths_of(index) == PATHS  # what is mapped stays


def test_a_mapped_index_cannot_be_written_to(file):
    with pytest.raises(ValueError, match="read-only"):
        read(file).table.labels[0] = 3


def test_an_index_of_no_key_is_not_opened(tmp_path, file):
    save_index(tmp_path / "x", parse_list(file, LIST), "a")
    assert open_index(tmp_path / "x", "b") is None
    assert open_index(tmp_path / "y", "a") is None
    assert paths_of(open_index(tmp_path / "x", "a")) == PATHS


def test_images_are_files_below_the_root(file, write_image):
    for path in PATHS:
        write_image(file.parent / path)
    images = IndexedImages(FileIndex(parse_list(file, LIST)), str(file.parent))
    assert len(images) == 3
    assert images.labels.dtype == np.int64
    assert images[1].size == (6, 5)
    assert images.path(1) == str(file.parent / "dog/2.jpg")
    assert IndexedImages(images.index, "/").path(0) == "/cat/1.jpg"


def test_an_absolute_path_stays_what_it_is(tmp_path):
    images = IndexedImages(FileIndex(parse_list(tmp_path, b"/mnt/a.jpg 0\n")), "/data")
    assert images.path(0) == "/mnt/a.jpg"


def test_broken_files_are_found_and_dropped_as_those_of_a_folder_are(file, write_image):
    for path in PATHS[:2]:
        write_image(file.parent / path)
    (file.parent / PATHS[2]).write_bytes(b"no image")
    images = IndexedImages(read(file), str(file.parent))
    broken = [str(file.parent / PATHS[2])]
    assert find_broken(images) == find_broken(Subset(images, [2, 0])) == broken
    assert drop(images, broken).labels.tolist() == [0, 1]
