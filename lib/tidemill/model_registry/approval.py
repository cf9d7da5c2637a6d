"""Who may make a model champion, and the request for an approval, which binds to the evidence that it shows."""

from __future__ import annotations

import getpass
import os
from typing import TYPE_CHECKING

from tidemill.errors import ApprovalRequired, UsageError
from tidemill.model_registry.deployments import Deployments
from tidemill.model_registry.evaluations import digest_evidence

if TYPE_CHECKING:
    from tidemill.lake import Lake
    from tidemill.model_registry.manifest import Manifest
    from tidemill.spec import Spec
    from tidemill.spec.models.evaluation import Evaluation

GROUP = "group:"
SHOWN_DIGITS = 12


def find_system_user() -> str:
    """Return the name of the user that runs this process; its number where the system has no name for it."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def name_actor(actor: str | None) -> str:
    """Return who makes a change: the name given, else the user of the system.

    Raises:
        UsageError: the name is empty or has line ends.
    """
    name = find_system_user() if actor is None else actor.strip()
    if not name or not name.isprintable():
        raise UsageError("--actor: expected the name of a person, such as --actor ada")
    return name


def require_reason(reason: str | None) -> str:
    """Return the reason for a change without the spaces around it.

    Raises:
        UsageError: it is empty.
    """
    text = (reason or "").strip()
    if not text:
        raise UsageError('--reason: expected why, in a few words, such as --reason "better on all carriers, checked by hand"')
    return text


def refuse_actor(evaluation: Evaluation, manifest: Manifest, actor: str) -> None:
    """Check that somebody may make this version champion, or a challenger again.

    Raises:
        ApprovalRequired: `evaluation.approvers` does not name the person, or it is the author and `author_may_approve` is false.
    """
    what = f"model {manifest.version} of {manifest.pipeline}"
    approvers = evaluation.approvers
    if approvers and not any(_is_approver(actor, approver) for approver in approvers):
        raise ApprovalRequired(f"{actor} may not approve {what}: evaluation.approvers names {', '.join(approvers)}; one of them has to")
    if evaluation.author_may_approve:
        return
    if manifest.author is None:
        raise ApprovalRequired(
            f"nobody may approve {what}: its author is not recorded, and evaluation.author_may_approve is false; train again"
        )
    if manifest.author == actor:
        raise ApprovalRequired(
            f"{actor} may not approve {what}: {actor} ran its training, and evaluation.author_may_approve is false; somebody else has to"
        )


def refuse_unapproved(lake: Lake, spec: Spec, version: int) -> None:
    """Let a challenger wait where `evaluation.approval` is manual; starts no Spark.

    Raises:
        ApprovalRequired: it has to wait; the message says what to type, and names the evidence by its digest.
        StepError: it has to wait, and the evidence has changed since the version was evaluated.
    """
    pipeline = spec.pipeline.pipeline
    if spec.pipeline.evaluation.approval != "manual" or Deployments(lake.ledger, pipeline).state(version) != "CHALLENGER":
        return
    digest = digest_evidence(lake, pipeline, version)
    raise ApprovalRequired(
        f"model {version} of {pipeline} has passed its gates and waits for approval (evidence {digest[:SHOWN_DIGITS]}); "
        f"look at its card with: tidemill models {spec.file} --version {version} --card; "
        f"then type: tidemill approve {spec.file} --version {version} --reason TEXT",
        digest,
    )


def _is_approver(actor: str, approver: str) -> bool:
    return _is_member(actor, approver.removeprefix(GROUP)) if approver.startswith(GROUP) else actor == approver


def _is_member(user: str, group: str) -> bool:
    """Return True if the system has such a group with this user in it, as its first group or a further one."""
    try:
        import grp  # not on every system
        import pwd

        entry = grp.getgrnam(group)
    except (ImportError, KeyError):
        return False
    try:
        return user in entry.gr_mem or pwd.getpwnam(user).pw_gid == entry.gr_gid
    except KeyError:
        return False
