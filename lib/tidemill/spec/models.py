"""What a user may write in ``pipeline.yml``: frozen models, one class a block of the spec."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, StringConstraints, Tag, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
DottedName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")]
TableName = Annotated[str, StringConstraints(pattern=r"^(bronze|silver|gold)\.[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Duration = Annotated[str, StringConstraints(pattern=r"^\d+\s*(s|m|h|d)$")]
Share = Annotated[float, Field(ge=0, le=1)]
Scalar = bool | int | float | str

SOURCE_FORMATS = ("csv", "json", "parquet", "orc", "avro", "xml", "text", "binaryFile", "delta", "jdbc", "kafka")
TASKS = ("binary", "multiclass", "regression")
METRICS: dict[str, tuple[str, ...]] = {
    "binary": ("areaUnderPR", "areaUnderROC", "accuracy", "f1", "logLoss"),
    "multiclass": ("f1", "accuracy", "logLoss"),
    "regression": ("rmse", "mae", "r2"),
}
MINIMISED = frozenset({"logLoss", "rmse", "mae"})
FAMILIES: dict[str, tuple[str, ...]] = {
    "binary": ("logistic_regression", "random_forest", "gradient_boosted_trees"),
    "multiclass": ("logistic_regression", "random_forest", "gradient_boosted_trees"),
    "regression": ("linear_regression", "random_forest", "gradient_boosted_trees"),
}


class Block(BaseModel):
    """Base of every block: frozen, no unknown keys, keys as they are written in YAML."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, strict=True)


class Source(Block):
    """One raw source; it becomes ``bronze.<name>``."""

    format: str
    path: str | None = None
    url: str | None = None
    table: str | None = None
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    schema_: str | None = Field(default=None, alias="schema", description="DDL, or a .ddl/.json file; absent: inferred once, then pinned")
    options: dict[str, Scalar] = {}
    load: Literal["incremental", "full"] = "full"
    key: list[Name] = []
    watermark: Name | None = None
    timezone: str = "UTC"
    on_bad_file: Literal["quarantine", "fail"] = "quarantine"
    on_new_column: Literal["rescue", "add", "fail"] = "rescue"
    on_missing_column: Literal["null", "fail"] = "null"
    on_type_change: Literal["quarantine", "widen", "fail"] = "quarantine"


class Expectation(Block):
    """A rule for the rows of a table: a row passes when ``check`` is true (not false, not null, no error)."""

    check: str
    on_violation: Literal["warn", "drop", "quarantine", "fail"] = "warn"
    at_most: Share | None = Field(default=None, description="share of rows that may break the rule before the step fails")


class Table(Block):
    """One cleaned or integrated table; it becomes ``silver.<name>``."""

    sql: str | None = None
    python: DottedName | None = None
    inputs: list[TableName] = Field(default=[], description="for `python`: the tables of its parameters; absent: read from their names")
    key: list[Name] = []
    load: Literal["full", "incremental"] = "full"
    latest_by: Name | None = None
    expectations: dict[Name, Expectation] = {}

    @model_validator(mode="after")
    def _one_definition(self) -> Table:
        if (self.sql is None) == (self.python is None):
            raise ValueError("needs exactly one of `sql` and `python`")
        return self


class Lookup(Block):
    """A point-in-time join: the latest row of ``table`` known at the event time."""

    table: TableName
    by: list[Name]
    time: Name
    at_most: Duration | None = None


class Split(Block):
    """How rows become train and test, and how training rows become folds."""

    by: Literal["time", "hash", "group", "column"] = "hash"
    test: Share | str = 0.2
    group: Name | None = None
    column: Name | None = None
    stratified: bool = False
    folds_by: Literal["time", "hash", "group"] | None = None
    seed: int = 7

    @model_validator(mode="after")
    def _has_its_column(self) -> Split:
        if self.by == "group" and self.group is None:
            raise ValueError("`by: group` needs `group: <column>`")
        if self.by == "column" and self.column is None:
            raise ValueError("`by: column` needs `column: <column>`")
        if self.by != "time" and isinstance(self.test, str):
            raise ValueError(f"`test: {self.test!r}` is an instant, which fits `by: time` only; write a share such as 0.2")
        return self


class Dataset(Block):
    """The examples: one row a key, with its label; it becomes ``gold.<pipeline>_dataset``."""

    sql: str | None = None
    from_: TableName | None = Field(default=None, alias="from")
    lookups: dict[Name, Lookup] = {}
    key: list[Name] = Field(min_length=1)
    label: Name
    positive: Scalar | None = None
    event_time: Name | None = None
    split: Split | None = Field(default=None, description="absent: by time where `event_time` is given, else by hash; test: 0.2")
    exclude: list[Name] = []

    @model_validator(mode="after")
    def _one_definition(self) -> Dataset:
        if (self.sql is None) == (self.from_ is None):
            raise ValueError("needs exactly one of `sql` and `from`")
        if self.split is not None and self.split.by == "time" and self.event_time is None:
            raise ValueError("`split: {by: time}` needs `event_time: <column>`")
        return self

    def split_rule(self) -> Split:
        """Return the split as declared, or the default one."""
        return self.split or Split(by="time" if self.event_time else "hash")


class Numeric(Block):
    """Columns used as numbers."""

    columns: list[Name] = Field(min_length=1)
    impute: Literal["median", "mean", "mode", "none"] | float = "median"
    scale: Literal["standard", "minmax", "robust", "none"] = "standard"


class Categorical(Block):
    """Columns used as categories; values seen fewer than ``min_frequency`` times in training, or never, share one slot."""

    columns: list[Name] = Field(min_length=1)
    encode: Literal["auto", "onehot", "index"] = Field(default="auto", description="auto: one-hot for linear families, else index")
    min_frequency: int = Field(default=1, ge=1)


class Datetime(Block):
    """Instants taken apart into calendar parts (UTC)."""

    columns: list[Name] = Field(min_length=1)
    parts: list[Literal["year", "quarter", "month", "week", "day", "weekday", "yearday", "hour", "minute"]] = ["hour", "weekday", "month"]
    cyclic: bool = True


class Text(Block):
    """Columns of free text."""

    columns: list[Name] = Field(min_length=1)
    stages: list[str] = ["clean", "tokens", "stopwords", "tfidf"]


class PythonPart(Block):
    """A class or function of the user's own, by dotted name, with its parameters."""

    python: DottedName
    params: dict[str, Any] = {}


class Checks(Block):
    """Sanity checks of the feature columns."""

    leakage: Literal["block", "warn", "off"] = "block"
    constant: Literal["drop", "warn", "off"] = "drop"
    correlation: Share | None = None


class Select(Block):
    """Feature selection inside the fold."""

    method: Literal["univariate", "variance"] = "univariate"
    top: int = Field(gt=0)


class Features(Block):
    """Which columns become features and how; ``auto`` until a column group is declared."""

    numeric: Numeric | None = None
    categorical: Categorical | None = None
    datetime: Datetime | None = None
    text: Text | None = None
    custom: list[PythonPart] = []
    checks: Checks | None = None
    select: Select | None = None

    @property
    def is_auto(self) -> bool:
        """True where no column group is declared."""
        return not (self.numeric or self.categorical or self.datetime or self.text or self.custom)


Bounds = Annotated[list[float], Field(min_length=2, max_length=2)]


class LogRange(Block):
    """Real numbers between two bounds, evenly spread over their logarithms."""

    log: Bounds


class IntRange(Block):
    """Whole numbers between two bounds, both included."""

    int: Annotated[list[int], Field(min_length=2, max_length=2)]


class FloatRange(Block):
    """Real numbers between two bounds."""

    float: Bounds


def _range_kind(value: object) -> str:
    if isinstance(value, dict):
        return next((kind for kind in ("int", "float") if kind in value), "log")
    if isinstance(value, Block):
        return {LogRange: "log", IntRange: "int", FloatRange: "float"}[type(value)]
    return "choices" if isinstance(value, list) else "fixed"


Range = Annotated[
    Annotated[LogRange, Tag("log")]
    | Annotated[IntRange, Tag("int")]
    | Annotated[FloatRange, Tag("float")]
    | Annotated[list[Scalar], Field(min_length=1), Tag("choices")]
    | Annotated[Scalar, Tag("fixed")],
    Discriminator(_range_kind),
]
Space = dict[str, Range]


class CustomFamily(Block):
    """A model family of the user's own."""

    python: DottedName
    space: Space = {}


def _family_kind(value: object) -> str:
    return "custom" if isinstance(value, CustomFamily) or (isinstance(value, dict) and "python" in value) else "space"


Family = Annotated[Annotated[CustomFamily, Tag("custom")] | Annotated[Space, Tag("space")], Discriminator(_family_kind)]


class Tuner(Block):
    """How the search space is walked; ``trials`` is the number of parameter sets of the whole run, spread over the families."""

    strategy: Literal["grid", "random", "tpe"] = "random"
    trials: int | None = Field(default=None, gt=0, description="absent: 12 for random search, the whole grid for grid search")
    timeout: Duration | None = None
    seed: int = 7
    early_stopping: Literal["hyperband", "none"] = "none"


class Threshold(Block):
    """Where a probability becomes the positive class."""

    maximise: Literal["f1", "accuracy"] | None = None
    at_precision: Share | None = None
    at_recall: Share | None = None


class Training(Block):
    """The search: families, their spaces, folds and metric."""

    task: Literal["binary", "multiclass", "regression"]
    metric: str | None = Field(default=None, description="absent: areaUnderPR (binary), f1 (multiclass), rmse (regression)")
    folds: int = Field(default=3, ge=2, le=50)
    engine: Literal["auto", "spark", "tasks"] = "auto"
    tuner: Tuner = Tuner()
    select: Literal["best", "one_standard_error"] = "best"
    models: dict[Name, Family] = {}
    balance: Literal["none", "weights", "undersample"] = "none"
    calibrate: Literal["none", "isotonic", "sigmoid"] = "none"
    threshold: Threshold | None = None

    @property
    def selection_metric(self) -> str:
        """The metric that the search optimises."""
        return self.metric or METRICS[self.task][0]

    @property
    def families(self) -> dict[str, Family]:
        """The declared families, or the default ones of the task."""
        return self.models or {name: {} for name in FAMILIES[self.task]}


class Evaluation(Block):
    """Test metrics, slices and gates."""

    slices: list[Name] = []
    gates: list[str] | None = Field(default=None, description="absent: better than the constant baseline")
    approval: Literal["auto", "manual"] = "auto"


class Scoring(Block):
    """What the champion scores; it becomes ``gold.<pipeline>_predictions``."""

    from_: TableName | None = Field(default=None, alias="from")
    sql: str | None = None
    load: Literal["full", "incremental"] = "full"
    keep: list[Name] = []
    shadow: bool = False

    @model_validator(mode="after")
    def _one_definition(self) -> Scoring:
        if self.from_ is not None and self.sql is not None:
            raise ValueError("takes one of `from` and `sql`, not both")
        return self


class Drift(Block):
    """How far the scored rows may lie from the training rows."""

    method: Literal["psi", "js", "ks"] = "psi"
    warn: float = Field(default=0.1, ge=0)
    alert: float = Field(default=0.25, ge=0)
    on_alert: Literal["warn", "fail"] = "warn"


class Labels(Block):
    """Where labels arrive later."""

    table: TableName
    by: list[Name]
    column: Name
    mature_after: Duration = "1d"


class Performance(Block):
    """How far a live metric may fall."""

    metric: str
    drop: float


class Retrain(Block):
    """When breaches ask for a new training run."""

    breaches: int = Field(gt=0)
    of: int = Field(gt=0)


class Monitoring(Block):
    """What is watched after deployment."""

    drift: Drift | None = None
    labels: Labels | None = None
    performance: Performance | None = None
    freshness: dict[Name, Duration] = {}
    retrain: Retrain | None = None


class Pipeline(Block):
    """The whole of ``pipeline.yml``."""

    pipeline: Name
    description: str = ""
    vars: dict[str, Scalar] = {}
    lake: str = "./lake"
    sources: dict[Name, Source] = Field(min_length=1)
    tables: dict[Name, Table] = {}
    dataset: Dataset
    features: Literal["auto"] | Features = "auto"
    training: Training
    evaluation: Evaluation = Evaluation()
    scoring: Scoring = Scoring()
    monitoring: Monitoring = Monitoring()

    @property
    def dataset_table(self) -> str:
        """``gold.<pipeline>_dataset``."""
        return f"gold.{self.pipeline}_dataset"

    @property
    def predictions_table(self) -> str:
        """``gold.<pipeline>_predictions``."""
        return f"gold.{self.pipeline}_predictions"

    @property
    def model_name(self) -> str:
        """``models.<pipeline>``: the name under which steps hand a model version on, beside their tables."""
        return f"models.{self.pipeline}"
