"""Secrets of sources: ``${secret:scope/key}``, looked up when a source is read and kept nowhere."""

from __future__ import annotations

import os
import re

from tidemill.errors import UsageError

_REFERENCE = re.compile(r"\$\{secret:([^}/]+)/([^}]+)\}")


def revealed(text: str) -> str:
    """Return ``text`` with each ``${secret:scope/key}`` put in.

    On Databricks a secret comes from its secret scopes, elsewhere from the environment: ``TIDEMILL_SECRET_SCOPE_KEY``, in capitals,
    with ``_`` for what is no letter or digit.

    Raises:
        UsageError: there is no such secret.
    """
    return _REFERENCE.sub(lambda found: _secret(found.group(1), found.group(2)), text)


def _secret(scope: str, key: str) -> str:
    name = "TIDEMILL_SECRET_" + re.sub(r"[^A-Z0-9]", "_", f"{scope}_{key}".upper())
    if name in os.environ:
        return os.environ[name]
    if "DATABRICKS_RUNTIME_VERSION" in os.environ:
        from databricks.sdk.runtime import dbutils

        return str(dbutils.secrets.get(scope, key))
    raise UsageError(f"the secret {scope}/{key} is not known here; export it as {name}")
