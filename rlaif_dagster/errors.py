"""The one error a user is meant to read.

A `UserError` is the user's to fix: its message is a single line that names the file (or the partition), the value that
was found and the remedy. The command line prints it alone and exits with status 2; anything else is a bug and keeps its
traceback.
"""

LONGEST = 2000  # characters: what a wrong file holds may be quoted, and a file may be anything


class UserError(Exception):
    """Bad input or a missing requirement, told in one line."""

    def __init__(self, message: str) -> None:
        line = visible(" ".join(message.split()))
        super().__init__(line if len(line) <= LONGEST else f"{line[:LONGEST]}…")


def visible(text: str, keep: str = "") -> str:
    """The text with every character written out (as `\\x1b`) by which it could drive a terminal or reorder what is read:
    control characters, escape sequences, directions of writing. `keep` are those that may stay, such as line breaks.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)
