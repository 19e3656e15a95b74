"""Networks by name: CNN teachers, transformer students; how a network runs (precision, memory layout, compilation)."""

import fnmatch
import re
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Literal, TypeVar, cast

import timm
import torch
from timm.layers import DropPath
from timm.models import is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from deitlt.errors import ConfigError, nearest
from deitlt.models.resnet_cifar import CifarResNet, CosineLinear, Head
from deitlt.models.vit import StudentNetwork, conv_embedding
from deitlt.types import TokenLogits

N = TypeVar("N", bound=nn.Module)
Stem = Literal["patch", "conv"]
CIFAR_DEPTHS = (8, 20, 32, 44, 56)
_CIFAR_NAME = re.compile(r"cifar_resnet(\d+)")
_SEE_CNNS = "type deitlt list models 'resnet*', say, to see timm's."
_SEE_VITS = "type deitlt list models 'vit_*', say, to see timm's."
DEIT3_LAYER_SCALE = 1e-4  # at first, in the authors' code; timm has 1e-6
_VIT_MODULES = ("vision_transformer", "deit")  # timm's, whose models take all of our sizes


def list_teachers(pattern: str = "*") -> list[str]:
    """Names that `create_teacher` knows: the CIFAR ResNets, then timm's models.

    Args:
        pattern: a shell pattern such as ``resnet*``.
    """
    names = [f"cifar_resnet{depth}" for depth in CIFAR_DEPTHS] + list(timm.list_models())
    return fnmatch.filter(names, pattern)


# timm's modules with classifiers that no cosine one can replace, with several of them, and with networks that need
# more than 32 pixels a side.
_OTHER_HEADS = ("cpubone", "dla", "dpn", "iformer", "metaformer", "resnetv2", "sequencer", "vision_transformer_sam")
_UNEVEN = ("vit_giant_patch14_dinov2", "vit_giant_patch14_reg")  # whose gates halve few widths but their own
_SEVERAL_HEADS = ("levit",)
_LARGE = ("byoanet", "csatv2", "deepseek_vit", "ghostnet", "inception_resnet_v2", "inception_v3", "inception_v4")


def words_for(name: str) -> str | None:
    """What to type for a network of timm's: its name, and what must stand beside it.

    Returns:
        Overrides of `deitlt train`; None for a network that has no classifier, or several that answer while it trains.
    """
    if is_model_in_modules(name, _VIT_MODULES):
        sister = _sister(name, distilled=True)
        can_distil = "_distilled" in sister and is_model_in_modules(sister, _VIT_MODULES)
        beside = [] if can_distil else ["method=vit"]
        beside += ["student.model.width=null"] if name.startswith(_UNEVEN) else []
        return " ".join([f"student.model.name={name}", *beside])
    known = timm.get_pretrained_cfg(name, allow_unregistered=False)
    has_one = known is not None and isinstance(known.classifier, str) and not name.endswith("_enc")
    if known is None or not has_one or is_model_in_modules(name, _SEVERAL_HEADS):
        return None
    words = [f"teacher.model.name={name}"]
    if is_model_in_modules(name, _OTHER_HEADS):
        words += ["teacher.model.head=linear", "teacher/loss=cross_entropy"]
    if known.fixed_input_size or is_model_in_modules(name, _LARGE) or name == "bat_resnext26ts":
        words.append(f"teacher.image_size={known.input_size[-1]}")
    return " ".join(words)


def create_teacher(num_classes: int, name: str = "cifar_resnet32", head: Head = "linear") -> nn.Module:
    """A CNN with fresh weights: images [B, 3, H, W] -> logits [B, C].

    Args:
        num_classes: classes C; 0 for no classifier: the output is then the pooled features.
        name: one of `list_teachers()`.
        head: 'linear', or 'cosine' for LDAM, whose logits are cosines.

    Raises:
        ConfigError: if no model has that name, or its own head cannot be replaced.
    """
    if match := _CIFAR_NAME.fullmatch(name):
        if int(match[1]) not in CIFAR_DEPTHS:
            raise ConfigError(f"teacher.model.name={name}: {nearest(name, list_teachers('cifar_*'))}")
        return answer_in_float32(CifarResNet(num_classes, int(match[1]), head))
    if not timm.is_model(name):
        raise ConfigError(f"teacher.model.name={name} is no model; {nearest(name, list_teachers(), _SEE_CNNS)}")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    if head == "cosine":
        _replace_by_cosine(network, num_classes, name)
    return answer_in_float32(network)


def _replace_by_cosine(network: nn.Module, num_classes: int, name: str) -> None:
    """Put a cosine classifier where timm's linear one is, whatever that model calls it."""
    classifier = cast(Any, network).get_classifier()
    if not isinstance(classifier, nn.Linear):
        raise ConfigError(
            f"teacher.model.name={name} has no linear classifier that a cosine one could replace; "
            "type teacher.model.head=linear, or another model such as teacher.model.name=resnet50."
        )
    path = next(path for path, module in network.named_modules() if module is classifier)
    network.set_submodule(path, CosineLinear(classifier.in_features, num_classes))


def create_student(
    num_classes: int,
    name: str = "deit_base_patch16_224",
    image_size: int = 224,
    patch_size: int = 16,
    distilled: bool = True,
    width: int | None = None,
    depth: int | None = None,
    heads: int | None = None,
    drop_path: float = 0.1,
    checkpointing: bool = False,
    stem: Stem = "patch",
) -> StudentNetwork:
    """A vision transformer with fresh weights.

    Args:
        num_classes: classes C.
        name: timm's name of a vision transformer; its `_distilled` sister is taken if `distilled`.
        image_size: pixels a side.
        patch_size: pixels a side of a patch; must divide `image_size`.
        distilled: with a distillation token (DeiT) or without (ViT).
        width: length of a token; None keeps the named model's.
        depth: number of blocks; None keeps the named model's.
        heads: attention heads; None takes the named model's, or one for 64 of `width`.
        drop_path: probability of dropping a block, rising linearly to this in the last one; of DeiT-III's networks
            the same in each, as in their code, which timm's of the same name do not follow.
        checkpointing: gradient checkpointing of each block: less memory, more time, the same gradients
            (Chen et al., 2016).
        stem: 'patch', the image cut into patches as in the paper, or 'conv', a `ConvStem` in its place.

    Raises:
        ConfigError: if the model is unknown or no vision transformer, or the sizes do not fit.
    """
    if heads is None and width is not None:
        heads = max(1, width // 64)
    check_sizes(image_size, patch_size, width, heads, stem)
    name_in_timm = _timm_name(name, distilled)
    is_deit3 = name_in_timm.startswith("deit3_")
    sizes: dict[str, Any] = {"embed_dim": width, "depth": depth, "num_heads": heads}
    if stem == "conv":
        sizes["embed_layer"] = conv_embedding(patch_size)
    sizes["init_values"] = DEIT3_LAYER_SCALE if is_deit3 else None
    try:
        vit = timm.create_model(
            name_in_timm,
            pretrained=False,
            num_classes=num_classes,
            img_size=image_size,
            patch_size=1 if stem == "conv" else patch_size,
            drop_path_rate=drop_path,
            dynamic_img_size=True,  # local crops are smaller: their position embedding is resampled
            **{key: value for key, value in sizes.items() if value is not None},
        )
    except AssertionError as error:  # only the named model knows its own width
        if "num_heads" not in str(error):
            raise
        raise ConfigError(
            f"student.model.heads={heads} does not divide the width of {name}; "
            "type student.model.heads=null, which takes the model's own."
        ) from error
    if is_deit3 and drop_path:
        for block in cast(Any, vit).blocks:
            block.drop_path1, block.drop_path2 = DropPath(drop_path), DropPath(drop_path)
    network = StudentNetwork(cast(VisionTransformer, vit))
    network.vit.set_grad_checkpointing(checkpointing)
    return answer_in_float32(network)


def check_sizes(
    image_size: int, patch_size: int, width: int | None = None, heads: int | None = None, stem: Stem = "patch"
) -> None:
    """Raise ConfigError where patches do not tile the image, heads do not divide the width, or a stem has no such."""
    if patch_size < 1 or image_size % patch_size:
        raise ConfigError(
            f"student.model.patch_size={patch_size} does not divide the image of {image_size} pixels and "
            f"would drop some; type one of {_divisors(image_size)}."
        )
    if stem == "conv" and (patch_size < 2 or patch_size & (patch_size - 1)):
        raise ConfigError(
            f"student.model.patch_size={patch_size} cannot be had by convolutions that halve the image; type "
            f"student.model.patch_size={1 << max(1, patch_size.bit_length() - 1)}, or student.model.stem=patch."
        )
    if width is not None and heads is not None and width % heads:
        raise ConfigError(
            f"student.model.heads={heads} does not divide student.model.width={width}; type one of {_divisors(width)}."
        )


def check_local_size(local_size: int, patch_size: int) -> None:
    """Raise ConfigError where patches do not tile a local crop."""
    if local_size % patch_size:
        raise ConfigError(
            f"student.transforms.train.local_size={local_size} cannot be cut into patches of {patch_size} pixels; "
            f"type student.transforms.train.local_size={max(1, local_size // patch_size) * patch_size}."
        )


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)


def _timm_name(name: str, distilled: bool) -> str:
    chosen = _sister(name, distilled)
    if is_model_in_modules(chosen, _VIT_MODULES) and ("_distilled" in chosen) == distilled:
        return chosen
    known = timm.list_models("*_distilled_patch*" if distilled else ["vit_*", "deit*_patch*"], module=_VIT_MODULES)
    with_token = " with a distillation token" if distilled else ""
    raise ConfigError(
        f"student.model.name={name} is no vision transformer{with_token} in timm; "
        f"{nearest(name, (known_name.replace('_distilled', '') for known_name in known), _SEE_VITS)}"
    )


def answer_in_float32(network: N) -> N:
    """Have a network's heads compute in float32 under autocast, too, in training as well; the network itself.

    In bfloat16 about one image in fifty has equal logits, of which `argmax` takes the first: the class with the most
    images, where classes are sorted by count. Without autocast nothing changes, nor does a network that does not say by
    `get_classifier()`, as timm's do, which its heads are.
    """
    own = getattr(network, "get_classifier", None)
    found = own() if callable(own) else ()
    for head in found if isinstance(found, tuple) else (found,):  # a distilled transformer has two
        head.__class__ = _outside_autocast(cast(Any, type(head)))
    return network


class _OutsideAutocast(nn.Module):
    """What a head of any class becomes: its weights, names and copies stay as they are."""

    def forward(self, features: Tensor, *others: Any, **options: Any) -> Any:
        kind = features.device.type
        if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
            return super().forward(features, *others, **options)
        with torch.autocast(kind, enabled=False):
            return super().forward(features.float(), *others, **options)


@cache
def _outside_autocast(head: type[nn.Module]) -> type[nn.Module]:
    return type(head.__name__, (_OutsideAutocast, head), {})


def _sister(name: str, distilled: bool) -> str:
    """timm's name of the transformer with the token of distillation, or without it; there may be none."""
    plain = name.replace("_distilled", "", 1)
    return plain.replace("_patch", "_distilled_patch", 1) if distilled else plain


def in_class_order(logits: Tensor, class_order: Tensor | None) -> Tensor:
    """logits: [B, C] in a network's own class order -> in the data's; class_order: [C], or None for the same order."""
    return logits if class_order is None else logits.index_select(1, class_order.to(logits.device))


def as_logits(outputs: Tensor | TokenLogits, class_order: Tensor | None, logit_scale: float = 1.0) -> TokenLogits:
    """A network's outputs, [B, C] a token -> float32 logits in the order of the data's classes; a teacher's as CLS."""
    if isinstance(outputs, Tensor):
        return TokenLogits(in_class_order(logit_scale * outputs.float(), class_order), None)
    dist = None if outputs.dist is None else in_class_order(outputs.dist.float(), class_order)
    return TokenLogits(in_class_order(outputs.cls.float(), class_order), dist)


def entrances(network: nn.Module) -> list[nn.Module]:
    """The modules that images enter during training: the network itself, or what its `entrances()` returns."""
    own = getattr(network, "entrances", None)
    return list(own()) if callable(own) else [network]


def keep_channels_last(network: nn.Module) -> None:
    """Keep a CNN's weights and its input images in channels-last layout, which a GPU's matrix units need.

    Names, shapes and files of the weights stay the same.
    """
    network.to(memory_format=torch.channels_last)
    for entrance in entrances(network):
        entrance.register_forward_pre_hook(_channels_last)


def compile_network(network: nn.Module, **options: Any) -> None:
    """Compile a network in place, at its first call; weight names stay, and copies are not compiled.

    Each batch size gets its own graph, which is faster than a dynamic one: a recipe has few.

    Args:
        network: any.
        **options: for `torch.compile`.
    """
    for entrance in entrances(network):
        entrance.compile(**{"dynamic": False, **options})


def uncompiled() -> AbstractContextManager[Any]:
    """A context in which compiled networks run eagerly: an evaluation's batch sizes need no graphs of their own."""
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


@torch.compiler.disable  # type: ignore[untyped-decorator]  # one copy needs no graph
def _channels_last(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    images, *others = inputs
    return (images.contiguous(memory_format=torch.channels_last), *others)
