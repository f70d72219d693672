"""Which server may be given which key of the environment.

A file of a study names a variable and an address, and a file may come from somebody else: together they could send any secret of
the environment anywhere. So a key goes to an address that a file names only where the user, in the environment, has said that
it belongs there, or where the address is this machine itself. Addresses that no file names are the providers' own.
"""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from rlaif_dagster.errors import UserError
from rlaif_dagster.loopback import is_here

KEY_HOSTS = "RLAIF_KEY_HOSTS"


def withheld(name: str, address: str | None) -> str | None:
    """What to do before the key in the variable `name` is sent to `address` (None: the provider's own); None where nothing is."""
    if address is None or is_here(address):
        return None
    bound = os.environ.get(KEY_HOSTS, "").strip()
    host = urlsplit(address).hostname or address
    binding = f"{name}={host}"
    if binding in re.split(r"[\s,]+", bound):
        return None
    said = f"add {binding} to {KEY_HOSTS}" if bound else f"export {KEY_HOSTS}={binding}"
    return f"${name} is not sent to {host} before you say that it belongs there: {said}"


def check(name: str, address: str | None, where: str) -> None:
    """UserError where the key in the variable `name` may not be sent to `address`; `where` names what wants it."""
    if why := withheld(name, address):
        raise UserError(f"{where}: {why}")
