"""Which parts an analysis has, and running them on a trained network with images of its data module."""

import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deitlt.analysis.attention import (
    AttentionDistance,
    attention_rollout,
    device_of,
    evaluating,
    patch_grid,
    token_rows,
    watched,
)
from deitlt.analysis.experts import ExpertDiversity, TokenWinners
from deitlt.analysis.features import FeatureCovariance, ranks_as_plain
from deitlt.analysis.sharpness import sharpness, truth_losses
from deitlt.checkpoints import read_checkpoint
from deitlt.data import ImageDataset, LongTailDataModule
from deitlt.data.samplers import choose_evenly
from deitlt.errors import ConfigError, nearest
from deitlt.metrics import TokenCalibration
from deitlt.models import StudentNetwork, as_logits
from deitlt.transforms import denormalise
from deitlt.types import IGNORED, DataInfo, TokenLogits

STUDENT_PARTS = ("attention", "rank", "diversity", "winners")
PASS_PARTS = (*STUDENT_PARTS, "calibration")  # measured in one forward pass over the images
PARTS = (*PASS_PARTS, "agreement", "sharpness", "rollout")
TEACHER_PARTS = ("rank", "calibration", "sharpness")


def analyse(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    info: DataInfo,
    parts: Collection[str] = PASS_PARTS,
    class_order: Tensor | None = None,
    logit_scale: float = 1.0,
) -> dict[str, Any]:
    """Run a network over images once, in evaluation mode, and measure the parts that it has.

    Memory does not grow with the images. A student without a distillation token has no diversity and no winners,
    and its parts have no ``dist``; a network that pools its patches has no ``cls`` among tokens; a teacher has the
    rank of its features and calibration.

    Args:
        network: a student, or a teacher that `create_teacher` or `create_paco_teacher` makes; it runs where its
            weights are, and its modes are put back afterwards.
        batches: images [B, 3, H, W], normalised, of one size, on any device; labels [B], class ids, or `IGNORED`
            where an image counts nowhere.
        info: the classes and their groups.
        parts: of `PASS_PARTS` those to measure.
        class_order: [C], where each class of `info` stands among the network's logits; None: the same order.
        logit_scale: factor that makes logits of a teacher's outputs, where they are cosines.

    Returns:
        ``attention_distance`` (`AttentionDistance`), ``rank`` (`ranks_as_plain`), ``diversity`` (`ExpertDiversity`),
        ``winners`` (`TokenWinners`), ``calibration`` (`TokenCalibration`), as far as they were measured, in plain
        values. What was counted of a token's decisions is NaN where one of its logits was not finite.

    Raises:
        ConfigError: an unknown part, or attention of a kind that cannot be watched.
    """
    for part in parts:
        if part not in PASS_PARTS:
            raise ConfigError(f"parts=[{part}] names nothing to measure; {nearest(part, PASS_PARTS)}")
    device, both = device_of(network), "dist" in getattr(network, "tokens", ())
    seen = _StudentHooks(network, info, parts) if isinstance(network, StudentNetwork) else _TeacherHook(network)
    tokens = () if "calibration" not in parts else ("cls", "dist", "avg") if both else ("cls",)
    calibration = TokenCalibration(info.num_classes, info.groups, tokens).to(device)
    finite: dict[str, Tensor] = {}
    with evaluating(network), seen.listening():
        for images, labels in _counted(batches, device):
            logits = as_logits(network(images), class_order, logit_scale)
            if isinstance(seen, _StudentHooks):
                seen.count(logits, labels)
            calibration.update(logits, labels)
            for token, values in logits._asdict().items():
                if values is not None:  # kept on the device: no wait
                    finite[token] = finite.get(token, True) & values.isfinite().all()
    found = seen.findings() | {"calibration": calibration.compute()}
    found = {name: part for name, part in found.items() if part and (name != "rank" or "rank" in parts)}
    return _without_decisions(found, {token for token, whole in finite.items() if not whole})


class _StudentHooks:
    """What a student's blocks show during a forward pass."""

    def __init__(self, network: StudentNetwork, info: DataInfo, parts: Collection[str]) -> None:
        self.network, self.rows = network, token_rows(network)
        self.attention = "attention" in parts
        self.distance: AttentionDistance | None = None
        self.ranks: dict[str, list[FeatureCovariance]] = {name: [] for name in self.rows if "rank" in parts}
        both = "dist" in self.rows
        self.diversity = ExpertDiversity(info.num_classes, info.groups) if both and "diversity" in parts else None
        self.winners = TokenWinners(info.num_classes) if both and "winners" in parts else None
        self.features = torch.empty(0, 2, 0)  # of the batch at hand, as the heads read them

    @contextmanager
    def listening(self) -> Iterator[None]:
        on_tokens = self._add_tokens if self.ranks or self.diversity else None
        on_features = self._keep_features if self.diversity else None
        hook = self.network.register_forward_pre_hook(self._begin)
        try:
            with watched(self.network, self._add_attention if self.attention else None, on_tokens, on_features):
                yield
        finally:
            hook.remove()

    def count(self, logits: TokenLogits, classes: Tensor) -> None:
        """Add what the batch at hand was answered, [B, C] a token; classes: [B], the true ones."""
        if self.diversity is not None:
            self.diversity.update(self.features, logits, classes)
        if self.winners is not None:
            self.winners.update(logits, classes)

    def findings(self) -> dict[str, Any]:
        return {
            "attention_distance": {} if self.distance is None else self.distance.as_plain(),
            "rank": ranks_as_plain(self.ranks),
            "diversity": {} if self.diversity is None else self.diversity.as_plain(),
            "winners": {} if self.winners is None else self.winners.as_plain(),
        }

    def _begin(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if self.distance is None:  # the size of the images says where the patches are
            grid, patch = patch_grid(self.network, inputs[0])
            self.distance = AttentionDistance(grid, patch, self.rows, self.network.vit.num_prefix_tokens)

    def _add_attention(self, block: int, queries: Tensor, keys: Tensor) -> None:
        assert self.distance is not None, "attention before images"
        self.distance.update(block, queries, keys)

    def _add_tokens(self, block: int, tokens: Tensor) -> None:
        for name, covariances in self.ranks.items():
            if block == len(covariances):
                covariances.append(FeatureCovariance())
            covariances[block].update(tokens[:, self.rows[name]])
        if self.diversity is not None:
            self.diversity.update_block(block, tokens[:, :2])

    def _keep_features(self, features: Tensor) -> None:
        self.features = features[:, :2]


class _TeacherHook:
    """The rank of what goes into a teacher's classifier, [B, D]; of a network that names none, nothing."""

    def __init__(self, network: nn.Module) -> None:
        self.classifier, self.covariance = _classifier(network), FeatureCovariance()

    @contextmanager
    def listening(self) -> Iterator[None]:
        hook = None if self.classifier is None else self.classifier.register_forward_pre_hook(self._add)
        try:
            yield
        finally:
            if hook is not None:
                hook.remove()

    def findings(self) -> dict[str, Any]:
        rank = self.covariance.rank()
        return {} if rank is None else {"rank": {"width": self.covariance.width, "features": rank._asdict()}}

    def _add(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features = inputs[0]
        self.covariance.update(features if features.ndim == 2 else features.flatten(2).mean(dim=2))


def _classifier(network: nn.Module) -> nn.Module | None:
    if hasattr(network, "tokens") or not hasattr(network, "get_classifier"):  # a student of one's own, or a teacher
        return None
    head = cast(Any, network).get_classifier()
    return cast(nn.Module, head[0] if isinstance(head, tuple) else head)  # a distilled transformer has two


def _counted(batches: Iterable[tuple[Tensor, Tensor]], device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Images [B, 3, H, W] and labels [B] on a device, without the images whose label is `IGNORED`."""
    for images, labels in batches:
        kept = labels != IGNORED
        if not kept.all():
            images, labels = images[kept.to(images.device)], labels[kept]
        if len(labels):
            yield images.to(device, non_blocking=True), labels.to(device, non_blocking=True)


def _without_decisions(found: dict[str, Any], broken: Collection[str]) -> dict[str, Any]:
    """Findings with NaN where broken tokens' decisions were counted: the argmax of NaNs would be class 0."""
    if broken and "winners" in found:
        found["winners"] = math.nan
    if broken and "diversity" in found:
        found["diversity"] = {**found["diversity"], "disagreement": math.nan}
    if broken and "calibration" in found:
        lost = {*broken, "avg"}
        found["calibration"] = {t: math.nan if t in lost else errors for t, errors in found["calibration"].items()}
    return found


def split_of(datamodule: LongTailDataModule, split: str) -> ImageDataset:
    """The images of 'train', 'val' or 'test'.

    Raises:
        ConfigError: if the data have no such split.
    """
    source = {"test": datamodule.splits.test, "val": datamodule.splits.val, "train": datamodule.splits.train}[split]
    if source is None:
        raise ConfigError("split=val, but these data were trained on without a validation split; type split=test.")
    return source


def training_sharpness(
    network: nn.Module,
    datamodule: LongTailDataModule,
    images: int,
    seed: int,
    class_order: Tensor | None = None,
    logit_scale: float = 1.0,
    **options: Any,
) -> dict[str, dict[str, float]]:
    """Sharpness of the loss on training images, where training looked for a flat minimum.

    Args:
        network: a teacher or a student.
        datamodule: its data.
        images: how many at most, as evenly over the classes as can be.
        seed: of their choice and of all random vectors.
        class_order: as in `analyse`.
        logit_scale: as in `analyse`.
        **options: of `sharpness`.

    Returns:
        ``all`` and each group -> ``eigenvalue``, ``trace``, ``trace_error``, ``images``.
    """

    def loss(outputs: Tensor | TokenLogits, targets: Tensor) -> Tensor:
        return truth_losses(as_logits(outputs, class_order, logit_scale), targets)

    source = datamodule.splits.train
    batches = datamodule.evaluation_batches(source, choose_evenly(source.labels, images, seed), 64)
    found = sharpness(network, batches, datamodule.info.groups, loss, seed=seed, **options)
    return {name: asdict(value) for name, value in found.items()}


class Rollout(NamedTuple):
    """One image and its tokens' attention rollouts.

    image: [H, W, 3], floats in [0, 1]. shares: 'cls', 'dist' -> [h, w], a share for each patch. caption: the true
    class and what the tokens decide.
    """

    image: NDArray[Any]
    shares: dict[str, NDArray[Any]]
    caption: str


def rollouts_of(
    network: StudentNetwork, datamodule: LongTailDataModule, split: str, images: int, class_order: Tensor | None = None
) -> list[Rollout | None]:
    """An image of each of some classes, from the most to the least frequent, with its tokens' rollouts.

    None stands for an image whose attention is not finite.

    Args:
        network: a student.
        datamodule: its data.
        split: 'train', 'val' or 'test'.
        images: how many at most.
        class_order: as in `analyse`.
    """
    source, info = split_of(datamodule, split), datamodule.info
    chosen = _one_of_each(source.labels, info, images)
    batch, labels = next(iter(datamodule.evaluation_batches(source, chosen, len(chosen))))
    shares = attention_rollout(network, batch)
    with evaluating(network):
        logits = as_logits(network(batch.to(device_of(network))), class_order)
    pictures = denormalise(batch, datamodule.normalisation).permute(0, 2, 3, 1).numpy()
    found: list[Rollout | None] = []
    for i, label in enumerate(labels.tolist()):
        of_image = {token: values[i].numpy() for token, values in shares.items()}
        whole = all(np.isfinite(values).all() for values in of_image.values())
        found.append(Rollout(pictures[i], of_image, _caption(logits, label, i, info)) if whole else None)
    return found


def _one_of_each(labels: NDArray[np.int64], info: DataInfo, images: int) -> NDArray[np.int64]:
    """The first image of classes that lie evenly between the most and the least frequent."""
    by_count = sorted(set(labels.tolist()), key=lambda c: (-info.counts[c], c))
    places = np.unique(np.linspace(0, len(by_count) - 1, min(images, len(by_count))).round().astype(int))
    return np.array([np.flatnonzero(labels == by_count[place])[0] for place in places])


def _caption(logits: TokenLogits, label: int, i: int, info: DataInfo) -> str:
    """The true class, its training images, and what each token says."""
    said = [
        f"{name}: {info.class_names[int(of[i].argmax())] if of[i].isfinite().all() else 'NaN or infinite'}"
        for name, of in (("CLS", logits.cls), ("DIST", logits.dist))
        if of is not None
    ]
    return "\n".join([info.class_names[label], f"{info.counts[label]:,} in training", *said])


def epochs_trained(checkpoint: Path) -> int | None:
    """How many epochs a checkpoint of ours had finished; None of another's."""
    try:
        loops = read_checkpoint(checkpoint, external=True)["loops"]
        return int(loops["fit_loop"]["epoch_progress"]["current"]["processed"])
    except (KeyError, TypeError):
        return None
