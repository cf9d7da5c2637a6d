"""Text features: the declared stages become column expressions, Arrow functions and MLlib vectors."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.runtime.lazy_exports import export_lazily

if TYPE_CHECKING:
    from tidemill.features.text.fit import fit_texts


__all__ = ["fit_texts"]

__getattr__ = export_lazily(__name__, {"fit": ("fit_texts",)})
