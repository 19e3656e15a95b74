"""Words as Hydra reads them back."""


def quoted(value: object) -> str:
    """A value in quotes, whatever is in it."""
    text = str(value).replace("'", "\\'")
    return f"'{text}'"
