"""Texts as features: declared stages become column expressions, Arrow batches, and MLlib's own vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.runtime.lazy_exports import names_of

if TYPE_CHECKING:
    from tidemill.features.text.fit import FittedTexts, fit_texts
    from tidemill.features.text.slots import text_slots


__all__ = ["FittedTexts", "fit_texts", "text_slots"]

__getattr__ = names_of(__name__, {"fit": ("FittedTexts", "fit_texts"), "slots": ("text_slots",)})
