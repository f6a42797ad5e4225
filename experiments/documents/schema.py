"""The experiment document: one schema for files, API and admin. What several of its keys say together: checks.py."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

AUTO: Literal["auto"] = "auto"
MAX_INTEGER = 2**31 - 1  # what a column of every database holds

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Text = Annotated[str, Field(min_length=1)]
Truth = Annotated[bool, Field(strict=True)]  # strict: 1 is not true, and true is not 1
PositiveInt = Annotated[int, Field(strict=True, ge=1, le=MAX_INTEGER)]
NaturalInt = Annotated[int, Field(strict=True, ge=0, le=MAX_INTEGER)]


def _single(value: Any) -> Any:
    if isinstance(value, str | int | float):
        return value
    raise PydanticCustomError("level", "a level is a single value")


Level = Annotated[str | int | float | bool, BeforeValidator(_single)]
Levels = dict[str, Level]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class DatasetFile(_Strict):
    """A file, or a folder with one file a split, such as train.jsonl and test.jsonl."""

    path: Text
    format: Literal["json_splits", "json", "jsonl", "csv", "parquet"] | None = Field(
        None, description="By the file's ending, if not given."
    )
    input_column: Text = "input"
    output_column: Text = "output"
    messages_column: Text | None = Field(
        None, description="Of chat rows: a list of {role, content}; the two columns above are then not used."
    )
    system_prompt: str | None = Field(None, description="Before each row; else what the file says of itself.")


class GeneratorCall(BaseModel):
    """A data set that labmgr makes; the other keys are the generator's own arguments."""

    model_config = ConfigDict(extra="allow", frozen=True)
    generator: Text


class TrainingSettings(_Strict):
    """What a fine-tune can be told. What is not said is taken from experiments/defaults.yaml."""

    lora_rank: PositiveInt
    lora_alpha: PositiveInt = Field(description="Twice the rank, if not given.")
    batch_size: PositiveInt = Field(description="By the model's size, if not given.")
    gradient_accumulation_steps: PositiveInt
    epochs: PositiveInt = Field(description="Asked for, if not given.")
    max_steps_per_epoch: PositiveInt | None = None
    learning_rate: Annotated[float, Field(strict=True, gt=0, lt=1)]
    max_seq_len: PositiveInt = Field(description="In tokens; longer rows are cut.")
    packed: Truth = Field(description="Several rows in one sequence of max_seq_len.")
    seed: NaturalInt = 0
    method: Literal["lora", "qlora", "full"] = "lora"
    recipe: Text | None = Field(
        None, description="Follows from method, devices and validation, if not given."
    )
    torchtune: dict[str, Any] = Field(
        default_factory=dict, description="Dotted keys of the recipe's configuration."
    )


class Validation(_Strict):
    """The loss on rows that are not trained on, while training goes on."""

    split: Text = "validation"
    every_n_steps: PositiveInt = 50
    max_batches: PositiveInt | None = None


class Evaluation(_Strict):
    """How the answers of each cell are scored."""

    split: Text = "test"
    scorers: Annotated[tuple[Literal["exact_match"], ...], Field(min_length=1)] = ("exact_match",)
    max_tokens: PositiveInt = Field(64, description="The longest answer.")
    temperature: Annotated[float, Field(strict=True, ge=0, le=2)] = 0.0
    limit: PositiveInt | None = Field(None, description="So many rows; all of the split, if not given.")


class Limits(_Strict):
    timeout_seconds: PositiveInt = Field(24 * 3600, description="A run that takes longer is ended.")


class Needs(_Strict):
    """What each run takes of a node."""

    devices: PositiveInt = 1
    device_memory_mib: PositiveInt | None = Field(
        None, description="A share of each device; else whole devices."
    )
    host_memory_mib: NaturalInt = 0
    cpu_threads: PositiveInt = 1
    pool: Annotated[str, Field(max_length=100)] = Field(
        "", description="The nodes it may run on: those whose LABMGR_POOL is this. Else nodes of no pool."
    )


class Command(_Strict):
    """A lab's own program. `{factor}` in an argument is replaced by the cell's level."""

    argv: Annotated[tuple[str, ...], Field(min_length=1)]
    env: dict[str, str] = Field(default_factory=dict)
    expected_files: tuple[Text, ...] = Field((), description="Without them the run has failed.")


class Simulated(_Strict):
    """Runs that only wait."""

    duration_seconds: Annotated[float, Field(strict=True, gt=0, le=MAX_INTEGER)]


def _kind_of_dataset(value: Any) -> str | None:
    if isinstance(value, str):
        return "<name>"
    if isinstance(value, GeneratorCall) or (isinstance(value, Mapping) and "generator" in value):
        return "<generator>"
    return "<file>" if isinstance(value, DatasetFile) or _has_path(value) else None


def _has_path(value: Any) -> bool:
    return isinstance(value, Mapping) and "path" in value


def _kind_of_validation(value: Any) -> str | None:
    if value is False:
        return "<off>"
    return "<on>" if isinstance(value, Validation | Mapping) else None


Dataset = Annotated[
    Annotated[GeneratorCall, Tag("<generator>")]
    | Annotated[DatasetFile, Tag("<file>")]
    | Annotated[Text, Tag("<name>")],
    Discriminator(_kind_of_dataset, custom_error_type="dataset", custom_error_message="no dataset"),
]
OffOrOn = Annotated[
    Annotated[Literal[False], Tag("<off>")] | Annotated[Validation, Tag("<on>")],
    Discriminator(_kind_of_validation, custom_error_type="validation", custom_error_message="neither"),
]


def _kind_of_window(value: Any) -> str:
    return "<auto>" if value == AUTO else "<number>"


Window = Annotated[
    Annotated[Literal["auto"], Tag("<auto>")] | Annotated[PositiveInt, Tag("<number>")],
    Discriminator(_kind_of_window),
]


class ExperimentDocument(_Strict):
    name: Name
    question: str = Field("", description="What the lab wants to know.")
    dataset: Dataset | None = Field(None, description="A name or path, a file, or a generator's call.")
    datasets: dict[Name, Dataset] = Field(
        default_factory=dict, description="Several, by the names that the factor `dataset` takes."
    )
    prompts: dict[Name, str] = Field(
        default_factory=dict, description="System prompts, by the names that the factor `prompt` takes."
    )
    factors: dict[str, Annotated[tuple[Level, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="Their levels are crossed."
    )
    cells: tuple[Levels, ...] = Field((), description="Further cells, each with its levels.")
    exclude: tuple[Levels, ...] = Field(
        (), description="Crossed cells with all of these levels are left out."
    )
    seeds: tuple[NaturalInt, ...] = Field((), description="Every cell is repeated with each of them.")
    fixed: dict[str, Any] = Field(
        default_factory=dict, description="Settings of all cells; a mapping gives one for each model."
    )
    validation: OffOrOn | None = Field(None, description="Asked for, if not given and there are rows for it.")
    control: Truth = Field(False, description="Also evaluate each base model without fine-tuning.")
    evaluation: Evaluation | None = None
    keep: Literal["all", "last", "best", "adapter"] = Field(
        "all", description="Checkpoints that stay when a fine-tune has succeeded."
    )
    name_template: Text | None = Field(None, description="Such as {size}_rank{lora_rank}.")
    command: Command | None = None
    simulated: Simulated | None = None
    resources: Needs = Field(default_factory=Needs)
    limits: Limits = Field(default_factory=Limits)
    max_parallel: Window = Field(
        2, description="Jobs of this experiment at the same time; auto: as many as go well."
    )
    priority: Annotated[int, Field(strict=True, ge=-1000, le=1000)] = Field(
        0, description="Higher goes first."
    )
    evaluation_hold_seconds: NaturalInt = Field(
        900, description="How long evaluations wait for others to share their engine's boot."
    )
    on_node_lost: Literal["wait", "requeue"] = "wait"

    @property
    def window(self) -> int | None:
        """None where it is automatic."""
        return None if self.max_parallel == AUTO else self.max_parallel

    @property
    def trains(self) -> bool:
        """Whether it is about models and datasets, and not about programs of the lab's own."""
        return self.dataset is not None or bool(self.datasets)
