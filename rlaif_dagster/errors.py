"""The one error a user is meant to read.

A `UserError` is the user's to fix: its message is a single line that names the file (or the partition), the value that
was found and the remedy. The command line prints it alone and exits with status 2; anything else is a bug and keeps its
traceback.
"""


class UserError(Exception):
    """Bad input or a missing requirement, told in one line."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
