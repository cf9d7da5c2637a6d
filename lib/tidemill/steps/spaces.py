"""What is searched: the parameters of the declared families, checked without reading a row."""

from __future__ import annotations

from tidemill.errors import SpecError
from tidemill.spec.loader import Spec
from tidemill.spec.models import RECOMMENDATION, CustomFamily, Space
from tidemill.training.families import search_spaces
from tidemill.training.families.als import spaces_for


def declared_spaces(spec: Spec, *, needs_libraries: bool = True) -> dict[str, Space]:
    """Return what is searched, family by family, in the order of the spec; ``needs_libraries`` is as in `search_spaces`.

    Raises:
        SpecError: a family does not suit the task, a parameter or a value is none of its, or a library is missing; all are named.
    """
    pipeline = spec.pipeline
    built_in = {name: family for name, family in pipeline.families.items() if not isinstance(family, CustomFamily)}
    try:
        found = search_spaces(built_in, pipeline.training.task, str(spec.file), texts=pipeline.has_texts, needs_libraries=needs_libraries)
    except SpecError as error:
        raise spec.located(error) from None
    if pipeline.training.task == RECOMMENDATION:
        return spaces_for(found, built_in, is_implicit=pipeline.training.implicit or False)
    own = {name: family.space for name, family in pipeline.families.items() if isinstance(family, CustomFamily)}
    return {name: own[name] if name in own else found[name] for name in pipeline.families}
