"""What a spec may ask of a model family beside its task, and which families can do it, in which engine."""

from __future__ import annotations

from dataclasses import dataclass

# By the engine `tasks`, and by `spark`; `auto` takes tasks wherever a family has them.
_MONOTONE = {"tasks": ("gradient_boosted_trees", "hist_gradient_boosting", "xgboost", "lightgbm"), "spark": ("xgboost",)}
_LOSSES = {
    ("absolute", "tasks"): _MONOTONE["tasks"],
    ("absolute", "spark"): ("xgboost",),  # of MLlib's trees only the signs of errors are learned, at a fixed step: they stay far off
    ("quantile", "tasks"): _MONOTONE["tasks"],
    ("quantile", "spark"): (),
}
_UNWEIGHTED = {"tasks": ("multilayer_perceptron", "factorization_machines"), "spark": ("linear_svm",)}


@dataclass(frozen=True)
class Needs:
    """What the families of a spec have to be able to do.

    ``engine`` is the spec's word; ``loss`` is squared, absolute or quantile; ``is_weighted``: rows have weights of their own.
    """

    engine: str = "auto"
    is_monotone: bool = False
    loss: str = "squared"
    is_weighted: bool = False

    def lack(self, family: str) -> str | None:
        """Return what the family cannot do, with what to write instead; None where it can do all."""
        engine = "spark" if self.engine == "spark" else "tasks"
        if self.is_monotone and family not in _MONOTONE[engine]:
            return f"{family} cannot keep `training.monotone`{_instead(engine, _MONOTONE[engine])}"
        if self.loss != "squared" and family not in _LOSSES[self.loss, engine]:
            what = f"`training.loss: {self.loss if self.loss == 'absolute' else '{quantile: …}'}`"
            return f"{family} cannot minimise {what}{_instead(engine, _LOSSES[self.loss, engine])}"
        if self.is_weighted and (family in _UNWEIGHTED["tasks"] or family in _UNWEIGHTED[engine]):
            other = (
                "`engine: auto` knows them"
                if family not in _UNWEIGHTED["tasks"]
                else "choose another family, or leave `dataset.weight` out"
            )
            return f"{family} knows no weights of rows (`dataset.weight`); {other}"
        return None


def _instead(engine: str, able: tuple[str, ...]) -> str:
    if not able:
        return " by `engine: spark`; write `engine: auto`"
    return f"{' by `engine: spark`' if engine == 'spark' else ''}; name {', '.join(able)}"
