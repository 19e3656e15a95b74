"""What a data loader's worker process does before its first image."""

import signal


def outlive_signals(worker: int) -> None:
    """Have a worker outlive the signals that stop a run: its process decides when to end, after its checkpoint.

    A scheduler signals every process of a job at once; a worker that ended by itself would be an error.

    Args:
        worker: its number, which does not matter here.
    """
    for ignored in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(ignored, signal.SIG_IGN)
