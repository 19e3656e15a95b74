import json
import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from deitlt.benchmarks.generated_list import class_sizes, write_list
from deitlt.benchmarks.index import index_rows, measure_index
from deitlt.benchmarks.index_memory import in_own_process, memory_of, memory_of_epoch
from deitlt.benchmarks.memory import fresh_peak, peak_bytes
from deitlt.cli import main
from deitlt.data.large import open_list

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory processes share")


def test_the_index_is_measured_and_the_result_written(tmp_path, capfd):
    assert main(["benchmark", "part=index", "rows=3000", "workers=2", "repeats=1", "output=found.json"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["part"], found["rows"], found["classes"], found["workers"]) == ("index", 3000, 3000, 2)
    assert 0 < found["open_seconds"] < 60
    assert 3000 * (60 + 8 + 4) < found["index_bytes"] < 3000 * (80 + 8 + 4)
    printed = capfd.readouterr()
    assert "open the index" in printed.out
    assert "found.json" in printed.out
    assert "Traceback" not in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json"]


@linux
@pytest.mark.slow
def test_workers_share_the_index():
    found = measure_index(rows=200_000, workers=3, repeats=1)
    mib = found["index_bytes"] / 2**20
    # Beside the index each row has labels, 16 bytes, its place in the order and a count.
    assert mib < found["workers_own_mib"] < mib + 200_000 * 28 / 2**20 + 25
    assert found["list_of_strings_own_mib"] > 2 * found["workers_own_mib"]


@pytest.mark.parametrize(("strings", "measured"), [(False, False), (True, True), (None, True)])
def test_a_list_of_strings_is_measured_where_it_is_wanted(strings, measured, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "deitlt.benchmarks.index._memory", lambda file, test, workers, as_strings: asked.append(as_strings)
    )
    measure_index(rows=50, workers=1, repeats=1, strings=strings)
    assert asked == [False, False, *([True] if measured else [])]


def test_the_list_is_as_long_and_long_tailed_as_was_asked_for(tmp_path):
    write_list(tmp_path / "list.txt", 20_000)
    index = open_list(tmp_path / "list.txt")
    sizes = [int((index.table.labels == label).sum()) for label in (0, 8141)]
    assert len(index) == len({index.path(row) for row in range(20_000)}) == 20_000
    assert len(set(index.table.labels.tolist())) == 8142
    assert sizes[0] > 3 * sizes[1] > 0
    assert all(index.path(row).startswith("train_val2018/Actinopterygii/0/") for row in range(sizes[0]))


@pytest.mark.parametrize("rows", [2, 8142, 8143, 1_000_000])
def test_classes_sum_to_the_rows_and_none_is_empty(rows):
    sizes = class_sizes(rows)
    assert sizes.sum() == rows
    assert sizes.min() >= 1


@linux
def test_pages_that_processes_share_count_once():
    alone = memory_of(["self"])
    assert 0 < alone.own < alone.whole
    child = in_own_process(_memory_with_child)
    assert child < 1.5 * alone.whole


def _memory_with_child():
    """Bytes of a forked process and of its own fork together."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as fork:
        return fork.submit(_of_both, os.getpid()).result()


def _of_both(parent):
    return memory_of(["self", parent]).whole


@linux
def test_an_epoch_of_a_small_list_is_read_by_each_worker(tmp_path):
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    write_list(train, 40)
    test.write_text("test/0.jpg 0\n")
    for as_strings in (False, True):
        assert memory_of_epoch(train, test, 2, as_strings).own > 0


def test_the_peak_of_a_process_grows_with_what_it_takes():
    before, after = in_own_process(_taking, 2**26)
    assert after - before > 2**25


def _taking(size):
    before = fresh_peak()
    whole = bytearray(size)
    whole[::4096] = b"x" * len(whole[::4096])
    return before, peak_bytes()


def test_what_the_system_does_not_tell_is_said():
    seconds = {"write_seconds": 0.1, "parse_seconds": 1.0, "parse_peak_mib": 3.0, "open_seconds": 0.1}
    found = {"rows": 10, "workers": 2, "index_bytes": 2**21, **seconds}
    told = {"workers_pss_mib": None, "workers_own_mib": None, "list_of_strings_pss_mib": 12.3}
    rows = index_rows(found | told | {"list_of_strings_own_mib": 11.2})
    assert dict(rows)["size of the index"] == "2 MiB"
    assert [value for key, value in rows[-4:]] == ["not measured", "not measured", "12 MiB", "11 MiB"]
