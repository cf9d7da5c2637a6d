"""The models of ``pipeline.yml``, its loading and its validation."""

from tidemill.spec.loading.loader import Spec, load_spec

__all__ = ["Spec", "load_spec"]
