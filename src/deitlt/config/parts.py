"""The schema of what a configuration instantiates: networks, losses, transforms, optimizers, schedules, data.

A class describes the keys of a node whose `_target_` is its `target`. A node with a target of the user's own takes
any keys; its signature judges them when the stage is built.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

from deitlt.config.keys import key, part

CROP = "resized: a random part, scaled; padded: the whole, shifted; simple: the shorter side scaled, then shifted"
CROPS = ("resized", "padded", "simple")
LR = "base learning rate, for images_per_update as the recipe has it"


# Networks.
@dataclass
class TeacherModel:
    """A CNN with one classifier."""

    target: ClassVar[str] = "deitlt.models.create_teacher"
    name: str = key("cifar_resnet8, 20, 32, 44, 56, or any of timm's CNNs")
    head: str = key("classifier on features, or on cosines, as LDAM wants it", choices=("linear", "cosine"))


@dataclass
class PaCoModel:
    """PaCo's pair of encoders."""

    target: ClassVar[str] = "deitlt.models.create_paco_teacher"
    name: str = key("cifar_resnet8, 20, 32, 44, 56, or any of timm's CNNs")
    dim: int = key("length of a projection", at_least=1)
    queue_size: int = key("keys that are remembered; at least images_per_update", at_least=1)
    momentum: float = key("share of the key encoder that an update keeps", at_least=0, at_most=1)


@dataclass
class StudentModel:
    """A vision transformer with a CLS token, and a DIST token where it is distilled."""

    target: ClassVar[str] = "deitlt.models.create_student"
    name: str = key("any of timm's vision transformers")
    distilled: bool = key("with a DIST token (DeiT), or without (ViT)")
    image_size: int = key("a side of the image", "pixels", at_least=1)
    patch_size: int = key("a side of a patch; divides image_size", "pixels", at_least=1)
    width: int | None = key("length of a token's vector; null: the named model's", at_least=1)
    depth: int | None = key("blocks; null: the named model's", at_least=1)
    heads: int | None = key("attention heads; null: the named model's, or one for 64 of width", at_least=1)
    drop_path: float = key("probability of dropping the last block; earlier ones less", at_least=0, below=1)
    checkpointing: bool = key("compute each block again on the way back: less memory, more time, the same gradients")


# Losses.
@dataclass
class CrossEntropy:
    """Plain cross-entropy."""

    target: ClassVar[str] = "deitlt.losses.CrossEntropyLoss"


@dataclass
class BalancedSoftmax:
    """Cross-entropy of logits shifted by the log of the class's count."""

    target: ClassVar[str] = "deitlt.losses.BalancedSoftmaxLoss"


@dataclass
class BinaryCrossEntropy:
    """Binary cross-entropy of each class."""

    target: ClassVar[str] = "deitlt.losses.BinaryCrossEntropyLoss"
    threshold: float | None = key("targets above it count as 1, the rest as 0; null: soft targets stay soft")
    sum_classes: bool = key("add the classes up, which suits a distillation loss beside it; false: their mean")


@dataclass
class LDAM:
    """Label-distribution-aware margins."""

    target: ClassVar[str] = "deitlt.losses.LDAMLoss"
    max_margin: float = key("margin of the rarest class", at_least=0)
    scale: float = key("factor of the cosines", above=0)


@dataclass
class LogitAdjustment:
    """Logits shifted by the log of the class's share."""

    target: ClassVar[str] = "deitlt.losses.LogitAdjustedLoss"
    tau: float = key("factor of the shift; 0: no shift", at_least=0)


@dataclass
class VectorScaling:
    """Logits scaled and shifted by class."""

    target: ClassVar[str] = "deitlt.losses.VSLoss"
    gamma: float = key("exponent of the scale")
    tau: float = key("factor of the shift; 0: no shift", at_least=0)


@dataclass
class PaCo:
    """Queries against class centres, keys and a queue of earlier keys."""

    target: ClassVar[str] = "deitlt.losses.PaCoLoss"
    alpha: float = key("weight of a row of the query's class", at_least=0)
    beta: float = key("weight of the query's class centre", at_least=0)
    gamma: float = key("weight of the rows in the normaliser", at_least=0)
    sup_temperature: float = key("temperature of the logits from the class centres", above=0)
    temperature: float = key("temperature of the similarities among rows", above=0)


@dataclass
class Distillation:
    """What DIST learns."""

    target: ClassVar[str] = "deitlt.losses.DistillationLoss"
    kind: str = key(
        "hard: the teacher's decision; soft: its probabilities; none: the targets", choices=("hard", "soft", "none")
    )
    alpha: float = key("DIST's share of the loss", at_least=0, at_most=1)
    tau: float = key("temperature of soft distillation", above=0)
    weigh_cls: bool = key("weigh CLS's loss by class, too, in the deferred phase")


LOSSES = (CrossEntropy, BalancedSoftmax, BinaryCrossEntropy, LDAM, LogitAdjustment, VectorScaling, PaCo)


# Transforms.
@dataclass
class CropFlip:
    """What every random crop has."""

    crop: str = key(CROP, choices=CROPS)
    scale: list[float] = key("smallest and largest share of the area of a resized crop")
    padding: int = key("added on each side before a padded or simple crop", "pixels", at_least=0)
    flip: float = key("probability of a horizontal flip", at_least=0, at_most=1)


@dataclass
class WeakTransform:
    """Shift and flip."""

    target: ClassVar[str] = "deitlt.transforms.weak_transform"
    padding: int = key("added on each side before the crop", "pixels", at_least=0)
    flip: float = key("probability of a horizontal flip", at_least=0, at_most=1)


@dataclass
class StudentTransform(CropFlip):
    """DeiT's strong transform, image by image."""

    target: ClassVar[str] = "deitlt.transforms.student_transform"
    rand_augment: str | None = key("timm's description of RandAugment; null: none")
    erasing: float = key("probability of filling a rectangle with noise", at_least=0, at_most=1)
    interpolation: str = key("of the crop", choices=("bicubic", "bilinear"))


@dataclass
class BatchTransform(StudentTransform):
    """The same for whole batches on their device."""

    target: ClassVar[str] = "deitlt.transforms.batch_transform"
    where: str = key("this node, as errors name it")


@dataclass
class MultiCrop(StudentTransform):
    """Large crops, and small ones."""

    target: ClassVar[str] = "deitlt.transforms.multi_crop_transform"
    global_crops: int = key("crops of the student's image_size", at_least=1)
    local_crops: int = key("smaller crops; 0: none", at_least=0)
    local_size: int = key(
        "a side of a local crop; below image_size, and a multiple of the model's patch", "pixels", at_least=1
    )
    local_scale: list[float] = key("smallest and largest share of the area of a local crop")


@dataclass
class ThreeAugment(CropFlip):
    """DeiT-III's transform."""

    target: ClassVar[str] = "deitlt.transforms.three_augment_transform"
    rand_augment: str | None = key("timm's description of RandAugment; null: none")
    jitter: float = key("strength of the change of brightness, contrast and saturation", at_least=0, at_most=1)
    erasing: float = key("probability of filling a rectangle with noise", at_least=0, at_most=1)
    interpolation: str = key("of the crop", choices=("bicubic", "bilinear"))


@dataclass
class ImageNetTransform(CropFlip):
    """Crop, flip and colours."""

    target: ClassVar[str] = "deitlt.transforms.imagenet_transform"
    jitter: float = key("strength of the change of brightness, contrast and saturation", at_least=0, at_most=1)
    rand_augment: str | None = key("timm's description of RandAugment; null: none")
    interpolation: str = key("of the crop", choices=("bicubic", "bilinear"))


@dataclass
class AutoAugmentTransform:
    """AutoAugment with Cutout."""

    target: ClassVar[str] = "deitlt.transforms.auto_augment_transform"
    padding: int = key("added on each side before the crop", "pixels", at_least=0)
    flip: float = key("probability of a horizontal flip", at_least=0, at_most=1)
    cutout: float = key("side of the black square as a share of the image's; 0: none", at_least=0, at_most=1)


@dataclass
class SimCLRTransform(CropFlip):
    """SimCLR's transform."""

    target: ClassVar[str] = "deitlt.transforms.simclr_transform"
    jitter: list[float] = key("strengths of the change of brightness, contrast, saturation and hue")
    jitter_probability: float = key("of such a change", at_least=0, at_most=1)
    grayscale: float = key("probability of losing all colour", at_least=0, at_most=1)
    blur: float = key("probability of a Gaussian blur", at_least=0, at_most=1)
    interpolation: str = key("of the crop", choices=("bicubic", "bilinear"))


IMAGE_TRANSFORMS = (
    *(StudentTransform, WeakTransform, ImageNetTransform, ThreeAugment, AutoAugmentTransform, SimCLRTransform),
)


@dataclass
class PairedTransform:
    """Two transforms of each image, as PaCo wants them."""

    target: ClassVar[str] = "deitlt.transforms.paired_transform"
    padding: int = key("added on each side before a padded crop, in both", "pixels", at_least=0)
    flip: float = key("probability of a horizontal flip, in both", at_least=0, at_most=1)
    first: Any = part("what the query encoder sees", *IMAGE_TRANSFORMS)
    second: Any = part("what the key encoder sees", *IMAGE_TRANSFORMS)


@dataclass
class Evaluation:
    """Scale and crop the middle."""

    target: ClassVar[str] = "deitlt.transforms.evaluation_transform"
    crop_share: float = key(
        "share of the scaled side that evaluation keeps; 0.875 keeps 224 of 256", above=0, at_most=1
    )
    interpolation: str = key("of the scaling", choices=("bicubic", "bilinear"))


@dataclass
class Mixup:
    """Mixup and CutMix of a batch."""

    target: ClassVar[str] = "deitlt.transforms.Mixup"
    mixup: float = key("Beta parameter of Mixup; 0: off", at_least=0)
    cutmix: float = key("Beta parameter of CutMix; 0: off", at_least=0)
    switch: float = key("probability of CutMix where both are on", at_least=0, at_most=1)
    probability: float = key("probability that a batch is mixed", at_least=0, at_most=1)
    smoothing: float = key("share of the target that all classes get", at_least=0, below=1)
    attention: bool = key("TransMix: share the target of a pasted image by attention, not by area")


# Optimization.
@dataclass
class Optimizer:
    """timm's factory, which passes further keys to the optimizer."""

    target: ClassVar[str] = "timm.optim.create_optimizer_v2"
    is_open: ClassVar[bool] = True
    opt: str = key("timm's name of the optimizer, such as adamw, lamb, momentum")
    lr: float = key(LR, at_least=0)
    momentum: float = key("share of the last step that the next one keeps", at_least=0, below=1)
    betas: list[float] = key("what the means of the gradient and of its square keep")
    weight_decay: float = key("share of a weight that a step of rate 1 takes away", at_least=0)
    filter_bias_and_bn: bool = key("no weight decay on biases and norms")


@dataclass
class WarmupCosine:
    """Linear warm-up, then a cosine."""

    target: ClassVar[str] = "deitlt.optim.WarmupCosine"
    lr: float = key(LR, at_least=0)
    epochs: int = key("in which the schedule runs out", "epochs", at_least=1)
    warmup_epochs: int = key("in which the rate grows to its base", "epochs", at_least=0)
    warmup_lr: float = key("rate at time 0", at_least=0)
    min_lr: float = key("rate at the end", at_least=0)


@dataclass
class EpochCosine:
    """Warm-up epoch by epoch, then a cosine to 0."""

    target: ClassVar[str] = "deitlt.optim.EpochCosine"
    lr: float = key(LR, at_least=0)
    epochs: int = key("in which the schedule runs out", "epochs", at_least=1)
    warmup_epochs: int = key("in which the rate grows to its base", "epochs", at_least=0)


@dataclass
class WarmupSteps:
    """Linear warm-up, then a constant rate with drops."""

    target: ClassVar[str] = "deitlt.optim.WarmupSteps"
    lr: float = key(LR, at_least=0)
    epochs: int = key("in which the schedule runs out", "epochs", at_least=1)
    warmup_epochs: int = key("in which the rate grows to its base", "epochs", at_least=0)
    factors: list[Any] = key("pairs: first epoch, multiple of the base rate from then on")


@dataclass
class ConstantRho:
    """One radius."""

    target: ClassVar[str] = "deitlt.optim.ConstantRho"
    value: float = key("radius of the neighbourhood", at_least=0)


@dataclass
class LinearRho:
    """A radius that grows, or shrinks, evenly."""

    target: ClassVar[str] = "deitlt.optim.LinearRho"
    start: float = key("radius in the first epoch", at_least=0)
    end: float = key("radius in the last", at_least=0)
    epochs: int = key("of the stage", "epochs", at_least=1)


@dataclass
class StepRho:
    """A radius that changes at given epochs."""

    target: ClassVar[str] = "deitlt.optim.StepRho"
    values: list[Any] = key("pairs: first epoch, radius from then on")


SCHEDULES = (WarmupCosine, EpochCosine, WarmupSteps)


# Modules.
@dataclass
class TeacherModule:
    """One answer an image."""

    target: ClassVar[str] = "deitlt.modules.TeacherModule"


@dataclass
class PaCoTeacherModule:
    """Queries, keys and a queue."""

    target: ClassVar[str] = "deitlt.modules.PaCoTeacherModule"


@dataclass
class StudentModule:
    """CLS and DIST."""

    target: ClassVar[str] = "deitlt.modules.StudentModule"


# Samplers.
@dataclass
class Shuffled:
    """Every image once an epoch."""

    target: ClassVar[str] = "deitlt.data.ShuffledSampler"


@dataclass
class Repeated:
    """Repeated augmentation as in DeiT."""

    target: ClassVar[str] = "deitlt.data.RepeatedAugmentationSampler"
    num_repeats: int = key("how often an image comes in an epoch, over all devices", at_least=1)


@dataclass
class RepeatedFull(Repeated):
    """Repeated augmentation that leaves no image out."""

    target: ClassVar[str] = "deitlt.data.FullRepeatedAugmentationSampler"


@dataclass
class ClassBalanced:
    """Classes by a power of their counts."""

    target: ClassVar[str] = "deitlt.data.ClassBalancedSampler"
    power: float = key(
        "of a class's count, to which its chance is proportional; 0: all alike, 1: as they are", at_least=0, at_most=1
    )


SAMPLERS = (Shuffled, Repeated, RepeatedFull, ClassBalanced)
