"""The schema of the verbs that do not train, beside a recipe's choices; and what each verb is typed for."""

from typing import Any

from deitlt.config.keys import Node, key
from deitlt.config.schema import (
    ANALYSES,
    LABEL_ORDERS,
    ORDER_MEANING,
    TRUST_MEANING,
    Data,
    Logger,
    Paths,
    Student,
    Teacher,
    Train,
    Trainer,
)

OF_FILES = (
    "a .ckpt file or the folder of a run or stage, an exported folder, hf://USER/NAME; with experiment= also the "
    "authors' files, timm's"
)
OF_STAGES = "of a run's folder: teacher, student, baseline, or one of your own"
ACCELERATORS = ("auto", "cpu", "gpu")
NETWORKS = ("teacher", "sam_teacher", "student", "sam_student", "baseline", "sam_baseline")


class Recipe(Node):
    """A recipe's choices, for the verbs that only ask which data a network knows and how it sees them."""

    data: Data = key("which images; none: the data that the checkpoint was trained on", optional=True)
    trainer: Trainer = key("on what it runs")
    logger: Logger = key("where numbers go")
    teacher: Teacher = key("the CNN that teaches")
    student: Student = key("the transformer that learns")
    checkpoint: str = key(OF_FILES, path=True)
    label_order: str = key(ORDER_MEANING, choices=LABEL_ORDERS)
    trust: list[str] = key(TRUST_MEANING)
    data_root: str | None = key("folder of the checkpoint's data, if they were moved", path=True)
    stage: str = key(OF_STAGES)
    ema: bool = key("of a student: the moving average instead of the trained weights")


class Asked(Recipe):
    """What the verbs that run a network on images have."""

    accelerator: str = key("what it runs on; auto: a GPU if there is one", choices=ACCELERATORS)
    batch_size: int = key("at once", "images", at_least=1)
    num_workers: int = key("that read images; 0 reads in this one", "processes", at_least=0)


class Evaluate(Asked):
    """Measure a trained checkpoint on a test set."""

    paths: Paths = key("where files go")


class Predict(Asked):
    """Name the classes of images."""

    images: str = key("a folder of images, searched to the bottom, or one image", path=True)
    output: str = key("the CSV file to write", path=True)
    top: int = key("classes named for each token", at_least=1)
    on_broken: str = key(
        "an image that cannot be decoded: error stops, skip counts it and goes on", choices=("error", "skip")
    )


class Export(Recipe):
    """Write a trained checkpoint as files that other programs read."""

    formats: list[str] = key(
        "safetensors: weights under timm's names; onnx, torch_export: graphs from RGB pixels in [0, 1] to named "
        "logits, for any number of images at once; authors: a student's .pth file, as the authors' evaluation and "
        "timm read it; hub: a folder for the Hugging Face Hub, whose model.safetensors and config.json timm and "
        "deitlt.load read, with a model card",
        choices=("safetensors", "onnx", "torch_export", "authors", "hub"),
    )
    output: str = key("folder to write to; files of the same names (model.onnx, ...) may not lie there", path=True)
    license: str | None = key("of formats=[hub]: the weights' licence, such as cc-by-4.0; null: unknown")
    push: str | None = key("of formats=[hub]: USER/NAME, the model on the Hub that the folder is pushed to; null: none")


class Agreement(Node):
    """Part of an analysis."""

    images: int = key("that the teacher is asked about, for each kind of input", "training images", at_least=1)


class Sharpness(Node):
    """Part of an analysis."""

    images: int = key("whose loss is looked at, as many of each class as there are", "training images", at_least=1)
    products: int = key(
        "Hessian-vector products for an eigenvalue at most; each is a sum over all of these images", at_least=1
    )
    tolerance: float = key("relative change of the eigenvalue between two products at which it is taken", above=0)
    probes: int = key("random vectors for the traces", at_least=1)
    seed: int = key("of directions and images", at_least=0)


class Rollout(Node):
    """Part of an analysis."""

    images: int = key(
        "rows of the picture of attention rollout, of classes from the most to the least frequent", at_least=1
    )


class Analyze(Asked):
    """Measure what a trained network has become: attention, ranks, experts, calibration, agreement, sharpness."""

    stage: str = key(f"{OF_STAGES}; or all")
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


class Training(Node):
    """Part of the benchmark."""

    measured: list[str] = key("stages, without SAM and with it", choices=NETWORKS)
    batches: int = key("of a round, in whole epochs; longer epochs are cut to so many", "batches", at_least=1)


class Profile(Node):
    """Part of the benchmark."""

    stage: str = key("whose steps", choices=NETWORKS)
    batches: int = key("that are profiled", "batches", at_least=1)
    warmup: int = key("before them", "batches", at_least=1)
    trace: str = key("the whole trace, for chrome://tracing or Perfetto", path=True)


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
SCHEMAS: dict[str, type[Node]] = {
    "train": Train,
    "evaluate": Evaluate,
    "predict": Predict,
    "export": Export,
    "analyze": Analyze,
    "benchmark": Benchmark,
}
# Verb -> (what to type after `deitlt`, what it does).
EXAMPLES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": (
        ("train experiment=demo", "teacher, student and a plain ViT on 405 digits, in minutes"),
        ("train experiment=cifar10_lt_if100 trainer.devices=2", "the paper's recipe on two devices"),
        ("train experiment=folder_cpu data.root=FOLDER", "your images: FOLDER/train/CLASS/*, FOLDER/test/CLASS/*"),
        ("train resume=RUN", "go on with an interrupted run"),
        ("train -m experiment=digits seed=0,1,2", "a sweep: one run for each value"),
    ),
    "evaluate": (
        ("evaluate checkpoint=RUN", "a run's student on its test set"),
        ("evaluate checkpoint=RUN ema=true", "its moving average"),
        ("evaluate checkpoint=RUN stage=teacher", "its teacher"),
        ("evaluate checkpoint=RUN data_root=FOLDER", "where the data were moved"),
        ("evaluate checkpoint=FILE.pth experiment=imagenet_lt data_root=FOLDER", "a file of the authors'"),
    ),
    "predict": (
        ("predict checkpoint=RUN images=FOLDER", "a CSV with the classes of each image"),
        ("predict checkpoint=RUN images=cat.jpg top=5", "five classes of one image"),
        ("predict checkpoint=RUN images=FOLDER output=answers.csv", "into another file"),
        ("predict checkpoint=RUN images=FOLDER on_broken=skip", "leave out what cannot be decoded"),
        ("predict checkpoint=RUN images=FOLDER stage=teacher", "by the teacher"),
    ),
    "export": (
        ("export checkpoint=RUN", "safetensors, ONNX and torch.export, in export/"),
        ("export checkpoint=RUN formats=[safetensors] output=FOLDER", "the weights alone"),
        ("export checkpoint=RUN ema=true", "the moving average"),
        ("export checkpoint=RUN stage=teacher", "the teacher"),
        ("export checkpoint=RUN formats=[authors]", "a file that the authors' code and timm read"),
        ("export checkpoint=RUN formats=[hub] output=FOLDER license=cc-by-4.0", "a folder for the Hugging Face Hub"),
    ),
    "analyze": (
        ("analyze checkpoint=RUN", "all that each network of a run can be asked"),
        ("analyze checkpoint=RUN stage=student parts=[attention,rank]", "two parts of the student"),
        ("analyze checkpoint=RUN images=1000", "on some of the images"),
        ("analyze checkpoint=RUN stage=student ema=true folder=FOLDER", "the moving average, into a folder of its own"),
        ("analyze checkpoint=FILE.pth experiment=imagenet_lt data_root=FOLDER", "a file of the authors'"),
    ),
    "inspect": (
        ("inspect experiment=digits", "the tail, and what teacher and student see"),
        ("inspect experiment=cifar10_lt_if100 data.imbalance_factor=0.02", "the same with a shorter tail"),
        ("inspect experiment=folder_cpu data.root=FOLDER", "your images"),
        (
            "inspect experiment=digits student/transforms=multicrop student.transforms.train.local_size=8",
            "other transforms",
        ),
        ("inspect experiment=digits method=deit", "a baseline's"),
    ),
    "benchmark": (
        ("benchmark experiment=digits", "images/s of input, step and the whole"),
        ("benchmark experiment=cifar10_lt_if100 generated=50000", "of a recipe whose data are not here"),
        ("benchmark experiment=digits student/transforms=batch_small training.measured=[student]", "batch transforms"),
        ("benchmark experiment=digits compare=timm", "timm's own loader and step beside ours"),
        ("benchmark part=profile experiment=digits", "the most expensive operations of a step, and a trace"),
    ),
}
