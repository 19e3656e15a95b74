"""An optimiser that writes down which rank of which job made it, in which process, and with which learning rate."""

import json
import os
import signal
import sys
from pathlib import Path

import torch.distributed as dist
from timm.optim import create_optimizer_v2

KILLS = 0.5  # a learning rate whose job is killed, until a file says that this is mended


def optimizer(model, lr, **options):
    if dist.is_initialized():  # a rank that trains, and not what starts it
        place = next(word.partition("=")[2].strip("'") for word in sys.argv if word.startswith("paths.output_dir="))
        job, rank = Path(place), dist.get_rank()
        if lr == KILLS and rank == 0 and not (job.parent / "mended").exists():
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        record = {"job": job.name, "rank": rank, "lr": lr}
        (job.parent / f"witness_{job.name}_{os.getpid()}.json").write_text(json.dumps(record))
    return create_optimizer_v2(model, lr=lr, **options)
