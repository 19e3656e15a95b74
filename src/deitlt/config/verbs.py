"""The schema of the verbs that do not train: what they have beside a recipe's choices."""

from dataclasses import dataclass
from typing import Any

from deitlt.config.keys import key
from deitlt.config.schema import (
    ANALYSES,
    LABEL_ORDERS,
    ORDER_MEANING,
    STAGES,
    Data,
    Logger,
    Paths,
    Student,
    Teacher,
    Train,
    Trainer,
)

OF_FILES = "a .ckpt file or the folder of a run or stage; with experiment= also the authors' files, timm's"
OF_STAGES = "of a run's folder"
ACCELERATORS = ("auto", "cpu", "gpu")
NETWORKS = ("teacher", "sam_teacher", "student", "sam_student", "baseline", "sam_baseline")
ROUND = "of a round"


@dataclass
class Recipe:
    """A recipe's choices, for the verbs that only ask which data a network knows and how it sees them."""

    data: Data = key("which images; none: the data that the checkpoint was trained on", optional=True)
    trainer: Trainer = key("on what it runs")
    logger: Logger = key("where numbers go")
    teacher: Teacher = key("the CNN that teaches")
    student: Student = key("the transformer that learns")
    checkpoint: str = key(OF_FILES, path=True)
    label_order: str = key(ORDER_MEANING, choices=LABEL_ORDERS)
    data_root: str | None = key("folder of the checkpoint's data, if they were moved", path=True)
    stage: str = key(OF_STAGES, choices=STAGES)
    ema: bool = key("of a student: the moving average instead of the trained weights")


@dataclass
class Asked(Recipe):
    """What the verbs that run a network on images have."""

    accelerator: str = key("what it runs on; auto: a GPU if there is one", choices=ACCELERATORS)
    batch_size: int = key("at once", "images", at_least=1)
    num_workers: int = key("that read images; 0 reads in this one", "processes", at_least=0)


@dataclass
class Evaluate(Asked):
    """Measure a trained checkpoint on a test set."""

    paths: Paths = key("where files go")


@dataclass
class Predict(Asked):
    """Name the classes of images."""

    images: str = key("a folder of images, searched to the bottom, or one image", path=True)
    output: str = key("the CSV file to write", path=True)
    top: int = key("classes named for each token", at_least=1)
    on_broken: str = key(
        "an image that cannot be decoded: error stops, skip counts it and goes on", choices=("error", "skip")
    )


@dataclass
class Export(Recipe):
    """Write a trained checkpoint as files that other programs read."""

    formats: list[str] = key(
        "safetensors: weights under timm's names; onnx, torch_export: graphs from RGB pixels in [0, 1] to named "
        "logits, for any number of images at once; authors: a student's .pth file, as the authors' evaluation and "
        "timm read it",
        choices=("safetensors", "onnx", "torch_export", "authors"),
    )
    output: str = key("folder to write to; files of the same names (model.onnx, ...) may not lie there", path=True)


@dataclass
class Agreement:
    """Part of an analysis."""

    images: int = key("that the teacher is asked about, for each kind of input", "training images", at_least=1)


@dataclass
class Sharpness:
    """Part of an analysis."""

    images: int = key("whose loss is looked at, as many of each class as there are", "training images", at_least=1)
    products: int = key(
        "Hessian-vector products for an eigenvalue at most; each is a sum over all of these images", at_least=1
    )
    tolerance: float = key("relative change of the eigenvalue between two products at which it is taken", above=0)
    probes: int = key("random vectors for the traces", at_least=1)
    seed: int = key("of directions and images", at_least=0)


@dataclass
class Rollout:
    """Part of an analysis."""

    images: int = key(
        "rows of the picture of attention rollout, of classes from the most to the least frequent", at_least=1
    )


@dataclass
class Analyze(Asked):
    """Measure what a trained network has become: attention, ranks, experts, calibration, agreement, sharpness."""

    stage: str = key(OF_STAGES, choices=("all", *STAGES))
    parts: Any = key("all, every part that the network has, or a list", choices=("all", *ANALYSES))
    split: str = key("whose images, as evaluation sees them", choices=("test", "val", "train"))
    images: int | str = key(
        "how many of them, as many of each class as there are; all: every one", choices=("all",), at_least=1
    )
    agreement: Agreement = key("the teacher's agreement with its students")
    sharpness: Sharpness = key("how sharp the minimum is")
    rollout: Rollout = key("what attention looks at")
    folder: str | None = key(
        "folder for analysis.json, analysis.csv and analysis/*.png; null: beside the checkpoint; of a run's several "
        "stages each gets a folder of its name in it",
        path=True,
    )


@dataclass
class Training:
    """Part of the benchmark."""

    measured: list[str] = key("stages, without SAM and with it", choices=NETWORKS)
    batches: int = key("of a round, in whole epochs; longer epochs are cut to so many", "batches", at_least=1)


@dataclass
class Profile:
    """Part of the benchmark."""

    stage: str = key("whose steps", choices=NETWORKS)
    batches: int = key("that are profiled", "batches", at_least=1)
    warmup: int = key("before them", "batches", at_least=1)
    trace: str = key("the whole trace, for chrome://tracing or Perfetto", path=True)


@dataclass
class Benchmark(Train):
    """Measure training on this machine; the recipe is train's, with its overrides."""

    part: str = key(
        "what is measured: training (input, step, whole, memory) | profile (of a step)", choices=("training", "profile")
    )
    repeats: int = key("rounds in which alternatives take turns, for a median", at_least=1)
    generated: int | None = key(
        "generated images that stand for the data set's training files (CIFAR's are 50000); null: the data set's own",
        at_least=2,
    )
    compare: str | None = key("of part=training: timm's own loader and step beside ours", choices=("timm",))
    output: str = key("the JSON file to write", path=True)
    training: Training = key("part=training: input, step and the whole, in Lightning and in a bare loop")
    profile: Profile = key("part=profile: where the time of a stage's steps goes")


# File in conf/ -> what it may hold.
SCHEMAS: dict[str, type] = {
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "export": Export,
    "analyze": Analyze,
    "benchmark": Benchmark,
}
