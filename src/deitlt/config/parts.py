"""The schema of what a configuration instantiates: networks, losses, transforms, optimizers, schedules, data.

A class describes the keys of a node whose `_target_` it is described with. A node with a target of the user's own
takes any keys; its signature judges them when the stage is built.
"""

from typing import Any

from deitlt.config.keys import Node, key

LR = "base learning rate, for images_per_update as the recipe has it"


# Networks.
class TeacherModel(Node, target="deitlt.models.create_teacher"):
    """A CNN with one classifier."""

    name: str = key("cifar_resnet8, 20, 32, 44, 56, or any of timm's CNNs")
    head: str = key("classifier on features, or on cosines, as LDAM wants it", choices=("linear", "cosine"))


class PaCoModel(Node, target="deitlt.models.create_paco_teacher"):
    """PaCo's pair of encoders."""

    name: str = key("cifar_resnet8, 20, 32, 44, 56, or any of timm's CNNs")
    dim: int = key("length of a projection", at_least=1)
    queue_size: int = key("keys that are remembered; at least images_per_update", at_least=1)
    momentum: float = key("share of the key encoder that an update keeps", at_least=0, at_most=1)


class StudentModel(Node, target="deitlt.models.create_student"):
    """A vision transformer with a CLS token, and a DIST token where it is distilled."""

    name: str = key("any of timm's vision transformers")
    distilled: bool = key("with a DIST token (DeiT), or without (ViT)")
    image_size: int = key("a side of the image", "pixels", at_least=1)
    patch_size: int = key("a side of a patch; divides image_size", "pixels", at_least=1)
    stem: str = key(
        "what cuts the image into tokens: patch (the paper's), or conv (3x3 convolutions and pooling in its place, "
        "which lend the transformer a CNN's locality; patch_size is then a power of two)",
        choices=("patch", "conv"),
    )
    width: int | None = key("length of a token's vector; null: the named model's", at_least=1)
    depth: int | None = key("blocks; null: the named model's", at_least=1)
    heads: int | None = key("attention heads; null: the named model's, or one for 64 of width", at_least=1)
    drop_path: float = key(
        "probability of dropping the last block, earlier ones less; of DeiT-III's, every block", at_least=0, below=1
    )
    checkpointing: bool = key("compute each block again on the way back: less memory, more time, the same gradients")


# Losses.
class CrossEntropy(Node, target=("deitlt.losses.CrossEntropyLoss", "deitlt.losses.BalancedSoftmaxLoss")):
    """Cross-entropy, of logits that may be shifted by the log of the class's count."""


class BinaryCrossEntropy(Node, target="deitlt.losses.BinaryCrossEntropyLoss"):
    """Binary cross-entropy of each class."""

    threshold: float | None = key("targets above it count as 1, the rest as 0; null: soft targets stay soft")
    sum_classes: bool = key("add the classes up, which suits a distillation loss beside it; false: their mean")


class LDAM(Node, target="deitlt.losses.LDAMLoss"):
    """Label-distribution-aware margins."""

    max_margin: float = key("margin of the rarest class", at_least=0)
    scale: float = key("factor of the cosines", above=0)


class LogitAdjustment(Node, target="deitlt.losses.LogitAdjustedLoss"):
    """Logits shifted by the log of the class's share."""

    tau: float = key("factor of the shift; 0: no shift", at_least=0)


class VectorScaling(Node, target="deitlt.losses.VSLoss"):
    """Logits scaled and shifted by class."""

    gamma: float = key("exponent of the scale")
    tau: float = key("factor of the shift; 0: no shift", at_least=0)


class PaCo(Node, target="deitlt.losses.PaCoLoss"):
    """Queries against class centres, keys and a queue of earlier keys."""

    alpha: float = key("weight of a row of the query's class", at_least=0)
    beta: float = key("weight of the query's class centre", at_least=0)
    gamma: float = key("weight of the rows in the normaliser", at_least=0)
    sup_temperature: float = key("temperature of the logits from the class centres", above=0)
    temperature: float = key("temperature of the similarities among rows", above=0)


class Distillation(Node, target="deitlt.losses.DistillationLoss"):
    """What DIST learns."""

    kind: str = key(
        "hard: the teacher's decision; soft: its probabilities; none: the targets", choices=("hard", "soft", "none")
    )
    alpha: float = key("DIST's share of the loss", at_least=0, at_most=1)
    tau: float = key("temperature of soft distillation", above=0)
    weigh_cls: bool = key("weigh CLS's loss by class, too, in the deferred phase")


Loss = CrossEntropy | BinaryCrossEntropy | LDAM | LogitAdjustment | VectorScaling | PaCo


# Transforms.
class CropFlip(Node):
    """What every random crop has."""

    crop: str = key(
        "resized: a random part, scaled; padded: the whole, shifted; simple: the shorter side scaled, then shifted",
        choices=("resized", "padded", "simple"),
    )
    scale: list[float] = key("smallest and largest share of the area of a resized crop")
    padding: int = key("added on each side before a padded or simple crop", "pixels", at_least=0)
    flip: float = key("probability of a horizontal flip", at_least=0, at_most=1)
    interpolation: str = key("of the crop", choices=("bicubic", "bilinear"))


class WeakTransform(Node, target="deitlt.transforms.weak_transform"):
    """Shift and flip."""

    padding: int = key("added on each side before the crop", "pixels", at_least=0)
    flip: float = key("probability of a horizontal flip", at_least=0, at_most=1)


class StudentTransform(CropFlip, target="deitlt.transforms.student_transform"):
    """DeiT's strong transform, image by image."""

    rand_augment: str | None = key("timm's description of RandAugment; null: none")
    erasing: float = key("probability of filling a rectangle with noise", at_least=0, at_most=1)


class BatchTransform(StudentTransform, target="deitlt.transforms.batch_transform"):
    """The same for whole batches on their device."""

    where: str = key("this node, as errors name it")


class MultiCrop(StudentTransform, target="deitlt.transforms.multi_crop_transform"):
    """Large crops, and small ones."""

    global_crops: int = key("crops of the student's image_size", at_least=1)
    local_crops: int = key("smaller crops; 0: none", at_least=0)
    local_size: int = key(
        "a side of a local crop; below image_size, and a multiple of the model's patch", "pixels", at_least=1
    )
    local_scale: list[float] = key("smallest and largest share of the area of a local crop")


class ThreeAugment(CropFlip, target="deitlt.transforms.three_augment_transform"):
    """DeiT-III's transform."""

    rand_augment: str | None = key("not used: the three stand in its place")
    jitter: float = key("strength of the change of brightness, contrast and saturation", at_least=0, at_most=1)
    erasing: float = key("probability of filling a rectangle with noise", at_least=0, at_most=1)


class ImageNetTransform(CropFlip, target="deitlt.transforms.imagenet_transform"):
    """Crop, flip and colours."""

    jitter: float = key("strength of the change of brightness, contrast and saturation", at_least=0, at_most=1)
    rand_augment: str | None = key("timm's description of RandAugment; null: none")


class AutoAugmentTransform(WeakTransform, target="deitlt.transforms.auto_augment_transform"):
    """AutoAugment with Cutout."""

    cutout: float = key("side of the black square as a share of the image's; 0: none", at_least=0, at_most=1)


class SimCLRTransform(CropFlip, target="deitlt.transforms.simclr_transform"):
    """SimCLR's transform."""

    jitter: list[float] = key("strengths of the change of brightness, contrast, saturation and hue")
    jitter_probability: float = key("of such a change", at_least=0, at_most=1)
    grayscale: float = key("probability of losing all colour", at_least=0, at_most=1)
    blur: float = key("probability of a Gaussian blur", at_least=0, at_most=1)


ImageTransform = (
    StudentTransform | WeakTransform | ImageNetTransform | ThreeAugment | AutoAugmentTransform | SimCLRTransform
)


class PairedTransform(Node, target="deitlt.transforms.paired_transform"):
    """Two transforms of each image, as PaCo wants them."""

    padding: int = key("added on each side before a padded crop, in both", "pixels", at_least=0)
    flip: float = key("probability of a horizontal flip, in both", at_least=0, at_most=1)
    first: ImageTransform = key("what the query encoder sees")
    second: ImageTransform = key("what the key encoder sees")


class Evaluation(Node, target="deitlt.transforms.evaluation_transform"):
    """Scale and crop the middle."""

    crop_share: float = key(
        "share of the scaled side that evaluation keeps; 0.875 keeps 224 of 256", above=0, at_most=1
    )
    interpolation: str = key("of the scaling", choices=("bicubic", "bilinear"))


class Mixup(Node, target="deitlt.transforms.Mixup"):
    """Mixup and CutMix of a batch."""

    mixup: float = key("Beta parameter of Mixup; 0: off", at_least=0)
    cutmix: float = key("Beta parameter of CutMix; 0: off", at_least=0)
    switch: float = key("probability of CutMix where both are on", at_least=0, at_most=1)
    probability: float = key("probability that a batch is mixed", at_least=0, at_most=1)
    smoothing: float = key("share of the target that all classes get", at_least=0, below=1)
    attention: bool = key("TransMix: share the target of a pasted image by attention, not by area")


# Optimization.
class Optimizer(Node, target="timm.optim.create_optimizer_v2", is_open=True):
    """timm's factory, which passes further keys to the optimizer."""

    opt: str = key("timm's name of the optimizer, such as adamw, lamb, momentum")
    lr: float = key(LR, at_least=0)
    momentum: float = key("share of the last step that the next one keeps", at_least=0, below=1)
    betas: list[float] = key("what the means of the gradient and of its square keep")
    weight_decay: float = key("share of a weight that a step of rate 1 takes away", at_least=0)
    filter_bias_and_bn: bool = key("no weight decay on biases and norms")
    fallback_list: list[str] = key("parameters, by patterns of their names, that Muon leaves to AdamW")
    fallback_no_weight_decay: bool = key(
        "leave those without weight decay to AdamW, too: tokens and position embedding"
    )
    fused: bool = key("one kernel for all weights, as torch has it of some: on a CPU a sixth of a small network's step")


class EpochCosine(Node, target="deitlt.optim.EpochCosine"):
    """Warm-up epoch by epoch, then a cosine to 0."""

    lr: float = key(LR, at_least=0)
    epochs: int = key("in which the schedule runs out", "epochs", at_least=1)
    warmup_epochs: int | float = key(
        "in which the rate grows to its base, or a share of the stage's below 1", "epochs", at_least=0
    )


class WarmupCosine(EpochCosine, target="deitlt.optim.WarmupCosine"):
    """Linear warm-up, then a cosine."""

    warmup_lr: float = key("rate at time 0", at_least=0)
    min_lr: float = key("rate at the end", at_least=0)


class WarmupSteps(EpochCosine, target="deitlt.optim.WarmupSteps"):
    """Linear warm-up, then a constant rate with drops."""

    factors: list[Any] = key(
        "pairs: first epoch, or a share of all below 1, and multiple of the base rate from then on"
    )


class ConstantRho(Node, target="deitlt.optim.ConstantRho"):
    """One radius."""

    value: float = key("radius of the neighbourhood", at_least=0)


class LinearRho(Node, target="deitlt.optim.LinearRho"):
    """A radius that grows, or shrinks, evenly."""

    start: float = key("radius in the first epoch", at_least=0)
    end: float = key("radius in the last", at_least=0)
    epochs: int = key("of the stage", "epochs", at_least=1)


class StepRho(Node, target="deitlt.optim.StepRho"):
    """A radius that changes at given epochs."""

    values: list[Any] = key("pairs: first epoch, or a share of all below 1, and radius from then on")


Schedule = WarmupCosine | EpochCosine | WarmupSteps
Rho = ConstantRho | LinearRho | StepRho


# Modules.
class Module(
    Node, target=("deitlt.modules.TeacherModule", "deitlt.modules.PaCoTeacherModule", "deitlt.modules.StudentModule")
):
    """How it is trained: with one classifier, by queries, keys and a queue, or with CLS and DIST."""


# Samplers.
class Shuffled(Node, target="deitlt.data.ShuffledSampler"):
    """Every image once an epoch."""


class Repeated(Node, target=("deitlt.data.RepeatedAugmentationSampler", "deitlt.data.FullRepeatedAugmentationSampler")):
    """Repeated augmentation as in DeiT, or one that leaves no image out."""

    num_repeats: int = key("how often an image comes in an epoch, over all devices", at_least=1)


class ClassBalanced(Node, target="deitlt.data.ClassBalancedSampler"):
    """Classes by a power of their counts."""

    power: float = key(
        "of a class's count, to which its chance is proportional; 0: all alike, 1: as they are", at_least=0, at_most=1
    )


Sampler = Shuffled | Repeated | ClassBalanced
