import sys

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import Block
from torch import nn

from deitlt.benchmarks.bare_loop import BareLoop
from deitlt.benchmarks.memory import PeakMemory
from deitlt.benchmarks.operations import count_operations, label_operations, matrix_peak, step_operations


def test_a_linear_layer():
    layer, images = nn.Linear(7, 5), torch.randn(3, 7, requires_grad=True)
    product = 2 * 3 * 7 * 5
    assert count_operations(lambda: layer(images)) == product
    assert count_operations(lambda: layer(images).sum().backward()) == 3 * product  # for inputs and weights, too


@pytest.mark.parametrize("fused", [True, False])
def test_a_transformer_block_as_counted_by_hand(fused):
    tokens, width = 17, 32
    block = Block(width, num_heads=4)
    block.attn.fused_attn = fused
    images = torch.randn(2, tokens, width, requires_grad=True)
    linear = 2 * tokens * width * width * (3 + 1 + 4 + 4)  # queries, keys, values; projection; MLP
    attention = 2 * 2 * tokens * tokens * width  # scores, and the values they weigh
    assert count_operations(lambda: block(images).sum().backward()) == 2 * 3 * (linear + attention)


def test_a_step_counts_what_its_passes_multiply(open_tiny):
    plain, sam = (BareLoop(open_tiny(name)) for name in ("student", "sam_student"))
    width, tokens, classes = 16, 4 * 4 + 2, 10
    patches = 2 * 16 * width * 3 * 4 * 4
    block = 2 * tokens * width * width * 12 + 4 * tokens * tokens * width
    heads = 2 * 2 * width * classes
    # The way back to the images themselves is not walked.
    expected = 2 * patches + 3 * (block + heads)
    assert step_operations(plain) == expected
    assert step_operations(sam) == 2 * expected
    assert all(parameter.grad is None for parameter in plain.module.parameters())
    assert label_operations(plain) == label_operations(sam) > 0


def test_compiled_networks_count_as_they_are_written():
    layer = nn.Linear(7, 5)
    layer.compile()
    assert count_operations(lambda: layer(torch.randn(3, 7))) == 2 * 3 * 7 * 5


def test_the_peak_is_measured_for_each_size():
    peak = matrix_peak(torch.device("cpu"), "bf16-mixed", sizes=(32, 64))
    assert list(peak) == ["32", "64"]
    assert min(peak.values()) > 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_memory_is_that_since_the_beginning():
    np.ones(2**28, dtype=np.uint8)  # given back before the watch begins
    memory = PeakMemory()
    before = memory.found(torch.device("cpu"))
    np.ones(2**27, dtype=np.uint8)
    after = memory.found(torch.device("cpu"))
    assert 100 < after["mib"] - before["mib"] < 200
    assert after["of"].startswith("the process's resident set")
    assert (after["workers"], after["workers_mib"]) == (0, 0)
