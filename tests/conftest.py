import os
import shutil
import warnings

import lightning as L
import numpy as np
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from torch.utils.data import DataLoader

from deitlt.cli import main
from deitlt.config.compose import compose_with
from deitlt.engine import run as run_module
from deitlt.engine.run import Run
from deitlt.losses import CrossEntropyLoss, DistillationLoss
from deitlt.models import create_student, create_teacher
from deitlt.modules import StudentModule, TeacherModule
from deitlt.types import Batch, DataInfo

warnings.filterwarnings("ignore", module=r"lightning\..*")
torch.set_num_threads(1)  # networks this small lose more time to a second thread than it saves


@pytest.fixture(scope="session", autouse=True)
def recipes_composed_once():
    """Most runs are compared with one of a few recipes, and to compose one takes as long as to train it here."""
    known = {}

    def compose_once(name, overrides, keys):
        places = str(GlobalHydra.instance().config_loader().get_search_path())
        words = (name, places, *(word for word in overrides if word.lstrip("+~").partition("=")[0] in keys))
        if words not in known:
            known[words] = compose_with(name, overrides, keys)
        return known[words].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "compose_with", compose_once)
        yield


GROUPS = {"head": (0,), "mid": (1, 2), "tail": (3,)}


@pytest.fixture
def info():
    """Four classes, the last of them rare."""
    return DataInfo(4, (40, 20, 8, 2), ("ant", "bee", "cat", "dog"), GROUPS)


def _sgd(network):
    return torch.optim.SGD(network.parameters(), lr=1.0)


def _constant_rate(time):
    return 0.1


@pytest.fixture
def student_module(info):
    """Makes a `StudentModule` of a transformer with two blocks for 8 pixels."""

    def make(kind="none", distilled=True, optimizer=_sgd, schedule=_constant_rate, drop_path=0.0, teacher=None):
        torch.manual_seed(0)
        sizes = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
        network = create_student(4, "deit_tiny_patch16_224", distilled=distilled, drop_path=drop_path, **sizes)
        return StudentModule(network, DistillationLoss(kind), info, optimizer, schedule, teacher)

    return make


@pytest.fixture
def teacher_module(info):
    """Makes a `TeacherModule` of the smallest CIFAR ResNet."""

    def make(optimizer=_sgd, schedule=_constant_rate):
        torch.manual_seed(0)
        return TeacherModule(create_teacher(4, "cifar_resnet8"), CrossEntropyLoss(), info, optimizer, schedule)

    return make


@pytest.fixture
def student_batches():
    """Makes a loader of complete training batches of 4 images of 8 pixels."""

    def make(batches=6, seed=0):
        stream = torch.Generator().manual_seed(seed)
        images = torch.randn(batches, 4, 3, 8, 8, generator=stream)
        targets = torch.randint(4, (batches, 4), generator=stream)
        complete = [Batch(x, y) for x, y in zip(images, targets, strict=True)]
        return DataLoader(complete, batch_size=None)

    return make


@pytest.fixture
def make_trainer(tmp_path):
    """A quiet Trainer on one CPU, without logger and checkpoints unless asked for."""

    def make(**options):
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
        off = {"logger": False, "enable_checkpointing": False, "limit_val_batches": 0}
        place = {"accelerator": "cpu", "devices": 1, "default_root_dir": tmp_path}
        return L.Trainer(**{**quiet, **off, **place, "max_epochs": 1, **options})

    return make


# A whole run in a few seconds: five updates an epoch, a ResNet-8 of 16 pixels and a transformer of one block.
TINY = (
    *("experiment=digits", "data.num_workers=0", "data.max_count=20", "data.imbalance_factor=0.1"),
    *("teacher.epochs=2", "teacher.drw.start_epoch=1", "teacher.schedule.warmup_epochs=1"),
    *("teacher.schedule.factors=[[1,0.1]]", "teacher.images_per_update=16"),
    *("student.epochs=3", "student.drw.start_epoch=2", "student.schedule.warmup_epochs=1"),
    *("student.images_per_update=16", "student.model.width=16", "student.model.depth=1", "student.model.heads=2"),
    *("report=false", "analysis.every=null"),  # a test that is about them switches them on
)


@pytest.fixture(scope="session")
def tiny():
    """The overrides of a tiny run."""
    return TINY


@pytest.fixture(scope="session")
def tiny_vit():
    """The overrides of a tiny run of a plain ViT alone, for one epoch."""
    dropped = ("teacher.", "student.epochs", "student.drw", "student.schedule")
    kept = (word for word in TINY if not word.startswith(dropped))
    return (*kept, "method=vit", "student.epochs=1", "student.schedule.warmup_epochs=0")


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run of teacher, student and baseline; read it, but write nothing into it.

    A few updates leave networks that answer each image alike, and their accuracies say nothing. So the run is
    interrupted before its tests, its networks get weights at random, and a resume tests them.
    """
    words = ["stages=[teacher,student,baseline]", "report=true", "analysis.every=10"]
    return _scattered_run(tmp_path_factory.mktemp("trained") / "run", words)


@pytest.fixture(scope="session")
def trained_in_bf16(tmp_path_factory):
    """As `trained`, in half precision and with a validation split, where fusions are fitted."""
    words = ["stages=[teacher,student]", "trainer.precision=bf16-mixed", "data.val_fraction=0.3"]
    return _scattered_run(tmp_path_factory.mktemp("trained_in_bf16") / "run", words)


def _scattered_run(run, words):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        with patch.context() as inner:
            inner.setattr(Run, "_conclude", lambda *_: None)  # no table, pictures and page of what is thrown away
            assert main(["train", *TINY, *words, f"paths.output_dir={run}"]) == 0
        for checkpoint in run.glob("*/last.ckpt"):
            _scatter(checkpoint)
            for name in ("result.json", "stage.yaml"):  # which says what the teacher's weights were
                (checkpoint.parent / name).unlink()
        assert main(["train", f"resume={run}"]) == 0
    return run


def _scatter(checkpoint):
    """Draw the matrices of a checkpoint's networks anew, so that answers differ from image to image."""
    content = torch.load(checkpoint, weights_only=True)
    stream = torch.Generator().manual_seed(0)
    for weights in (content["state_dict"], content.get("ema", {})):
        for name, value in weights.items():
            if name.endswith("weight") and value.ndim > 1:
                value.normal_(generator=stream)
    torch.save(content, checkpoint)


@pytest.fixture(scope="session")
def teacher(trained):
    """The override that takes the trained run's teacher."""
    return f"teacher.checkpoint={trained}"


@pytest.fixture(scope="session")
def held_out_teacher(tmp_path_factory):
    """The override that takes a teacher that three tenths of the images were held out from."""
    run = tmp_path_factory.mktemp("held_out") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(run.parent)
        words = ["stages=[teacher]", "data.val_fraction=0.3", f"paths.output_dir={run}"]
        assert main(["train", *TINY, *words]) == 0
    return f"teacher.checkpoint={run}"


@pytest.fixture
def begun(trained, tmp_path):
    """A copy of the trained run that looks as if its student had been interrupted after its last epoch."""
    run = tmp_path / "begun"
    shutil.copytree(trained, run)
    for name in ("metrics.json", "student/result.json", "baseline/result.json", "baseline/last.ckpt"):
        (run / name).unlink()
    return run


@pytest.fixture
def complain(capfd, tmp_path):
    """Runs a command that cannot work; answers with its one sentence. Nothing may have been written."""

    def run(*words, output="run"):
        before = _tree(tmp_path)
        capfd.readouterr()
        code = main([*words, *([f"paths.output_dir={output}"] if output else [])])
        lines = capfd.readouterr().err.splitlines()
        assert code == 2
        assert len(lines) == 1, lines
        assert lines[0].startswith("deitlt: ")
        assert _tree(tmp_path) == before
        return lines[0]

    return run


def _tree(folder):
    """Every file and folder, with what the files hold."""
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture
def image_folder(tmp_path):
    """train/ with 12, 8 and 4 images of three colours, test/ with two of each."""
    root = tmp_path / "images"
    for split, counts in (("train", (12, 8, 4)), ("test", (2, 2, 2))):
        for c, (name, count) in enumerate(zip(("ant", "bee", "cat"), counts, strict=True)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                noise = np.random.default_rng([c, i]).integers(0, 80, (16, 16, 3), dtype=np.uint8)
                noise[..., c] += 120
                Image.fromarray(noise).save(folder / f"{i}.png")
    return root


@pytest.fixture
def environment(tmp_path):
    """The environment of a subprocess: one thread, as here, so that sums have the same order."""
    return os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "WANDB_MODE": "offline"}
