import json
import sys

import pytest

from deitlt.cli import main
from deitlt.data.large import open_list
from deitlt.tasks.benchmarks.index import index_rows, measure_index, write_list


def test_the_index_is_measured_and_the_result_written(tmp_path, capfd):
    assert main(["benchmark", "part=index", "rows=3000", "workers=2", "repeats=2", "output=found.json"]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["part"], found["rows"], found["classes"], found["workers"]) == ("index", 3000, 3000, 2)
    assert 0 < found["open_seconds"] < 60
    assert 3000 * (60 + 8 + 4) < found["index_bytes"] < 3000 * (80 + 8 + 4)
    assert set(found["machine"]) == {"cpu_cores", "gpus", "system", "python", "torch", "numpy"}
    printed = capfd.readouterr()
    assert "open the index" in printed.out
    assert "found.json" in printed.out
    assert "Traceback" not in printed.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["found.json"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much memory processes share")
def test_workers_share_the_index():
    found = measure_index(rows=200_000, workers=3, repeats=1)
    assert found["workers_mib"] < found["index_bytes"] / 2**20 + 20
    assert found["workers_mib_list_of_strings"] > 3 * found["workers_mib"]


def test_the_list_is_as_long_and_long_tailed_as_was_asked_for(tmp_path):
    write_list(tmp_path / "list.txt", 20_000)
    table = open_list(tmp_path / "list.txt").table
    sizes = [int((table.labels == label).sum()) for label in (0, 8141)]
    assert len(table.labels) == 20_000
    assert len(set(table.labels.tolist())) == 8142
    assert sizes[0] > 3 * sizes[1] > 0


def test_what_the_system_does_not_tell_is_said():
    found = {"rows": 10, "workers": 2, "parse_seconds": 1.0, "open_seconds": 0.1, "index_bytes": 2**21}
    rows = dict(index_rows(found | {"workers_mib": None, "workers_mib_list_of_strings": 12.3}))
    assert rows["size of the index"] == "2 MiB"
    assert [value for key, value in rows.items() if "memory" in key] == ["not told by this system", "12 MiB"]


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("part=indx", "part=indx cannot be measured; did you mean 'index'?"),
        ("output=found.txt", "output=found.txt is no JSON file; type output=found.json."),
        ("rows=1", "rows=1 is too small; type rows=2 or more."),
        ("workers=0", "workers=0 is too small; type workers=1 or more."),
        ("repeats=0", "repeats=0 is too small; type repeats=1 or more."),
        ("row=3", "row"),
    ],
)
def test_bad_input_is_answered_in_a_sentence(complain, word, sentence):
    assert sentence in complain("benchmark", word, output=None)
