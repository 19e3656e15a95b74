"""What a view's options may be, said in a sentence where a library would fail in its own words."""

from collections.abc import Sequence

from deitlt.errors import ConfigError


def check_probabilities(where: str, **probabilities: float) -> None:
    """Raise ConfigError where one is not in [0, 1]; `where` is the node that it is a key of."""
    for name, value in probabilities.items():
        if not 0 <= value <= 1:
            raise ConfigError(f"{where}.{name}={value} is no probability; type a number from 0 to 1.")


def check_areas(where: str, **areas: Sequence[float]) -> None:
    """Raise ConfigError where a pair is not a smallest and a largest share of an area, 0 < a <= b <= 1."""
    for name, pair in areas.items():
        if len(pair) != 2 or not 0 < pair[0] <= pair[1] <= 1:
            shares = str(list(pair)).replace(" ", "")
            raise ConfigError(f"{where}.{name}={shares} are no shares of an area; type {name}=[0.08,1], say.")


def check_jitter(where: str, brightness: float, contrast: float, saturation: float, hue: float = 0.0) -> None:
    """Raise ConfigError where colours cannot be changed by so much: up to 1, and the hue up to a half."""
    if not all(0 <= strength <= 1 for strength in (brightness, contrast, saturation)) or not 0 <= hue <= 0.5:
        raise ConfigError(
            f"{where}.jitter={[brightness, contrast, saturation, hue]} cannot be; type strengths of brightness, "
            "contrast and saturation from 0 to 1, and of hue from 0 to 0.5."
        )
