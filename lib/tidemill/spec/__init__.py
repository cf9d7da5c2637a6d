"""What a user may write in ``pipeline.yml``, and how it is read."""

from tidemill.spec.loading.loader import Spec, load_spec

__all__ = ["Spec", "load_spec"]
