"""A table of the report, and the plainest way to fill one."""

import re
from dataclasses import dataclass, field

from regulonformer.report.words.names import flatten, number, title

# A number with its unit, star or interval; a dash stands for none.
NUMBER = re.compile(r"–|[-+]?[\d.,]+( (%|s|min|h|GB))?( [★▲▼=])?( \[.*\])?")


@dataclass
class Table:
    """Rows of text under a heading, ready to draw.

    Attributes
    ----------
    name
        Anchor on the page and stem of the TSV.
    rows
        Cells as text; `strong` holds the positions of rows that stand out.
    source
        Result file behind the numbers.
    """

    name: str
    heading: str
    columns: list[str]
    rows: list[list[str]]
    caption: str
    source: str
    strong: set[int] = field(default_factory=set)
    kind: str = "table"

    @property
    def tsv(self) -> str:
        """The table as tab-separated text."""
        return "\n".join("\t".join(row) for row in [self.columns, *self.rows]) + "\n"

    @property
    def numeric(self) -> list[bool]:
        """Columns that hold nothing but numbers, which are set flush right."""
        columns = zip(*self.rows, strict=True) if self.rows else [()] * len(self.columns)
        return [bool(cells) and all(map(NUMBER.fullmatch, cells)) for cells in columns]


def filter_table(name: str, heading: str, summary: dict, source: str) -> Table:
    """A summary of counts as two columns."""
    rows = [[title(key), number(value)] for key, value in flatten(summary).items() if value is not None]
    return Table(
        name, heading, ["What", "Value"], rows, "Counted by the step that did it; nothing is dropped silently.", source
    )
