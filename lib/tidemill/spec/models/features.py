"""The `features` block: feature groups of the registry, selection and checks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, create_model, model_validator

from tidemill.errors import UsageError
from tidemill.extensions import Registry
from tidemill.options import Block, ColumnName, Share

if TYPE_CHECKING:
    from tidemill.features.groups.feature_group import FeatureGroup


def _accept(name: str, extension: Any) -> FeatureGroup:
    group: FeatureGroup = extension() if isinstance(extension, type) else extension
    if not (isinstance(getattr(group, "options", None), type) and issubclass(group.options, Block) and hasattr(group, "contribute")):
        raise TypeError(f"{name} is {type(group).__name__}, expected a class that inherits tidemill.features.groups.FeatureGroup")
    return group


FEATURE_GROUPS: Registry[FeatureGroup] = Registry(
    "feature group",
    "tidemill.feature_groups",
    {
        "numeric": "tidemill.features.groups.numeric:NumericGroup",
        "boolean": "tidemill.features.groups.boolean:BooleanGroup",
        "datetime": "tidemill.features.groups.datetime:DatetimeGroup",
        "categorical": "tidemill.features.groups.categorical:CategoricalGroup",
        "array": "tidemill.features.groups.array:ArrayGroup",
        "text": "tidemill.features.groups.text:TextGroup",
        "buckets": "tidemill.features.groups.buckets:BucketsGroup",
        "interactions": "tidemill.features.groups.interactions:InteractionsGroup",
        "polynomial": "tidemill.features.groups.polynomial:PolynomialGroup",
        "pca": "tidemill.features.groups.pca:PcaGroup",
        "hashing": "tidemill.features.groups.hashing:HashingGroup",
        "custom": "tidemill.features.groups.custom:CustomGroup",
    },
    _accept,
)


class Select(Block):
    """Which slots of the feature vector are kept, learnt inside the fold.

    univariate: those that say most about the label alone (ANOVA's F, or for a number the correlation); variance: those that vary most;
    correlation: as univariate, but none that correlates with a better one at ``threshold`` or more.
    """

    method: Literal["univariate", "variance", "correlation"] = "univariate"
    top: int | None = Field(default=None, gt=0, description="the most slots to keep")
    threshold: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="univariate: the least share of the label that a slot explains; variance: the least variance; correlation: see above",
    )

    @model_validator(mode="after")
    def _check_bounds(self) -> Select:
        if self.top is None and self.threshold is None:
            raise ValueError("needs `top` (how many slots stay) or `threshold`")
        if self.method != "variance" and self.threshold is not None and self.threshold > 1:
            raise ValueError(f"threshold of {self.method} is a share, expected at most 1, found {self.threshold:g}")
        return self


class Checks(Block):
    """Sanity checks of the feature columns, made in the step dataset before any training."""

    leakage: Literal["block", "warn", "off"] = Field(default="block", description="a column that knows the label, or is known too late")
    constant: Literal["drop", "warn", "off"] = Field(default="drop", description="one value in all training rows; dropped where `auto`")
    correlation: Share | Literal["off"] = Field(default=0.98, description="two columns that correlate this much are named")
    allow: list[ColumnName] = Field(
        default=[], description="columns that may know the label, as they are known in time, or hold text that cannot be read as declared"
    )


@dataclass(frozen=True)
class DeclaredGroup:
    """A group with its blocks, and the name it has in the spec."""

    name: str
    kind: FeatureGroup
    blocks: tuple[Any, ...]

    def placed_blocks(self, features: Features) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        """Yield each block with its path in the spec, which has a place where a list is written."""
        is_list = isinstance(getattr(features, self.name), list)
        for place, block in enumerate(self.blocks):
            yield ("features", self.name, *([place] if is_list else [])), block

    @property
    def python(self) -> str:
        """The dotted name of a group of the user's own."""
        return self.name

    @property
    def columns(self) -> list[str]:
        """The raw columns of its blocks, each once."""
        return list(dict.fromkeys(name for block in self.blocks for name in self.kind.columns(block)))


class _Features(Block):
    """Which columns become features and how; ``auto`` until a column group is declared. A group is one block, or a list of them."""

    _kinds: ClassVar[Mapping[str, FeatureGroup]] = {}

    checks: Checks | None = None
    select: Select | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _add_groups(cls, value: Any, handler: ModelWrapValidatorHandler[Features]) -> Features:
        """Validate a block that names groups of packages or of the user's own by a model that has a field for each of them."""
        names = tuple(name for name in value if is_extension(name)) if isinstance(value, Mapping) else ()
        if not names or set(names) <= cls.model_fields.keys():
            return handler(value)
        try:
            model = _model_with(names, cls)
        except UsageError as error:
            details: Any = {"type": "value_error", "loc": names[:1], "input": value[names[0]], "ctx": {"error": ValueError(str(error))}}
            raise ValidationError.from_exception_data(cls.__name__, [details]) from error
        return model.model_validate(value, by_alias=True, by_name=False)

    @property
    def groups(self) -> tuple[DeclaredGroup, ...]:
        """The groups that have blocks, built-in ones first."""
        return tuple(DeclaredGroup(name, group, blocks) for name, group in self._kinds.items() if (blocks := self.blocks(name)))

    def blocks(self, group: str) -> tuple[Any, ...]:
        """Return the blocks of a group, of which one may be written without a list around it."""
        value = getattr(self, group, None)
        return tuple(value) if isinstance(value, list | tuple) else () if value is None else (value,)

    @property
    def texts(self) -> tuple[Any, ...]:
        """The blocks of texts."""
        return self.blocks("text")

    @property
    def columns(self) -> list[str]:
        """The raw columns of the declared groups, each once."""
        return list(dict.fromkeys(name for group in self.groups for name in group.columns))

    @property
    def is_open(self) -> bool:
        """True where the declared groups alone do not say which columns are read."""
        return self.is_auto or any(not group.kind.columns(block) for group in self.groups for block in group.blocks)

    @property
    def is_auto(self) -> bool:
        """True where no column group is declared."""
        return not self.groups

    @property
    def python_names(self) -> list[str]:
        """The dotted names of the user's own code: groups, and stages of ``custom``."""
        return [*(group.name for group in self.groups if "." in group.name), *(block.python for block in self.blocks("custom"))]


def is_extension(name: object) -> bool:
    """Return True for a key under `features` that names a group which is not built in."""
    return isinstance(name, str) and ("." in name or (name in FEATURE_GROUPS and name not in Features.model_fields))


def _model_with(names: Iterable[str], model: type[_Features]) -> type[_Features]:
    kinds = {name: FEATURE_GROUPS.get(name) for name in names}
    fields: dict[str, Any] = {}
    for name, kind in kinds.items():
        options: Any = kind.options
        fields[name] = (list[options], Field(default=[])) if kind.is_list else (options | list[options] | None, None)
    extended = create_model("Features", __base__=model, __doc__=_Features.__doc__, __module__=__name__, **fields)
    extended._kinds = {**model._kinds, **kinds}
    return extended


if TYPE_CHECKING:
    Features = _Features
else:
    Features = _model_with(FEATURE_GROUPS.all_built_in(), _Features)
