"""An optimiser that writes down which rank of which job made it, in which process, and with which learning rate."""

import json
import os
import signal
import sys
from pathlib import Path

from timm.optim import create_optimizer_v2

KILLS = 0.5  # a learning rate whose job is killed, until a file says that this is mended


def optimizer(model, lr, **options):
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if place is not None and place.name == "stage.yaml":  # a rank of a process tree, and not what starts it
        job = place.parents[1]
        record = {"job": job.name, "rank": int(os.environ["LOCAL_RANK"]), "lr": lr}
        if lr == KILLS and record["rank"] == 0 and not (job.parent / "mended").exists():
            os.kill(os.getppid(), signal.SIGKILL)
            signal.pause()
        (job.parent / f"witness_{job.name}_{os.getpid()}.json").write_text(json.dumps(record))
    return create_optimizer_v2(model, lr=lr, **options)
