"""The parts of an analysis, measured on one trained network."""

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from deitlt.analysis import (
    STUDENT_PARTS,
    FiniteAnswers,
    analyse_student,
    analyse_teacher,
    attention_rollout,
    sharpness,
    truth_losses,
    without_decisions,
)
from deitlt.checkpoints import read_checkpoint
from deitlt.data import ImageDataset, LongTailDataModule
from deitlt.data.samplers import choose_evenly
from deitlt.engine.analysis_callback import ask_teacher
from deitlt.engine.analysis_subjects import Subject
from deitlt.engine.building import build_data, build_labeller
from deitlt.engine.trained import TrainedNetwork
from deitlt.errors import ConfigError
from deitlt.figures import RolloutExample
from deitlt.metrics import TokenCalibration
from deitlt.models import StudentNetwork, in_class_order
from deitlt.transforms import denormalise
from deitlt.types import DataInfo, TokenLogits

Plain = dict[str, Any]


def measure_parts(
    subject: Subject, datamodule: LongTailDataModule, parts: Collection[str], config: DictConfig
) -> Plain:
    """Measure the parts that a network has.

    Args:
        subject: the network.
        datamodule: data in the order of its classes.
        parts: those that were asked for.
        config: analyze.yaml's.

    Returns:
        The analysis in plain values; what was not measured is absent.
    """
    trained = subject.trained
    seconds: dict[str, float] = {}
    wanted = [part for part in parts if part not in subject.lacks]
    found: Plain = {"kind": trained.card.kind, "checkpoint": str(trained.path)}
    if (epoch := epochs_trained(trained)) is not None:
        found["epoch"] = epoch
    found["split"] = config.split
    if set(wanted) & {*STUDENT_PARTS, "calibration"}:
        with _timed(seconds, "pass"):
            found |= _one_pass(trained, datamodule, wanted, config)
    if "agreement" in wanted:
        with _timed(seconds, "agreement"):
            found |= _agreement(subject, config.agreement.images)
    if "sharpness" in wanted:
        with _timed(seconds, "sharpness"):
            found["sharpness"] = _sharpness(trained, datamodule, config)
    return found | {"seconds": seconds}


def epochs_trained(trained: TrainedNetwork) -> int | None:
    """How many epochs a checkpoint of ours had finished; None of another's."""
    try:
        loops = read_checkpoint(trained.path, foreign=True)["loops"]
        return int(loops["fit_loop"]["epoch_progress"]["current"]["processed"])
    except (KeyError, TypeError):
        return None


def split_of(datamodule: LongTailDataModule, split: str) -> ImageDataset:
    """The images of a split.

    Raises:
        ConfigError: if the data have none.
    """
    source = {"test": datamodule.splits.test, "val": datamodule.splits.val, "train": datamodule.splits.train}[split]
    if source is None:
        raise ConfigError("split=val, but these data were trained on without a validation split; type split=test.")
    return source


def rollout_examples(
    trained: TrainedNetwork, datamodule: LongTailDataModule, split: str, rows: int
) -> list[RolloutExample | None]:
    """An image of each of some classes, from the most to the least frequent, with its tokens' rollouts.

    None stands for an image whose attention is no number.

    Args:
        trained: a student.
        datamodule: data in the order of its classes.
        split: whose images.
        rows: how many.
    """
    network, source, info = trained.network, split_of(datamodule, split), datamodule.info
    assert isinstance(network, StudentNetwork)
    chosen = _one_of_each(source.labels, info, rows)
    images, labels = next(iter(datamodule.evaluation_batches(source, chosen, len(chosen))))
    shares, answers = attention_rollout(network, images), trained.answer(images)
    pictures = denormalise(images, datamodule.normalisation).permute(0, 2, 3, 1).numpy()
    rollouts = [{token: values[i].numpy() for token, values in shares.items()} for i in range(len(chosen))]
    whole = [all(np.isfinite(values).all() for values in one.values()) for one in rollouts]
    return [
        RolloutExample(pictures[i], rollouts[i], _words(answers, labels, i, info)) if whole[i] else None
        for i in range(len(chosen))
    ]


def _one_pass(
    trained: TrainedNetwork, datamodule: LongTailDataModule, parts: Collection[str], config: DictConfig
) -> Plain:
    """All that one forward pass over the split tells."""
    source, info, network = split_of(datamodule, config.split), datamodule.info, trained.network
    wanted = len(source) if config.images == "all" else config.images
    chosen = np.sort(choose_evenly(source.labels, wanted, seed=0))
    batches = datamodule.evaluation_batches(source, chosen, config.batch_size, config.num_workers)
    tokens = ("cls", "dist", "avg") if "dist" in getattr(network, "tokens", ()) else ("cls",)
    calibration = TokenCalibration(info.num_classes, info.groups, tokens).to(trained.device)
    answers = FiniteAnswers()

    def count(logits: TokenLogits, labels: Tensor) -> None:
        answers.update(logits)
        calibration.update(logits, labels)

    if isinstance(network, StudentNetwork):
        of_pass = [part for part in parts if part in STUDENT_PARTS]
        found = analyse_student(network, batches, info, of_pass, trained.class_order, on_logits=count).as_plain()
    else:

        def count_one(logits: Tensor, labels: Tensor) -> None:
            count(TokenLogits(in_class_order(trained.card.logit_scale * logits, trained.class_order), None), labels)

        plain = analyse_teacher(network, batches, on_logits=count_one).as_plain()
        found = plain if "rank" in parts else {}
    if "calibration" in parts:
        found = {**found, "calibration": calibration.compute()}
    return {"images": len(chosen), **without_decisions(found, answers.broken)}


def _agreement(subject: Subject, images: int) -> Plain:
    """What the student's teacher says of the images that it was shown, made as in training."""
    assert subject.stage is not None
    datamodule = build_data(subject.stage)
    datamodule.setup()
    datamodule.labeller = build_labeller(subject.stage, datamodule)
    return ask_teacher(subject.stage, images, datamodule, subject.trained.device)


def _sharpness(trained: TrainedNetwork, datamodule: LongTailDataModule, config: DictConfig) -> Plain:
    """Of the training images' loss, for that is what training made flat."""
    options, source, order = config.sharpness, datamodule.splits.train, trained.class_order
    scale = 1.0 if isinstance(trained.network, StudentNetwork) else trained.card.logit_scale

    def loss(answers: Tensor | TokenLogits, targets: Tensor) -> Tensor:
        if isinstance(answers, Tensor):
            return truth_losses(in_class_order(answers, order), targets, scale)
        cls, dist = (None if token is None else in_class_order(token, order) for token in answers)
        assert cls is not None
        return truth_losses(TokenLogits(cls, dist), targets)

    chosen = choose_evenly(source.labels, options.images, options.seed)
    batches = datamodule.evaluation_batches(source, chosen, config.batch_size)
    found = sharpness(
        trained.network,
        batches,
        datamodule.info.groups,
        loss,
        tolerance=options.tolerance,
        products=options.products,
        probes=options.probes,
        seed=options.seed,
    )
    return {name: value.as_plain() for name, value in found.items()}


def _one_of_each(labels: np.ndarray, info: DataInfo, rows: int) -> np.ndarray:
    """The first image of classes that lie evenly between the most and the least frequent."""
    by_count = sorted(set(labels.tolist()), key=lambda c: (-info.counts[c], c))
    places = np.unique(np.linspace(0, len(by_count) - 1, min(rows, len(by_count))).round().astype(int))
    return np.array([np.flatnonzero(labels == by_count[place])[0] for place in places])


def _words(answers: TokenLogits, labels: Tensor, i: int, info: DataInfo) -> str:
    """The true class, its training images, and what each token says."""
    true = int(labels[i])
    tokens = [("CLS", answers.cls), ("DIST", answers.dist)]
    said = [f"{name}: {_decision(logits[i], info)}" for name, logits in tokens if logits is not None]
    return "\n".join([f"{info.class_names[true]}", f"{info.counts[true]:,} in training", *said])


def _decision(logits: Tensor, info: DataInfo) -> str:
    """The class that logits [C] decide for; the largest of NaNs would be class 0."""
    return info.class_names[int(logits.argmax())] if logits.isfinite().all() else "NaN or infinite"


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    began = time.monotonic()
    yield
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds[part] = round(time.monotonic() - began, 2)
