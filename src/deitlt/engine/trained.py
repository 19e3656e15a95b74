"""Trained networks in the verbs: found, read, measured on data, and asked about images."""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.utils.data import DataLoader

from deitlt.checkpoints import ModelSpec, TrainedNetwork, find_checkpoint, load_trained, open_known_data
from deitlt.data import LongTailDataModule
from deitlt.data.file_checks import find_broken
from deitlt.data.folder import IMAGE_EXTENSIONS
from deitlt.data.images import FileImages
from deitlt.data.loading import EvaluationImages
from deitlt.data.samplers import EvaluationSampler
from deitlt.engine.stage_config import count_devices, plain
from deitlt.errors import ConfigError, DataError
from deitlt.metrics import Fusion, TokenAccuracy, fusions_for, logits_by_token
from deitlt.transforms import evaluation_transform


def chosen_recipe() -> str | None:
    """The name that the user gave as experiment=NAME, or None."""
    name: str | None = HydraConfig.get().runtime.choices.get("experiment")
    return name


def open_trained(
    config: DictConfig, path: Path | None = None, ema: bool | None = None, accelerator: str | None = None
) -> TrainedNetwork:
    """Read the network of a verb's configuration, or of the file `path`, onto its device.

    Args:
        config: with `checkpoint`, `stage`, `ema`, `accelerator` and `label_order`.
        path: the file; None finds the one that `checkpoint` and `stage` name.
        ema: in place of the configuration's.
        accelerator: in place of the configuration's.

    Raises:
        ConfigError: for an average of a teacher.
        CheckpointError: if the file is missing, unsafe or broken, or says too little of itself.
    """
    if path is None:
        path = find_checkpoint(config.checkpoint, (config.stage,), "stage")
    recipe = _named_recipe(config)
    is_gpu = count_devices(accelerator or config.accelerator, 1, "accelerator")[0] == "gpu"
    device = torch.device("cuda" if is_gpu else "cpu")
    return load_trained(path, config.ema if ema is None else ema, device, recipe, config.label_order)


def _named_recipe(config: DictConfig) -> dict[str, Any] | None:
    """The nodes of the recipe experiment=NAME, with its data where the user has them; None if none is named.

    Raises:
        ConfigError: if the recipe's data need a value that only the user has, such as their folder.
    """
    name = chosen_recipe()
    if name is None:
        return None
    recipe = config.copy()
    if recipe.get("data") is None:
        raise ConfigError(f"experiment={name} names no data; type data=CHOICE with it.")
    if config.data_root is not None:
        recipe.data.root = config.data_root
    if missing := sorted(OmegaConf.missing_keys(recipe.data)):
        key = missing[0].removeprefix("data.")
        typed = "data_root=FOLDER" if key == "root" else f"data.{key}=VALUE"
        raise ConfigError(f"experiment={name} has no data.{key}; type {typed} with it.")
    return {node: plain(recipe[node]) for node in ("data", "teacher", "student")}


def open_data(config: DictConfig, spec: ModelSpec) -> LongTailDataModule:
    """The checkpoint's own data, or those that were chosen, transformed as the network's spec says.

    Raises:
        DataError: if they cannot be read.
    """
    chosen = spec.data if config.get("data") is None else plain(config.data)
    if config.data_root is not None:
        place = "path" if chosen["name"] == "hf" else "root"
        if place not in chosen:
            raise ConfigError(
                f"data_root={config.data_root}, but the data {chosen['name']} have no folder; leave it out."
            )
        chosen = chosen | {place: config.data_root}
    datamodule = open_known_data(
        chosen,
        image_size=spec.image_size,
        evaluation=partial(evaluation_transform, crop_share=spec.crop_share),
        eval_batch_size=config.batch_size,
        num_workers=config.num_workers,
    )
    datamodule.normalisation = spec.normalisation
    try:
        datamodule.setup()
    except DataError as error:
        raise DataError(f"{str(error).rstrip('.')}; data that were moved: data_root=FOLDER.") from error
    return datamodule


def measure(trained: TrainedNetwork, datamodule: LongTailDataModule, owned: bool) -> dict[str, Any]:
    """Accuracies, per-class recalls and hits of each token on the test set; groups are those of the training data.

    Args:
        trained: the network.
        datamodule: the data.
        owned: whether they are those that the network was trained on, so that their validation split was held
            out from it, and fusions of the tokens may be fitted there.
    """
    info = trained.spec.info
    tokens: tuple[str, ...] = ("cls",)
    fusions: dict[str, Fusion] = {}
    if "dist" in getattr(trained.network, "tokens", ()):
        held_out = datamodule.whole_val_dataloader() if owned else None
        tokens = ("cls", "dist", "avg")
        fusions = fusions_for(trained.logits, held_out, info.groups)
    accuracy = TokenAccuracy(info.num_classes, info.groups, tokens, fusions, by_image=True)
    for images, targets in datamodule.test_dataloader():
        accuracy.update(trained.logits(images), targets)
    hits = accuracy.hits(accuracy.rights()[None])
    return {"accuracy": accuracy.compute(), "per_class": accuracy.per_class(), "hits": hits}


def image_files(place: Path, on_broken: str) -> tuple[list[str], int]:
    """The image files of a folder, sorted, and how many broken ones were left out.

    Raises:
        DataError: if there is none, or a broken one where on_broken is 'error'.
    """
    if not place.exists():
        raise DataError(f"images={place} does not exist; type images=FOLDER with a folder of images.")
    found = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.suffix.lower() in IMAGE_EXTENSIONS)
    if not found:
        raise DataError(f"images={place} holds no image ({', '.join(sorted(IMAGE_EXTENSIONS))}); type another folder.")
    broken = set(find_broken(FileImages([str(path) for path in found], [0] * len(found))))
    if broken and on_broken != "skip":
        raise DataError(f"{min(broken)} cannot be decoded as an image; replace it, or type on_broken=skip.")
    if len(broken) == len(found):
        raise DataError(f"None of the {len(found)} images under images={place} can be decoded; type another folder.")
    return [str(path) for path in found if str(path) not in broken], len(broken)


def predict(
    trained: TrainedNetwork, files: list[str], top: int, batch_size: int, num_workers: int
) -> list[dict[str, str]]:
    """A row for each file: the class and probability by the mean of the logits, then each token's likeliest classes."""
    spec = trained.spec
    source = FileImages(files, [0] * len(files))
    images = EvaluationImages(source, evaluation_transform(spec.image_size, spec.normalisation, spec.crop_share))
    order = EvaluationSampler(source, 1, 0)
    rows: list[dict[str, str]] = []
    for batch, _ in DataLoader(images, batch_size=batch_size, sampler=order, num_workers=num_workers):
        found = probabilities(trained, batch)
        for i in range(len(batch)):
            rows.append(as_row(files[len(rows)], {name: shares[i] for name, shares in found.items()}, spec, top))
    return rows


def probabilities(trained: TrainedNetwork, images: Tensor) -> dict[str, Tensor]:
    """images: [B, 3, H, W], normalised -> token, AVG last, or 'cls' alone -> [B, C], whose rows sum to 1."""
    return {name: logits.softmax(dim=1) for name, logits in logits_by_token(trained.logits(images)).items()}


def as_row(file: str, tokens: dict[str, Tensor], spec: ModelSpec, top: int) -> dict[str, str]:
    """tokens: name -> probabilities [C]; the last token, AVG where there is one, decides."""
    names, decisive = spec.class_names, list(tokens.values())[-1]
    row = {"file": file, "class": names[int(decisive.argmax())], "probability": f"{float(decisive.max()):.4f}"}
    for token, probabilities in tokens.items():
        likeliest = probabilities.topk(min(top, len(names)))
        for place, (value, index) in enumerate(zip(likeliest.values, likeliest.indices, strict=True), start=1):
            row[f"{token}_{place}"] = names[int(index)]
            row[f"{token}_{place}_probability"] = f"{float(value):.4f}"
    return row
