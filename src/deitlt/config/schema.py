"""The schema of every verb's configuration: type, range, choices, unit and meaning of each key.

Values stand in conf/, meanings here: `deitlt list keys`, help, docs/config.md, completion and the check of what was
typed are walks over these classes. A key is a field; what is instantiated is described in `parts`.
"""

from typing import Any

from deitlt.config import parts
from deitlt.config.keys import Node, key

STAGES = ("teacher", "student", "baseline")
LABEL_ORDERS = ("auto", "original", "authors", "sorted")
ANALYSES = ("attention", "rank", "diversity", "winners", "calibration", "agreement", "sharpness", "rollout")
ORDER_MEANING = (
    "in which order a file that is not deitlt's answers: original (the data set's own labels), authors (by count, with "
    "their ties), sorted (as here), or auto (original for PaCo's teachers, else authors)"
)
TRUST_MEANING = (
    "modules of your own, installed or beside --config-dir, whose parts may be called; typed each time: what a run's "
    "folder says of itself does not count"
)

# Words of keys and choices that older versions had -> what they are called now.
RENAMED = {
    "view": "transforms",
    "views": "transforms",
    "teacher_view": "teacher_input",
    "data.resident": "data.cache_on_device",
}


class Data(Node, target="deitlt.data.LongTailDataModule"):
    """Which images, and how long their tail is."""

    sampler: parts.Sampler = key("which images an epoch has, and in which order")
    name: str = key(
        "digits, cifar10, cifar100, folder, imagenet_lt, inat18, places_lt, lists, hf, torchvision, or one registered"
    )
    root: str = key("folder of the data, where the data set has files", path=True)
    download: bool = key("fetch absent files, where the data set can")
    imbalance_factor: float | None = key(
        'images of the smallest class / of the largest, in (0, 1]: 0.01 is "IF 100"; null: as it is'
    )
    imbalance_kind: str = key(
        "exp: counts fall from class to class; step: half of the classes are full", choices=("exp", "step")
    )
    max_count: int | None = key("of the largest class; null: all that it has", "images", at_least=1)
    val_fraction: float = key("share of each class's training images held out for validation", at_least=0, below=1)
    groups: str = key(
        "head, mid and tail: paper (by rank among the classes) | shots (over 100, 20 to 100, under 20)",
        choices=("paper", "shots"),
    )
    group_cuts: list[int] | None = key("[head ends, mid ends] in classes sorted by count; null: the data set's own")
    split_seed: int = key("of the selection of images; 0 selects the authors' images", at_least=0, at_most=2**32 - 1)
    on_broken: str = key(
        "an image that cannot be decoded: error stops, skip counts it and goes on", choices=("error", "skip")
    )
    verify: bool = key(
        "decode every image file once before training (a few seconds per 10,000 small images); that all are there is "
        "looked up in any case"
    )
    exclude: list[str] = key("image files to leave out")
    expects: str | None = key(
        "the data set whose classes and images the folder has to hold, or it is refused; null: any folder",
        choices=("cifar10",),
    )
    class_order: str | None = key(
        "class ids: label (as published) | count (falling training images, stable) | authors (ties as their code has "
        "them) | FILE, a file of labels in the wanted order; null: count for lists, else label",
        choices=("label", "count", "authors"),
        path=True,
    )
    cache_on_device: bool | str = key(
        "for batch transforms: keep all images on the device as uint8: auto (arrays; files only on a GPU, if of one "
        "size and at most a quarter of its memory) | true | false (workers send them; of files as crops, whose draws "
        "are others)",
        choices=("auto",),
    )
    num_workers: int = key(
        "that read images, for each device; 0 reads in the training process", "processes", at_least=0
    )
    train_csv: str | None = key(
        "CSV file with the columns path,label in place of train/; paths are relative to data.root", path=True
    )
    test_csv: str | None = key("CSV file in place of test/", path=True)
    train_list: str | None = key(
        "file with a line 'path label' for each training image, paths from data.root on; null: the published list in "
        "data.root, or its JSON",
        path=True,
    )
    test_list: str | None = key("the same file of the test images", path=True)
    val_list: str | None = key(
        "the same file of images to hold out for validation, in place of a share of the training images; null: none",
        path=True,
    )
    path: str = key(
        "a folder of Hugging Face's (what save_to_disk wrote, Parquet files, or images in train/CLASS/), else a name "
        "on its hub, as USER/NAME",
        path=True,
    )
    subset: str | None = key("of a data set of Hugging Face's that has several; null: its only one")
    image_column: str | None = key("null: the only one of the feature Image")
    label_column: str | None = key(
        "null: the only one of the feature ClassLabel, else label; of text and numbers the sorted values are classes"
    )
    dataset: str = key("the class in torchvision.datasets, as SVHN")
    train_split: str | None = key("to train on; null: train, or torchvision's own choice")
    test_split: str | None = key("to test on; null: test, else validation, valid or val")


class Trainer(Node, is_open=True):
    """On what it runs; every other key is an argument of lightning.Trainer."""

    accelerator: str = key("what it runs on; auto: a GPU if there is one", choices=("auto", "cpu", "gpu"))
    devices: int | str = key("devices of each host; auto: all of them", at_least=1, choices=("auto",))
    num_nodes: int = key("hosts to expect, whose ranks torchrun or srun starts (see docs/clusters.md)", at_least=1)
    grace: float = key(
        "that a signal leaves for the epoch at hand; one that takes longer is given up", "seconds", at_least=0
    )
    strategy: str = key("how several devices work together: auto is DDP", choices=("auto", "ddp"))
    precision: str = key(
        "of the arithmetic; auto: bf16-mixed on a GPU that has bf16, else 32-true",
        choices=("auto", "32-true", "bf16-mixed", "16-mixed"),
    )
    compile: bool | str = key(
        "compile the networks that learn or teach, at their first step; auto: on a GPU; graphs: as auto, and launched "
        "as CUDA graphs, on one GPU and without accumulation",
        choices=("auto", "graphs"),
    )
    threads: int | None = key("of torch on the CPU; null: one a core, or as OMP_NUM_THREADS says", at_least=1)
    deterministic: bool = key("ask torch for deterministic kernels on the GPU, at some cost")


class WandB(Node):
    """Weights & Biases."""

    project: str = key("W&B project")
    entity: str | None = key("W&B user or team; null: your default")
    mode: str | None = key("null: online if there is a key", choices=("online", "offline", "disabled"))
    tags: list[str] = key("words to find the run by")
    artifacts: bool = key(
        "log checkpoints, the optimiser's state among them, as artifacts, and name the one that taught; an offline run "
        "holds no copy of them"
    )


class TensorBoard(Node):
    """TensorBoard."""


class MLflow(Node):
    """MLflow."""

    experiment: str = key("MLflow experiment")
    tracking_uri: str | None = key(
        "MLflow server or database; null: MLFLOW_TRACKING_URI, or without one a database in the run's folder"
    )


class Logger(Node, is_open=True):
    """Where numbers go; every other key is a logger of your own: a name and a node with a _target_."""

    wandb: WandB | None = key("Weights & Biases; null: none", optional=True)
    tensorboard: TensorBoard | None = key("TensorBoard; null: none", optional=True)
    mlflow: MLflow | None = key("MLflow; null: none", optional=True)


class Drw(Node):
    """Deferred re-weighting."""

    start_epoch: int | float = key("first epoch with weights, counted from 0, or a share of the epochs below 1")
    beta: float = key("of the effective number of samples", at_least=0, below=1)
    stop_mixing: bool = key("unmixed images and hard labels from then on")


class Ema(Node):
    """Moving average of the weights."""

    decay: float = key("share of the average that an update keeps", at_least=0, below=1)


class Sam(Node):
    """Sharpness-aware minimisation."""

    enabled: bool = key("SAM, or plain steps")
    adaptive: bool = key("ASAM: the neighbourhood follows the scale of each weight", optional=True)
    scope: str = key(
        "rank: each device ascends on its own gradient; global: on their mean",
        choices=("rank", "global"),
        optional=True,
    )
    rho: parts.Rho = key("radius of the neighbourhood, over time", optional=True)


class TeacherTransforms(Node):
    """What the teacher sees."""

    train: parts.ImageTransform | parts.BatchTransform | parts.PairedTransform | parts.MultiCrop = key(
        "of a training image"
    )
    mixing: parts.Mixup | None = key("of a batch, by Mixup and CutMix; null: none")
    evaluation: parts.Evaluation = key("of a test image")


class StudentTransforms(Node):
    """What the student sees."""

    train: parts.ImageTransform | parts.BatchTransform | parts.MultiCrop = key("of a training image")
    mixing: parts.Mixup | None = key("of a batch, by Mixup and CutMix; null: none")
    teacher_sees: str = key(
        "of several crops: global (local ones learn the first global one's label) | both", choices=("both", "global")
    )
    evaluation: parts.Evaluation = key("of a test image")


class Stage(Node):
    """What teacher and student have in common."""

    module: parts.Module = key("how it is trained")
    epochs: int = key("passes over the training images", at_least=1)
    images_per_update: int = key("over all devices and micro-batches", "images", at_least=1)
    batch_size: int = key(
        "for each device at once; accumulation follows from it and from the devices", "images", at_least=1
    )
    drop_last: bool = key("leave out an epoch's short last batch, unless it is the only one; a single image always")
    image_size: int = key("a side of the image", "pixels", at_least=1)
    statistics: str = key(
        "normalise with 'imagenet' mean and deviation, or with the data set's 'own'", choices=("imagenet", "own")
    )
    drw: Drw | None = key("deferred re-weighting; null: none")
    ema: Ema | None = key("moving average of the weights, evaluated beside them; null: none")
    gradient_clip: float | None = key("largest norm of the gradient; null: any", at_least=0)
    optimizer: parts.Optimizer = key("how its weights move")
    schedule: parts.Schedule = key("learning rate over time")
    sam: Sam = key("sharpness-aware minimisation")
    callbacks: dict[str, Any] = key(
        "of Lightning's or your own, beside ours: a name and a node with a _target_ for each", optional=True
    )
    extends: str | None = key("the stage that this one changes; any node of a stage's keys is one", optional=True)


class Teacher(Stage):
    """The CNN that teaches."""

    model: parts.TeacherModel | parts.PaCoModel = key("the CNN")
    loss: parts.Loss = key("what it learns the targets by")
    transforms: TeacherTransforms = key("what it sees of an image")
    sampler: parts.Sampler = key("which images an epoch has, and in which order")
    checkpoint: str | None = key(
        "a trained teacher's file or run, deitlt's or the authors'; the stage is then skipped", path=True
    )
    label_order: str = key(ORDER_MEANING, choices=LABEL_ORDERS)


class TeacherInput(Node):
    """How the student's image becomes the teacher's."""

    antialias: bool = key("smooth before making it smaller; the authors' environment did not")
    renormalise: bool = key("to the teacher's statistics; the authors do not")
    precision: str = key("that the teacher answers in", choices=("32-true", "bf16-mixed"))


class Student(Stage):
    """The transformer that learns."""

    model: parts.StudentModel = key("the transformer")
    loss: parts.Loss = key("what CLS learns from the targets by")
    transforms: StudentTransforms = key("what it sees of an image, and how a batch is mixed")
    distillation: parts.Distillation = key("what DIST learns from the teacher")
    teacher_input: TeacherInput = key("how the student's image becomes the teacher's")
    init: str | None = key(
        "start from trained weights: a file or run, deitlt's or the authors', an encoder of MAE, DINO or timm, or "
        "timm:NAME; null: from scratch, as in the paper",
        path=True,
    )
    checkpoint: str | None = key("a trained student's file or run; the stage is then skipped", path=True)


class Analysis(Node):
    """What becomes of the network while it trains."""

    every: int | float | None = key(
        "between two analyses, or a share of a stage's epochs below 1; the last epoch always has one; null: never",
        "epochs",
        above=0,
    )
    images: int = key(
        "validation images, or where there are none training images; never of the test set", "images", at_least=1
    )
    parts: list[str] = key(
        "what is measured; agreement is the teacher's, asked before epoch 1", choices=(*ANALYSES[:4], "agreement")
    )


class Objective(Node):
    """The one number that the jobs of a sweep (-m) are compared by."""

    metric: str | None = key(
        "path into metrics.json, such as student/avg/balanced, or val/... of the validation split; null: the balanced "
        "accuracy of the last stage, on the validation split where there is one"
    )
    direction: str = key("which of two is better", choices=("maximize", "minimize"))


class Prune(Node):
    """Stop jobs of a sweep that fall below the median of those that finished before."""

    after_trials: int | None = key(
        "finished jobs before the first may be stopped; null: none is ever stopped", at_least=1
    )
    after_epochs: int = key("epochs of its stage that each job is given in any case", at_least=1)


class Sweep(Node):
    """How the jobs of a sweep are run."""

    prune: Prune = key("stop jobs that fall below the median of those that finished before")


class Paths(Node):
    """Where files go."""

    runs: str = key("folder of all runs")
    output_dir: str = key("folder of this run")
    sweep_dir: str = key("folder of a sweep (-m): its jobs' folders are 0, 1, ...")


class Train(Node):
    """The whole of a run: a list of choices, then what belongs to no single part."""

    data: Data = key("which images, and how long their tail is")
    trainer: Trainer = key("on what it runs")
    logger: Logger = key("where numbers go, several as [wandb,tensorboard]; the CSV files are written in any case")
    teacher: Teacher = key("the CNN that teaches")
    student: Student = key("the transformer that learns")
    stages: list[str] = key("what is trained, in this order", choices=STAGES)
    seed: int = key("of everything but the selection of images, which is data.split_seed's", at_least=0)
    protocol: str = key(
        "which epoch is reported: last | val (best on the validation split) | paper (best on TEST)",
        choices=("last", "val", "paper"),
    )
    watch_test: bool = key("evaluate the test set while training, too; it is logged as test/..., and chooses nothing")
    evaluate_every: int | float = key(
        "between two evaluations, or a share of a stage's epochs below 1; protocol=val adds all from re-weighting on "
        "and the last, protocol=paper takes each",
        "epochs",
        above=0,
    )
    checkpoint_every: int | float = key(
        "between two checkpoints, or a share of a stage's epochs below 1; a resumed run goes on from the last one",
        "epochs",
        above=0,
    )
    resume: str | None = key(
        "folder of a run to go on with | auto: paths.output_dir, if a run was begun there", path=True
    )
    trust: list[str] = key(TRUST_MEANING)
    report: bool = key("write report.html at the end: one page with tables, curves, pictures, commands")
    analysis: Analysis = key("what becomes of the network: curves analysis/..., files STAGE/analysis/epoch_NNNN.json")
    baseline: Student = key(
        "what the stage baseline changes in student: a plain ViT of its size, which nobody teaches", optional=True
    )
    objective: Objective = key("the one number that the jobs of a sweep (-m) are compared by")
    sweep: Sweep = key("how the jobs of a sweep (-m) are run")
    paths: Paths = key("where files go")
