"""The wheel holds what a run needs and nothing else, and works without the checkout."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
WORDS = (
    *("experiment=digits", "method=vit", "data.num_workers=0", "data.max_count=20", "data.imbalance_factor=0.1"),
    *("student.epochs=1", "student.schedule.warmup_epochs=0", "student.model.width=16", "student.model.depth=1"),
    *("student.model.heads=2", "paths.output_dir=run"),
)


def run(*command, **options):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    isolated = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder]
    impatient = os.environ | {"PIP_RETRIES": "0", "PIP_DEFAULT_TIMEOUT": "20"}
    done = run(*pip, *isolated, ROOT, env=impatient)
    if done.returncode:
        pytest.skip(f"hatchling is not installed and cannot be fetched: {done.stderr.strip().splitlines()[-1]}")
    (path,) = folder.glob("deitlt-*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment with the wheel alone; torch and the others are borrowed, the checkout is not."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    done = run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    # A path in a .pth file is searched, but the .pth files in it, an editable checkout's too, are not read.
    (site / "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


def test_the_wheel_holds_every_configuration_and_module(names):
    configs = {f"deitlt/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src" / "deitlt").rglob("*.py")}
    assert configs | modules <= set(names)
    assert len(configs) > 20


def test_the_wheel_holds_no_tests_notebooks_or_runs(names):
    kinds = {Path(name).suffix for name in names if ".dist-info/" not in name}
    assert kinds <= {".py", ".css", ".j2", ".json", ".yaml", ".typed", ".txt"}
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {
        "deitlt",
        "hydra_plugins",
    }
    assert not any("test" in Path(name).name for name in names)


def test_the_installed_package_trains_from_any_folder(installed, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    options = {"cwd": tmp_path, "env": environment}
    where = run(installed / "bin" / "python", "-c", "import deitlt; print(deitlt.__file__)", **options)
    assert Path(where.stdout.strip()).is_relative_to(installed)
    done = run(installed / "bin" / "deitlt", "train", *WORDS, **options)
    assert done.returncode == 0, done.stderr
    assert "student" in done.stdout
    assert (tmp_path / "run" / "metrics.json").exists()
    wrong = run(installed / "bin" / "deitlt", "train", "student.epoch=1", **options)
    assert (wrong.returncode, wrong.stderr) == (2, "deitlt: student.epoch is no key; did you mean 'student.epochs'?\n")
