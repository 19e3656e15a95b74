import pytest
from hydra import compose, initialize_config_dir

from deitlt.benchmarks.bench import Workload, open_bench
from deitlt.config.compose import config_dir


@pytest.fixture(scope="session")
def benchmark_config(tiny):
    """Makes the benchmark's configuration of a tiny run, or of another recipe, with further overrides."""

    def make(*words, recipe=tiny):
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            return compose("benchmark", overrides=[*recipe, "part=training", *words])

    return make


@pytest.fixture
def open_tiny(benchmark_config, tmp_path):
    """Opens a bench of a tiny stage, each time in a folder of its own."""
    opened = []

    def make(name, *words, batches=3, rounds=1, **recipe):
        opened.append(name)
        workload = Workload(batches, rounds)
        return open_bench(benchmark_config(*words, **recipe), name, tmp_path / str(len(opened)), workload)

    return make
