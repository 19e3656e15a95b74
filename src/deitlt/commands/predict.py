"""`deitlt predict`: a CSV row for each image, with its class and what each token predicts."""

import csv
import io
from pathlib import Path

from omegaconf import DictConfig

from deitlt.errors import ConfigError


def main(config: DictConfig) -> None:
    """Classify every image under `images` and write `output`."""
    output = Path(config.output)
    if output.suffix != ".csv":
        raise ConfigError(f"output={output} is no CSV file; type output={output.with_suffix('.csv')}.")
    from rich.console import Console

    from deitlt.engine.run_folder import write_text
    from deitlt.engine.trained import image_files, open_trained, predict

    trained = open_trained(config)
    files, skipped = image_files(Path(config.images), config.on_broken)
    rows = predict(trained, files, config.top, config.batch_size, config.num_workers)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(output, text.getvalue())
    also = f", {skipped} broken files left out" if skipped else ""
    Console().out(f"{len(rows)} images -> {output}{also}", highlight=False)
