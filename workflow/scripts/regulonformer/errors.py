"""The one error a user should ever see: it names the file, what is wrong with it, and the way out."""

import zlib

# What readers of text, tables and gzip files raise where a file is missing, cut, damaged or of another kind.
UNREADABLE = (OSError, EOFError, ValueError, zlib.error)


class InputError(ValueError):
    """Bad input, told in one line.

    Parameters
    ----------
    where
        File, config key or sheet cell in which the problem sits.
    problem
        What is wrong, with the offending value.
    fix
        What the user can do about it.
    """

    def __init__(self, where: object, problem: str, fix: str) -> None:
        self.where, self.problem, self.fix = str(where), problem.rstrip("."), fix.rstrip(".")
        super().__init__(f"{self.where}: {self.problem}. {self.fix}.")

    def __reduce__(self):
        return type(self), (self.where, self.problem, self.fix)


def refuse_unknown_keys(values: dict, known, section: str) -> None:
    """Raise an InputError at the first key of a section that is not known: what is misspelt must not be ignored."""
    for key in values:
        if key not in known:
            raise InputError(f"{section}.{key}", "unknown key", f"Known keys are {', '.join(known)}")
