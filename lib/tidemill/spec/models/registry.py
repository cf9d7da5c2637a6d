"""The key `registry` of a spec: where MLflow shows the runs and the versions of the pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field

from tidemill.options import Block, Problem

UNITY_CATALOG = "databricks-uc"
SECRET = "${secret:"

_DATABRICKS = re.compile(r"databricks(-uc)?(://[\w.-]+(:[\w.-]+)?)?")
_WHOLE_SECRET = re.compile(r"\$\{secret:[^}/]+/[^}]+\}")
_UNITY_NAME = re.compile(r"[^./\s]+\.[^./\s]+\.[^./\s]+")
_CREDENTIALS = ("user", "password", "token")
_ADDRESSES = "the address of an MLflow server, such as https://mlflow.example.com, or `databricks`, or `databricks-uc`"


class Registry(Block):
    """A tracking server or Databricks; without the key MLflow's store is a SQLite file in the lake."""

    uri: str = Field(description="http(s)://HOST[:PORT], databricks or databricks-uc, these also with ://PROFILE")
    model: str | None = Field(
        default=None, min_length=1, description="name of the registered model; absent: the pipeline's; databricks-uc: catalog.schema.model"
    )
    experiment: str | None = Field(
        default=None, min_length=1, description="name of the experiment; absent: the pipeline's; on Databricks /Shared/<pipeline>"
    )
    user: str | None = Field(default=None, description="as ${secret:scope/key}; absent: MLFLOW_TRACKING_USERNAME")
    password: str | None = Field(default=None, description="as ${secret:scope/key}; absent: MLFLOW_TRACKING_PASSWORD")
    token: str | None = Field(default=None, description="as ${secret:scope/key}; absent: MLFLOW_TRACKING_TOKEN")

    @property
    def is_databricks(self) -> bool:
        """True for Databricks, with or without Unity Catalog."""
        return self.uri.startswith("databricks")

    @property
    def is_unity_catalog(self) -> bool:
        """True where the registered model is in Unity Catalog."""
        return self.uri.startswith(UNITY_CATALOG)

    def problems(self) -> Iterator[Problem]:
        """Yield an address that MLflow cannot use, names that it refuses, and credentials that are written out."""
        message = find_address_fault(self.uri)
        if message is not None:
            yield ("uri",), message
            return
        yield from self._name_problems()
        for name in _CREDENTIALS:
            value = getattr(self, name)
            if value is not None and not _WHOLE_SECRET.fullmatch(value):
                variable = "MLFLOW_TRACKING_" + {"user": "USERNAME"}.get(name, name.upper())
                yield (name,), f"written out; write ${{secret:scope/key}}, or leave it out and export {variable}"
            elif value is not None and self.is_databricks:
                yield (name,), "Databricks has its own ways to log in (a profile, or DATABRICKS_HOST and DATABRICKS_TOKEN); leave it out"
        if (self.user is None) != (self.password is None):
            yield ("user" if self.user else "password",), "user and password belong together; give both, or neither"
        elif self.token is not None and self.user is not None:
            yield ("token",), "a server takes a token, or user and password; leave out one of the two"

    def _name_problems(self) -> Iterator[Problem]:
        if self.is_unity_catalog and not _UNITY_NAME.fullmatch(self.model or ""):
            found = f"found {self.model!r}" if self.model else "found none"
            yield ("model",), f"Unity Catalog needs `model: catalog.schema.model`, such as main.ml.flight_delays, {found}"
        elif self.model and re.search(r"[/:]", self.model):
            yield ("model",), f"MLflow allows no `/` and no `:` in the name of a model, found {self.model!r}"
        if self.is_databricks and self.experiment and not self.experiment.startswith("/"):
            yield ("experiment",), f"an experiment on Databricks is a path such as /Shared/flight_delays, found {self.experiment!r}"


def find_address_fault(uri: str) -> str | None:
    """Return why MLflow's client cannot use the address; None where it can, or where it is a secret that is not known yet."""
    if _WHOLE_SECRET.fullmatch(uri) or _DATABRICKS.fullmatch(uri):
        return None
    try:
        parts = urlsplit(uri)
        is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return f"not an address; expected {_ADDRESSES}"
    if not is_server or re.search(r"\s", uri):
        found = f"found {parts.scheme}:…" if parts.scheme else "found no http:// or https://"  # the rest may be a secret
        near = "; a database belongs behind `mlflow server --backend-store-uri`" if "sql" in parts.scheme else ""
        return f"expected {_ADDRESSES}, {found}{near}; leave the key out for the SQLite file in the lake"
    if parts.username is not None or parts.password is not None or SECRET in uri:
        return "holds credentials; write `registry: {uri: …, user: ${secret:scope/key}, password: ${secret:scope/key}}`, or `token:`"
    if parts.query or parts.fragment:
        return "expected an address without `?` and `#`"
    return None


def _read_address(value: object) -> object:
    return {"uri": value} if isinstance(value, str) else value


RegistryAddress = Annotated[Registry | None, BeforeValidator(_read_address, json_schema_input_type=str | Registry | None)]
"""A block, or an address alone."""
