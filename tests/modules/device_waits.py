"""Counts what would make the host wait for an accelerator, without one: on the CPU, or on torch's `meta` device."""

import sys
from collections import Counter
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# What gives the host a number, or a shape, that only the device knows.
READS = {
    *(aten._local_scalar_dense, aten.nonzero, aten.equal, aten.is_nonzero, aten.masked_select, aten.bincount),
    *(aten._unique2, aten.unique_dim),
}


class Waits(TorchDispatchMode):
    """Notes each operation that waits for a device: 'operation in file' -> how often.

    On the CPU it sees reads (`item`, `bool`, `nonzero`, a mask as an index). On `meta`, which computes shapes
    alone, it also sees what goes from the host's memory to the device's or back, as CUDA would copy it.
    """

    def __init__(self, device="cpu"):
        super().__init__()
        self.device = device
        self.found = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        operation = func.overloadpacket
        inputs = [x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        outputs = [x for x in torch.utils._pytree.tree_leaves(result) if isinstance(x, torch.Tensor)]
        grows = operation is aten.repeat_interleave and (kwargs or {}).get("output_size") is None
        if grows or self._waits(operation, inputs, outputs):
            self.found[f"{operation.__name__} in {_place()}"] += 1
        return result

    def _waits(self, operation, inputs, outputs):
        there = [x for x in inputs if x.device.type == self.device]
        if operation in READS and there:
            return True
        if operation in (aten.index, aten.index_put_) and any(x.dtype == torch.bool for x in there[1:]):
            return True
        places = {x.device.type for x in (*inputs, *outputs)}
        # `lift_fresh` is what `torch.tensor` ends with, whose numbers come from the host.
        moves = len(places) > 1 and operation in (aten._to_copy, aten.copy_)
        return moves or (operation is aten.lift_fresh and places == {"meta"})


def _place():
    """The innermost file of the stack that is not torch's own, but for its optimisers."""
    frame = sys._getframe(2)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path != Path(__file__) and ("torch" not in path.parts or "optim" in path.parts):
            return "/".join(path.parts[-2:])
        frame = frame.f_back
    return "nowhere"


def per_batch(run, few=3, many=5):
    """What `run(batches)` waits for in each batch, and not once an epoch or a run."""

    def count(batches):
        with Waits() as waits:
            run(batches)
        return waits.found

    once, again = count(few), count(many)
    return {name: number - once[name] for name, number in again.items() if number != once[name]}
