"""The environment of a fresh process of ours. No torch here."""

import os
import sys

RANK_VARIABLES = ("LOCAL_RANK", "RANK", "WORLD_SIZE", "NODE_RANK", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")


def without_ranks() -> dict[str, str]:
    """This process's environment without what would make its child a rank of some process group.

    `python -m` looks for modules in the folder where one stands, before all others: a file there that is called tty.py
    would end the child. So that is left to where this process does it, too.
    """
    kept = {key: value for key, value in os.environ.items() if key not in RANK_VARIABLES}
    return kept if {"", os.getcwd()} & set(sys.path) else kept | {"PYTHONSAFEPATH": "1"}
