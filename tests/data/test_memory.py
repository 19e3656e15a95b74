import pytest
import torch

from deitlt.data import memory

CPU = torch.device("cpu")
KIB = 1024


@pytest.fixture
def system(tmp_path, monkeypatch):
    """Makes a system's files; as None they are absent."""

    def make(meminfo, groups=()):
        monkeypatch.setattr(memory, "MEMINFO", tmp_path / "meminfo")
        monkeypatch.setattr(memory, "GROUPS", tmp_path)
        if meminfo is not None:
            (tmp_path / "meminfo").write_text(meminfo)
        for name, content in dict(groups).items():
            file = tmp_path / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(content)

    return make


MEMINFO = "MemTotal:       9000 kB\nMemFree:        1000 kB\nMemAvailable:   5000 kB\n"


def test_memory_that_the_cache_would_give_back_is_free(system):
    system(MEMINFO)
    assert memory.free_memory(CPU) == 5000 * KIB


def test_a_containers_limit_counts_but_not_its_cache(system):
    system(MEMINFO, {"memory.max": f"{3000 * KIB}\n", "memory.current": f"{2500 * KIB}\n"})
    assert memory.free_memory(CPU) == 500 * KIB
    system(MEMINFO, {"memory.stat": f"anon 7\ninactive_file {1000 * KIB}\n"})
    assert memory.free_memory(CPU) == 1500 * KIB


def test_a_limit_of_the_older_kind_counts_too(system):
    limit, usage = "memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"
    system(MEMINFO, {limit: f"{3000 * KIB}\n", usage: f"{2900 * KIB}\n"})
    assert memory.free_memory(CPU) == 100 * KIB


def test_no_limit_is_none(system):
    system(MEMINFO, {"memory.max": "max\n", "memory.current": f"{2500 * KIB}\n"})
    assert memory.free_memory(CPU) == 5000 * KIB


def test_a_system_without_such_files_tells_its_unused_pages(system):
    system(None)
    assert memory.free_memory(CPU) > 2**20
