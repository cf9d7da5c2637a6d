"""Look up ``${secret:scope/key}`` where it is used, and register what was looked up for redaction."""

from __future__ import annotations

import os
import re

from tidemill.errors import UsageError
from tidemill.redaction import register_secret

SECRET_REFERENCE = re.compile(r"\$\{secret:([^}/]+)/([^}]+)\}")


def reveal(text: str) -> str:
    """Return ``text`` with each ``${secret:scope/key}`` replaced by the secret.

    On Databricks secrets come from secret scopes, elsewhere from the environment variable ``TIDEMILL_SECRET_SCOPE_KEY``, in capitals, with
    ``_`` for other characters than letters and digits. Each secret is registered for redaction in messages, also together with adjacent
    letters and digits, because short secrets are not searched inside words.

    Raises:
        UsageError: there is no such secret.
    """
    parts, position = [], 0
    for match in SECRET_REFERENCE.finditer(text):
        secret = _secret(match[1], match[2])
        before, after = re.search(r"[A-Za-z0-9]*$", text[: match.start()]), re.match(r"[A-Za-z0-9]*", text[match.end() :])
        register_secret(secret)
        if secret:
            register_secret(f"{before[0] if before else ''}{secret}{after[0] if after else ''}")
        parts += [text[position : match.start()], secret]
        position = match.end()
    return "".join([*parts, text[position:]])


def _secret(scope: str, key: str) -> str:
    name = "TIDEMILL_SECRET_" + re.sub(r"[^A-Z0-9]", "_", f"{scope}_{key}".upper())
    if name in os.environ:
        return os.environ[name]
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        from databricks.sdk.runtime import dbutils

        return str(dbutils.secrets.get(scope, key))
    raise UsageError(f"the secret {scope}/{key} is not known here; export it as {name}")
