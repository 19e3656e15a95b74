"""Floating-point operations of a training step, counted, and the most that the device does of them in a second."""

import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.timing import Work, seconds

SIZES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192, 16384)}  # of square matrices
TYPES = {"bf16": torch.bfloat16, "16": torch.float16, "32": torch.float32, "64": torch.float64}
REPEATS = 5


def count_operations(work: Work) -> int:
    """Operations of what one call multiplies: matrix products and convolutions, a multiplication and an addition each.

    Attention is counted as its two products, without what fused kernels compute twice to save memory, and nothing
    that is compiled hides its products. Additions of tensors, norms, optimisers and the like do not count.
    """
    with (
        torch.compiler.set_stance("force_eager"),
        sdpa_kernel(SDPBackend.MATH),
        FlopCounterMode(display=False) as counter,
    ):
        work()
    return int(counter.get_total_flops())


def step_operations(loop: BareLoop) -> float:
    """Operations of an image's share of a step: forward and backward, twice with SAM; PaCo's keys once."""
    batch = loop.held[1]
    keys = count_operations(lambda: loop.module.on_train_batch_start(batch, 0))
    one_pass = count_operations(lambda: loop.backward(batch, 0))
    loop.optimizer.zero_grad()
    return (keys + one_pass * (1 if loop.sam is None else 2)) / loop.bench.batch_images


def label_operations(loop: BareLoop) -> float:
    """Operations of the teacher's answer to an image."""
    return count_operations(lambda: loop.ask(loop.held[1])) / loop.bench.batch_images


def matrix_peak(device: torch.device, precision: str, sizes: tuple[int, ...] | None = None) -> dict[str, float]:
    """The most operations a second of a product of square matrices.

    Args:
        device: where.
        precision: as Lightning names it, such as '32-true' or 'bf16-mixed'.
        sizes: of the matrices; None takes the device's.

    Returns:
        size -> operations a second, the median of several products.
    """
    dtype = TYPES[precision.partition("-")[0]]
    found = {}
    for size in sizes or SIZES[device.type]:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        product = torch.empty_like(a)
        calls = max(1, 4096**3 // size**3) if device.type == "cuda" else 1  # a launch takes longer than a small one
        took = [_products(a, b, product, calls, device) for _ in range(1 + REPEATS)][1:]
        found[str(size)] = 2 * size**3 * calls / statistics.median(took)
    return found


def _products(a: torch.Tensor, b: torch.Tensor, product: torch.Tensor, calls: int, device: torch.device) -> float:
    def work() -> None:
        for _ in range(calls):
            torch.mm(a, b, out=product)

    return seconds(work, device)
