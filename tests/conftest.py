import warnings

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from deitlt.losses import CrossEntropyLoss, DistillationLoss
from deitlt.models import create_student, create_teacher
from deitlt.modules import StudentModule, TeacherModule
from deitlt.types import DataInfo, StudentBatch

warnings.filterwarnings("ignore", module=r"lightning\..*")
torch.set_num_threads(1)  # networks this small lose more time to a second thread than it saves

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

    def make(kind="none", distilled=True, optimizer=_sgd, schedule=_constant_rate, drop_path=0.0):
        torch.manual_seed(0)
        sizes = {"image_size": 8, "patch_size": 4, "width": 16, "depth": 2, "heads": 2}
        network = create_student(4, "deit_tiny_patch16_224", distilled=distilled, drop_path=drop_path, **sizes)
        return StudentModule(network, DistillationLoss(kind), info, optimizer, schedule)

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
        complete = [StudentBatch(x, y, None) for x, y in zip(images, targets, strict=True)]
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
