import time
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from deitlt.benchmarks.costs import IDLE, WAITING, _kind, seconds_by_part
from deitlt.benchmarks.profile import profile_rows
from deitlt.benchmarks.ranges import REST, named


class TwoLayers(nn.Module):
    """Two layers whose costs differ by far."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(256, 4), nn.Linear(256, 4096)
        self.small.forward = named("small layer", self.small.forward)
        self.large.forward = named("large layer", self.large.forward)

    def forward(self, x):
        return self.small(x).sum() + self.large(x).sum()


def profiled(work):
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        began = time.perf_counter()
        work()
        whole = time.perf_counter() - began
    return seconds_by_part(profiler.events(), False, whole), whole


def test_forward_and_backward_belong_to_their_layer():
    network, images = TwoLayers(), torch.randn(256, 256, requires_grad=True)
    network(images).backward()  # what torch makes once

    def train():
        loss = named(REST, network)(images)
        loss.backward()

    def answer():
        with torch.no_grad():
            named(REST, network)(images)

    trained, whole = profiled(train)
    answered, _ = profiled(answer)
    assert trained["large layer"] > 3 * trained["small layer"] > 0
    assert trained["large layer"] > 1.5 * answered["large layer"]  # backward is twice forward
    assert trained["large layer"] > 0.5 * whole


def test_the_parts_sum_to_the_whole_and_fall():
    parts, whole = profiled(lambda: (named("work", torch.randn)(500, 500), time.sleep(0.05)))
    assert sum(parts.values()) == pytest.approx(whole, rel=0.05)
    assert parts[IDLE] > 0.045
    assert list(parts.values()) == sorted(parts.values(), reverse=True)


def test_what_torch_names_itself_has_our_words():
    weight = nn.Parameter(torch.ones(100))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.sum().backward()
    loader = torch.utils.data.DataLoader(range(4), batch_size=2)
    parts, _ = profiled(lambda: (optimizer.step(), list(loader)))
    assert parts["optimizer"] > 0
    assert parts[WAITING] > 0


def event(name, start, parent=None, sequence=-1, kernels=()):
    """An operation as the profiler tells it; kernels: (name, microseconds)."""
    return SimpleNamespace(
        name=name,
        device_type=DeviceType.CPU,
        time_range=SimpleNamespace(start=start),
        sequence_nr=sequence,
        cpu_parent=parent,
        kernels=[SimpleNamespace(name=kernel, duration=took) for kernel, took in kernels],
        self_cpu_time_total=1e9,  # the host's time is nobody's
    )


def test_on_a_gpu_the_kernels_count():
    attention = event("deitlt: attention", 0, kernels=[("deitlt: attention", 500_000)])  # its shadow
    seen = event("aten::sum", 1, attention, sequence=7)
    forward = event("aten::flash", 2, attention, sequence=7, kernels=[("flash_fwd", 100_000)])
    optimizer = event("Optimizer.step#AdamW.step", 3)
    step = event("aten::_fused_adamw_", 4, optimizer, kernels=[("multi_tensor", 50_000), ("multi_tensor", 50_000)])
    backward = event("autograd::engine::evaluate_function: FlashBackward", 5, sequence=7)
    gradient = event("aten::flash_backward", 6, backward, sequence=7, kernels=[("flash_bwd", 250_000)])
    lost = event("autograd::engine::evaluate_function: CompiledFunctionBackward", 7, sequence=8)
    product = event("aten::mm", 8, lost, kernels=[("nvjet_tst", 50_000), ("elementwise", 25_000)])
    events = [attention, seen, forward, optimizer, step, backward, gradient, lost, product]
    parts = seconds_by_part(events, True, 0.6)
    assert parts == pytest.approx(
        {"attention": 0.35, "optimizer": 0.1, IDLE: 0.075, "matrix products": 0.05, REST: 0.025}
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("flash_fwd_kernel", "attention"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32", "matrix products"),
        ("nvjet_tst_128x256_64x4", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::mkldnn_convolution", "convolutions"),
        ("triton_per_fused_add_native_layer_norm_3", "fused by the compiler"),
        ("aten::add_", REST),
        ("aten::comm", REST),
    ],
)
def test_operations_without_a_part_are_told_apart_by_kind(name, kind):
    assert _kind(name) == kind


def test_the_table_has_five_costs_and_the_rest():
    costs = [{"part": f"part {i}", "seconds": 0.1, "share": share} for i, share in enumerate([0.4, 0.2, *[0.1] * 4])]
    found = {"seconds": 0.25, "batch": 8, "costs": costs, "picture": "p.png"}
    rows = profile_rows(found)
    assert rows[0] == ("one step", "250.0 ms for 8 images")
    assert [value for _, value in rows[1:6]] == ["40.0 %", "20.0 %", "10.0 %", "10.0 %", "10.0 %"]
    assert rows[6] == ("all others", "10.0 %")
