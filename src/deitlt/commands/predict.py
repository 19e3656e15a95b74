"""`deitlt predict`: a CSV row for each image, with its class and what each token thinks."""

import csv
import io
from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from torch.utils.data import DataLoader

from deitlt.data.file_checks import find_broken
from deitlt.data.folder import IMAGE_EXTENSIONS
from deitlt.data.images import FileImages
from deitlt.data.loading import EvaluationImages
from deitlt.data.samplers import EvaluationSampler
from deitlt.engine.experiments import named_recipe
from deitlt.engine.run_folder import write_text
from deitlt.engine.trained import TrainedNetwork, load_trained
from deitlt.errors import ConfigError, DataError
from deitlt.metrics import logits_by_token
from deitlt.transforms import evaluation_transform


def main(config: DictConfig) -> None:
    """Answer every image under `images` and write `output`."""
    console = Console()
    output = Path(config.output)
    if output.suffix != ".csv":
        raise ConfigError(f"output={output} is no CSV file; type output={output.with_suffix('.csv')}.")
    trained = load_trained(
        config.checkpoint, config.stage, config.ema, config.accelerator, named_recipe(config), config.label_order
    )
    files, skipped = image_files(Path(config.images), config.on_broken)
    rows = predict(trained, files, config.top, config.batch_size, config.num_workers)
    write_text(output, as_csv(rows))
    also = f", {skipped} broken files left out" if skipped else ""
    console.print(f"{len(rows)} images -> {output}{also}", highlight=False, soft_wrap=True, markup=False)


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
    source = FileImages([str(path) for path in found], [0] * len(found))
    broken = find_broken(source)
    if broken and on_broken != "skip":
        raise DataError(f"{broken[0]} cannot be decoded as an image; replace it, or type on_broken=skip.")
    if len(broken) == len(found):
        raise DataError(f"None of the {len(found)} images under images={place} can be decoded; type another folder.")
    return [str(path) for path in found if str(path) not in set(broken)], len(broken)


def predict(
    trained: TrainedNetwork, files: list[str], top: int, batch_size: int, num_workers: int
) -> list[dict[str, str]]:
    """A row for each file: the class and probability of the mean answer, then each token's likeliest classes."""
    card = trained.card
    source = FileImages(files, [0] * len(files))
    images = EvaluationImages(source, evaluation_transform(card.image_size, card.normalisation, card.crop_share))
    order = EvaluationSampler(source, 1, 0)
    loader = DataLoader(images, batch_size=batch_size, sampler=order, num_workers=num_workers)
    top = min(top, len(card.class_names))
    rows: list[dict[str, str]] = []
    for batch, _ in loader:
        answers = {name: logits.softmax(dim=1) for name, logits in logits_by_token(trained.answer(batch)).items()}
        rows += [
            _row(files[len(rows) + i], {k: v[i] for k, v in answers.items()}, card.class_names, top)
            for i in range(len(batch))
        ]
    return rows


def _row(file: str, answers: dict[str, torch.Tensor], names: list[str], top: int) -> dict[str, str]:
    """answers: token -> probabilities [C]; the last token, AVG where there is one, decides."""
    decisive = list(answers.values())[-1]
    row = {"file": file, "class": names[int(decisive.argmax())], "probability": f"{float(decisive.max()):.4f}"}
    for token, probabilities in answers.items():
        likeliest = probabilities.topk(top)
        for place, (value, index) in enumerate(zip(likeliest.values, likeliest.indices, strict=True), start=1):
            row[f"{token}_{place}"] = names[int(index)]
            row[f"{token}_{place}_probability"] = f"{float(value):.4f}"
    return row


def as_csv(rows: list[dict[str, str]]) -> str:
    """The rows as CSV text with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
