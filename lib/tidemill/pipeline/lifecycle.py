"""What a person decides about a model version."""

from __future__ import annotations

from tidemill.pipeline.opened import OpenedPipeline
from tidemill.workflow.lifecycle import Change, Wish, approve, promote, rollback


class PipelineLifecycle(OpenedPipeline):
    """Methods that change the state of a version; each says why and by whom, which is recorded."""

    def approve(self, version: int | None = None, *, reason: str, actor: str | None = None, dry_run: bool = False) -> Change:
        """Make a challenger champion that waits for approval; nothing is computed again, and no Spark is started.

        Args:
            version: the version; by default the one that waits.
            reason: why, which must not be empty.
            actor: who; by default the user of the system.
            dry_run: check everything and change nothing.

        Raises:
            UsageError: the version does not wait for approval, or the reason is empty.
            ApprovalRequired: this person may not approve it, or the evidence has changed since it was shown.
            ChangedMeanwhile: another process was first.
        """
        return approve(self.spec, self.lake, Wish(version, reason, actor, dry_run))

    def promote(self, version: int | None = None, *, reason: str, actor: str | None = None, dry_run: bool = False) -> Change:
        """Make a challenger champion, or a rejected version a challenger again, once it reproduced its stored predictions. Starts Spark.

        Args:
            version: the version; by default the latest challenger.
            reason: why, which must not be empty.
            actor: who; by default the user of the system.
            dry_run: check everything and change nothing.

        Raises:
            UsageError: the version is neither, or the reason is empty.
            ApprovalRequired: this person may not.
            StepError: the version does not load, or predicts something else than it did at training time.
            ChangedMeanwhile: another process was first.
        """
        return promote(self.spec, self.lake, self.lazy_spark, Wish(version, reason, actor, dry_run))

    def rollback(self, version: int | None = None, *, reason: str, actor: str | None = None, dry_run: bool = False) -> Change:
        """Make a retired version champion again once it reproduced its stored predictions; the next `score` uses it. Starts Spark.

        Args:
            version: the version; by default the champion before the present one.
            reason: why, which must not be empty.
            actor: who; by default the user of the system.
            dry_run: check everything and change nothing.

        Raises:
            UsageError: the version was never champion, or is it now, or the reason is empty.
            StepError: the version does not load, or predicts something else than it did at training time.
            ChangedMeanwhile: another process was first.
        """
        return rollback(self.spec, self.lake, self.lazy_spark, Wish(version, reason, actor, dry_run))
