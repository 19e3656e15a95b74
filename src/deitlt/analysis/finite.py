"""What is left of an analysis where some of its numbers are none."""

import math
from typing import Any


def finite(content: Any) -> Any:
    """Plain values without the numbers that are not finite: such a number is absent, as what was not measured is.

    A list that holds one is absent as a whole, for the places in a list mean blocks and heads.

    Args:
        content: an analysis, or a part of one.

    Returns:
        The same in new containers; None for a number that is not finite, and for a list that holds one.
    """
    if isinstance(content, dict):
        kept = {key: finite(value) for key, value in content.items()}
        return {key: value for key, value in kept.items() if value is not None}
    if isinstance(content, list):
        values = [finite(value) for value in content]
        return None if any(value is None for value in values) else values
    return None if isinstance(content, float) and not math.isfinite(content) else content
