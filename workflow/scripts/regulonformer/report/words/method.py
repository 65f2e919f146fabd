"""One paragraph of the methods text."""

from dataclasses import dataclass

from regulonformer.report.words.names import flatten, number, spoken


@dataclass
class Method:
    """One paragraph of the methods.

    Attributes
    ----------
    cites
        Keys of `REFERENCES`.
    settings
        Settings of the stage, in one line.
    """

    heading: str
    sentences: str
    cites: list[str]
    settings: str = ""


def settings_of(config: dict, section: str) -> str:
    """The settings of one section in words, so that the text is complete whatever keys come later."""
    flat = flatten(config.get(section) or {})
    return "; ".join(f"{spoken(key)} {number(value)}" for key, value in sorted(flat.items()) if value is not None)
