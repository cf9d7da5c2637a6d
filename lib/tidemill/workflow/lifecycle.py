"""Changes of state that a person makes: approve, promote, roll back. Each is one commit, made only on the states that it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tidemill.errors import ApprovalRequired, StepError, UsageError
from tidemill.model_registry import Deployments
from tidemill.model_registry.approval import find_system_user, name_actor, refuse_actor, require_reason
from tidemill.model_registry.evaluations import digest_evidence
from tidemill.model_registry.manifest import read_evidence, read_manifest, read_sample_file, refuse_other_files
from tidemill.model_registry.model_card import list_changed_versions, write_cards
from tidemill.model_registry.versions import record_states
from tidemill.workflow.mlflow_projection import show_in_mlflow
from tidemill.workflow.waiting import Waiting, accept_refused_evaluation, complete_waiting, find_waiting, void_waiting

if TYPE_CHECKING:
    from tidemill.lake import Lake
    from tidemill.runtime.session import LazySpark
    from tidemill.spec import Spec

_INSTEAD = {
    None: "there is no such version",
    "CANDIDATE": "it is a CANDIDATE, which evaluate has not judged yet: `tidemill run SPEC`",
    "CHALLENGER": "it is a CHALLENGER, which has never been champion: `tidemill promote` makes it champion",
    "CHAMPION": "it is the CHAMPION already",
    "REJECTED": "its gates REJECTED it: `tidemill promote` makes it a challenger again",
    "RETIRED": "it is RETIRED: `tidemill rollback` makes it champion again",
}


@dataclass(frozen=True)
class Wish:
    """What a person asks for: a version (None: the one that suggests itself), why, who (None: the user of the system), and for real."""

    version: int | None
    reason: str
    actor: str | None = None
    is_dry_run: bool = False


@dataclass(frozen=True)
class Change:
    """A change of state that was made, or would be.

    ``champion`` is the version that reigns after it, ``champion_before`` the one before, null where there is none; ``rows_compared`` are
    the stored rows whose predictions were found equal, null where the change loads no model; ``evidence`` is the digest of the evidence
    of the version's evaluation, null where it was not recorded or has changed since; ``notes`` are remarks for people.
    """

    pipeline: str
    model_version: int
    from_state: str
    to_state: str
    champion: int | None
    champion_before: int | None
    actor: str
    reason: str
    rows_compared: int | None
    evidence: str | None
    is_dry_run: bool
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return what ``--json`` shows."""
        return asdict(self)


@dataclass(frozen=True)
class _Decision:
    """A wish with the states that it was judged on; ``champion`` reigns when the decision is taken."""

    spec: Spec
    lake: Lake
    wish: Wish
    version: int
    state: str
    champion: int | None
    actor: str
    reason: str

    @property
    def pipeline(self) -> str:
        return self.spec.pipeline.pipeline

    def refuse_actor(self) -> dict[str, object]:
        """Check that this person may make the change; return the rule and the author, for the evidence."""
        manifest, evaluation = read_manifest(self.lake, self.pipeline, self.version), self.spec.pipeline.evaluation
        refuse_actor(evaluation, manifest, self.actor)
        return {"author": manifest.author, "approvers": evaluation.approvers, "author_may_approve": evaluation.author_may_approve}

    def commit(
        self, to_state: str, evidence: Mapping[str, object], *, digest: str | None, rows: int | None = None, run_id: str | None = None
    ) -> Change:
        """Record the change where the version and the champion are still as they were, and tell MLflow; nothing of it in a dry run."""
        notes: tuple[str, ...] = ()
        if not self.wish.is_dry_run:
            known = {"digest": digest, "champion_before": self.champion, "system_user": find_system_user(), **evidence}
            Deployments(self.lake.ledger, self.pipeline).move(
                self.version,
                to_state,
                run_id=run_id,
                reason=self.reason,
                actor=self.actor,
                evidence={name: value for name, value in known.items() if value is not None},
                from_state=self.state,
                champion=self.champion,
            )
            record_states(self.lake, self.pipeline)
            write_cards(self.lake, self.pipeline, list_changed_versions(self.lake, self.pipeline))
            remark = show_in_mlflow(self.spec, self.lake, has_news=False)
            notes = (remark,) if remark else ()
        champion = self.version if to_state == "CHAMPION" else self.champion
        states = (self.pipeline, self.version, self.state, to_state, champion, self.champion)
        return Change(*states, self.actor, self.reason, rows, digest, self.wish.is_dry_run, notes)


def approve(spec: Spec, lake: Lake, wish: Wish) -> Change:
    """Make a challenger champion that waits for approval; nothing is computed again, and no Spark is started.

    Raises:
        UsageError: the version does not wait for approval, or the reason is empty.
        ApprovalRequired: this person may not approve it, or the evidence or the model's files are not those that the run has shown; the
            request is void then, and the next run asks again.
        ChangedMeanwhile: another process has changed its state or the champion.
    """
    waiting = find_waiting(lake, spec.pipeline.pipeline, wish.version)
    if waiting is None:
        version = wish.version if wish.version is not None else _latest(lake, spec, "CHALLENGER", "no version waits for approval")
        decision = _decide(spec, lake, wish, version, "CHALLENGER", "approve")
        raise UsageError(f"no run has asked for the approval of model {version} of {decision.pipeline}: tidemill run {spec.file}")
    decision = _decide(spec, lake, wish, waiting.version, "CHALLENGER", "approve")
    rule = decision.refuse_actor()
    try:
        _refuse_other_evidence(lake, decision.pipeline, waiting)
    except StepError as error:
        if not wish.is_dry_run:
            void_waiting(lake, waiting, str(error))
        raise ApprovalRequired(f"model {waiting.version} is not approved, and the request for it is void: {error}") from error
    change = decision.commit("CHAMPION", rule, digest=waiting.digest, run_id=waiting.row.run_id)
    if not wish.is_dry_run:
        complete_waiting(lake, waiting)
    return change


def promote(spec: Spec, lake: Lake, spark: LazySpark, wish: Wish) -> Change:
    """Make a challenger champion, or a rejected version a challenger again, after it has reproduced its stored predictions. Starts Spark.

    Raises:
        UsageError: the version is neither, or the reason is empty.
        ApprovalRequired: this person may not, or `approval` is manual and the evidence has changed since the version was evaluated.
        StepError: the version does not load, or predicts something else than it did at training time.
        ChangedMeanwhile: another process has changed its state or the champion.
    """
    version = wish.version if wish.version is not None else _latest(lake, spec, "CHALLENGER", "there is no challenger")
    name = spec.pipeline.pipeline
    is_rejected = Deployments(lake.ledger, name).state(version) == "REJECTED"
    decision = _decide(spec, lake, wish, version, "REJECTED" if is_rejected else "CHALLENGER", "promote")
    rule = decision.refuse_actor()
    digest = _find_digest(lake, name, version)
    if digest is None and not is_rejected and spec.pipeline.evaluation.approval == "manual":
        try:
            digest_evidence(lake, name, version)
        except StepError as error:
            raise ApprovalRequired(f"model {version} is not promoted: {error}") from error
    rows = _reproduce_sample(spark, lake, name, version)
    to_state = "CHALLENGER" if is_rejected else "CHAMPION"
    change = decision.commit(to_state, {**rule, **_describe_sample(rows)}, digest=digest, rows=rows)
    if not wish.is_dry_run:
        if is_rejected:
            accept_refused_evaluation(lake, name, version)
        elif waiting := find_waiting(lake, name, version, state="CHAMPION"):
            complete_waiting(lake, waiting)
    return change


def rollback(spec: Spec, lake: Lake, spark: LazySpark, wish: Wish) -> Change:
    """Make a retired version champion again, by default the one before, after it has reproduced its stored predictions. Starts Spark.

    Raises:
        UsageError: the version was never champion, or is it now, or the reason is empty.
        StepError: the version does not load, or predicts something else than it did at training time.
        ChangedMeanwhile: another process has changed its state or the champion.
    """
    name = spec.pipeline.pipeline
    deployments = Deployments(lake.ledger, name)
    champion = deployments.champion()
    version = wish.version
    if version is None:
        version = (
            _latest(lake, spec, "RETIRED", "no version was champion before") if champion is None else deployments.champion_before(champion)
        )
    if version is None:
        raise UsageError(f"{name}: no version was champion before model {champion}; there is nothing to go back to")
    decision = _decide(spec, lake, wish, version, "RETIRED", "rollback")
    rows = _reproduce_sample(spark, lake, name, version)
    return decision.commit("CHAMPION", _describe_sample(rows), digest=None, rows=rows)


def _decide(spec: Spec, lake: Lake, wish: Wish, version: int, expected: str, command: str) -> _Decision:
    """Return the wish with the present states.

    Raises:
        UsageError: the version is not in the state that the command is for; or no reason is given.
    """
    actor, reason = name_actor(wish.actor), require_reason(wish.reason)
    name = spec.pipeline.pipeline
    deployments = Deployments(lake.ledger, name)
    states, champion = deployments.states(), deployments.champion()
    state = states.get(version)
    if state != expected:
        known = f"; there are {', '.join(map(str, sorted(states))) or 'none yet'}" if state is None else ""
        raise UsageError(f"{command}: model {version} of {name}: {_INSTEAD[state]}{known}")
    return _Decision(spec, lake, wish, version, expected, champion, actor, reason)


def _latest(lake: Lake, spec: Spec, state: str, otherwise: str) -> int:
    """Return the version that came into a state last.

    Raises:
        UsageError: no version is in it.
    """
    states = Deployments(lake.ledger, spec.pipeline.pipeline).states()
    versions = [version for version, current in states.items() if current == state]
    if not versions:
        shown = ", ".join(f"{version} is {current}" for version, current in sorted(states.items()))
        raise UsageError(f"{spec.pipeline.pipeline}: {otherwise}; its versions: {shown or 'none'}; name one with --version")
    return versions[-1]


def _refuse_other_evidence(lake: Lake, pipeline: str, waiting: Waiting) -> None:
    manifest = read_manifest(lake, pipeline, waiting.version)
    refuse_other_files(lake, manifest, by_content=True)
    read_sample_file(lake, manifest)
    read_evidence(lake, manifest)
    digest = digest_evidence(lake, pipeline, waiting.version)
    if digest != waiting.digest:
        raise StepError(
            f"it was evaluated again after run {waiting.row.run_id} had asked for approval, with another result; "
            "the next run shows it, and asks again: tidemill run SPEC"
        )


def _find_digest(lake: Lake, pipeline: str, version: int) -> str | None:
    try:
        return digest_evidence(lake, pipeline, version)
    except StepError:
        return None


def _reproduce_sample(spark: LazySpark, lake: Lake, pipeline: str, version: int) -> int:
    from tidemill.model_registry.sample import refuse_other_predictions

    return refuse_other_predictions(spark.get(), lake, pipeline, version)


def _describe_sample(rows: int) -> dict[str, object]:
    from tidemill.model_registry.sample import TOLERANCE

    return {"sample": {"rows": rows, "is_equal": True, "tolerance": TOLERANCE}}
