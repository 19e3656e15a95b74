"""The network that is exported: pixels in, named logits out, with everything between the two inside."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from deitlt.errors import CheckpointError
from deitlt.metrics import logits_by_token
from deitlt.types import Normalisation, TokenLogits

INPUT = "pixels"
CHECKED_BATCHES = (1, 3)  # neither is the size that the graph was traced with
TRACED_BATCH = 2  # 0 and 1 are sizes that the tracer would treat as special
TOLERANCE = 1e-4  # of the largest logit: what float32 leaves between two ways to sum


class ExportedNetwork(nn.Module):
    """A student or teacher behind its normalisation, whose answers have names.

    Args:
        network: normalised images [B, 3, S, S] -> `TokenLogits`, or logits [B, C].
        normalisation: statistics that its input is normalised with.
        logit_scale: what a teacher's answers are multiplied with before a softmax.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, normalisation: Normalisation, logit_scale: float = 1.0) -> None:
        super().__init__()
        self.network = network
        self.logit_scale = logit_scale
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(normalisation.std).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """pixels: [B, 3, S, S], RGB in [0, 1] -> logits [B, C] by name.

        A student answers `cls`, and with a distillation token `dist` and `avg`, the mean of the two logits; a
        teacher answers `logits`.
        """
        answer = self.network((pixels - self.mean) / self.std)
        if isinstance(answer, TokenLogits):
            return logits_by_token(answer)
        return {"logits": self.logit_scale * answer}


def trace(network: ExportedNetwork, image_size: int) -> ExportedProgram:
    """The network as a `torch.export` program that takes any number of images.

    Where in whose files a line of code stood is taken out: it is of no use elsewhere.
    """
    example = torch.rand(TRACED_BATCH, 3, image_size, image_size)
    program = torch.export.export(network, (example,), dynamic_shapes=({0: Dim("batch", min=1)},))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    return program


@torch.no_grad()
def check_answers(
    network: ExportedNetwork, answer: Callable[[Tensor], Mapping[str, Tensor]], image_size: int, name: str
) -> None:
    """Compare an exported file's answers with PyTorch's on pixels at random, at two batch sizes.

    Args:
        network: what was exported.
        answer: the file's: pixels [B, 3, S, S] -> logits [B, C] by name.
        image_size: pixels a side S.
        name: the file's, for the message.

    Raises:
        CheckpointError: if names or sizes differ, or logits by more than `TOLERANCE` of the largest.
    """
    stream = torch.Generator().manual_seed(0)
    for batch in CHECKED_BATCHES:
        pixels = torch.rand(batch, 3, image_size, image_size, generator=stream)
        expected, found = network(pixels), answer(pixels)
        if list(found) != list(expected):
            raise _differs(name, batch, f"it gives {', '.join(found)} in place of {', '.join(expected)}")
        for token, logits in expected.items():
            if found[token].shape != logits.shape:
                raise _differs(name, batch, f"{token} has the shape {tuple(found[token].shape)}")
            furthest, largest = float((found[token] - logits).abs().max()), float(logits.abs().max())
            if not furthest <= TOLERANCE * max(1.0, largest):  # so that NaN is refused, too
                raise _differs(name, batch, f"{token} is off by {furthest:.2g} where logits reach {largest:.2g}")


def _differs(name: str, batch: int, how: str) -> CheckpointError:
    return CheckpointError(
        f"{name} does not answer {batch} image{'s' if batch > 1 else ''} as PyTorch does: {how}; it was not kept, "
        "so leave its format out of formats=[safetensors,onnx,torch_export]."
    )
