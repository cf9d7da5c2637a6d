"""Texts as features: declared stages become column expressions, Arrow batches, and MLlib's own vectors."""

from tidemill.features.text.fit import FittedTexts, fit_texts
from tidemill.features.text.slots import text_slots

__all__ = ["FittedTexts", "fit_texts", "text_slots"]
