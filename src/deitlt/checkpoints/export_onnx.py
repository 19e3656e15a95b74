"""ONNX: written by PyTorch's exporter, then asked by onnxruntime before anybody else asks it."""

import importlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from deitlt.checkpoints.export_graph import INPUT, ExportedNetwork, check_answers
from deitlt.errors import ConfigError

PACKAGES = ("onnx", "onnxscript", "onnxruntime")  # the optional extra deitlt[export]


def require_onnx() -> None:
    """Raise ConfigError where what ONNX needs is not installed."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"formats=[onnx] needs {' and '.join(missing)}, which this installation lacks; type pip install "
            "'deitlt[export]', or leave onnx out, as in formats=[safetensors,torch_export]."
        )


def write_onnx(
    program: ExportedProgram, network: ExportedNetwork, metadata: Mapping[str, str], image_size: int, path: Path
) -> None:
    """Write the program as an ONNX file that takes any number of images, and compare its answers with PyTorch's.

    Weights lie in the file itself, or in one beside it where they exceed the 2 GB that it can hold.

    Raises:
        CheckpointError: if onnxruntime answers otherwise than the network.
    """
    with torch.no_grad():
        outputs = list(network(torch.zeros(1, 3, image_size, image_size)))
    with _less_talk():
        written = torch.onnx.export(
            program,
            input_names=[INPUT],
            output_names=outputs,
            dynamic_shapes=({0: "batch"},),
            dynamo=True,
            verbose=False,
        )
    assert written is not None
    for node in written.model.graph:
        node.metadata_props.clear()  # lines of code, and where they stood in whose files
    written.model.metadata_props.update(metadata)
    written.save(path)
    session = _session(path)

    def answer(pixels: Tensor) -> dict[str, Tensor]:
        found = session.run(outputs, {INPUT: pixels.numpy()})
        return {name: torch.from_numpy(logits) for name, logits in zip(outputs, found, strict=True)}

    check_answers(network, answer, image_size, path.name)


@contextmanager
def _less_talk() -> Iterator[None]:
    """Without what the exporter logs of each node that it could have simplified."""
    loggers = [logging.getLogger(name) for name in ("onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _session(path: Path) -> Any:
    """onnxruntime's on the CPU; imported only here, for it is optional."""
    runtime = importlib.import_module("onnxruntime")
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
