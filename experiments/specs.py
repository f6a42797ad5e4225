"""What a run is to do, as frozen data that travels between planning, the run table and the programs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job of this run takes, all or nothing."""

    devices: int = 1
    device_memory_mib: int | None = None  # of each device; None takes whole devices
    host_memory_mib: int = 0
    cpu_threads: int = 1
    pool: str = ""  # the nodes it may run on: those of this pool
    limit_seconds: int = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """Where rows come from: a file, its format, one split, and the columns that are used."""

    __pydantic_config__ = _STRICT
    path: str  # the file that holds the split, of a folder of files, too
    format: Literal["json_splits", "json", "jsonl", "csv", "parquet"]
    split: str
    input_column: str = "input"
    output_column: str = "output"
    messages_column: str | None = (
        None  # chat rows: a list of {role, content}; then the two above are not used
    )
    system_prompt: str | None = None


@dataclass(frozen=True, kw_only=True)
class ValidationSpec:
    """The loss on rows that are not trained on, while training goes on."""

    __pydantic_config__ = _STRICT
    data: DataSource
    rows: int
    every_n_steps: int
    max_batches: int | None = None


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What torchtune will be given, worked out from the token lengths; see experiments.batches."""

    __pydantic_config__ = _STRICT
    samples: int  # of one epoch: rows, or packs when packed
    steps_per_epoch: int
    tokens_per_step: float  # mean of padded tokens in an optimizer step, all its micro-batches
    squares_per_step: float  # mean of sum(batch * length^2) in an optimizer step
    longest_batch_tokens: int  # the largest batch_size * padded length of one micro-batch
    longest_sequence: int  # the padded length of that batch
    truncated_share: float = 0.0  # of the rows, longer than max_seq_len


@dataclass(frozen=True, kw_only=True)
class FinetuneSpec:
    __pydantic_config__ = _STRICT
    kind: Literal["finetune"] = "finetune"
    model_name: str
    model_path: str
    data: DataSource
    rows: int
    recipe: str = "lora_finetune_single_device"
    lora_rank: int = 64
    lora_alpha: int = 128
    batch_size: int = 4
    gradient_accumulation_steps: int = 1
    epochs: int = 1
    max_steps_per_epoch: int | None = None
    learning_rate: float = 3e-4
    max_seq_len: int = 512
    packed: bool = False
    seed: int = 0
    steps_per_epoch: int | None = None  # None: packed, and the token lengths are not known
    method: Literal["lora", "qlora", "full"] = "lora"
    world_size: int = 1
    workload: Workload | None = None  # None where the token lengths are not known
    validation: ValidationSpec | None = None
    recipe_file: str | None = None  # a lab's own recipe; `recipe` is then its name
    keep: Literal["all", "last", "best", "adapter"] = "all"  # checkpoints that stay when it has succeeded
    overrides: Mapping[str, Any] = field(
        default_factory=dict
    )  # dotted torchtune keys, checked against the recipe


@dataclass(frozen=True, kw_only=True)
class ProbeSpec:
    """A few optimizer steps of a fine-tune on chosen rows, the longest batch among them, to measure time and memory."""

    __pydantic_config__ = _STRICT
    kind: Literal["probe"] = "probe"
    finetune: FinetuneSpec
    row_indices: tuple[int, ...]  # of the training split, in the order in which they are batched


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """vLLM engine arguments that evaluations must share to share an engine."""

    __pydantic_config__ = _STRICT
    max_model_len: int = 512
    max_num_seqs: int = 16
    max_num_batched_tokens: int = 512
    kv_cache_memory_mib: int = 64
    tensor_parallel_size: int = 1


@dataclass(frozen=True, kw_only=True)
class EvaluateSpec:
    __pydantic_config__ = _STRICT
    kind: Literal["evaluate"] = "evaluate"
    model_name: str
    model_path: str
    data: DataSource
    rows: int
    scorers: tuple[str, ...] = ("exact_match",)
    max_tokens: int = 64
    temperature: float = 0.0
    limit: int | None = None
    lora_rank: int | None = None  # of the adapter that is scored; None: whole weights
    adapter_path: str | None = None  # an adapter that is there already; else the fine-tune before it makes it
    engine: EngineSettings = field(default_factory=EngineSettings)

    @property
    def expected_predictions(self) -> int:
        return self.rows if self.limit is None else min(self.rows, self.limit)


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A lab's own program: an argument list, never a shell line."""

    __pydantic_config__ = _STRICT
    kind: Literal["command"] = "command"
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    expected_files: tuple[str, ...] = ()  # relative to the run's directory


@dataclass(frozen=True, kw_only=True)
class SimulatedSpec:
    __pydantic_config__ = _STRICT
    kind: Literal["simulated"] = "simulated"
    duration_seconds: float


RunSpec = FinetuneSpec | ProbeSpec | EvaluateSpec | CommandSpec | SimulatedSpec

_ADAPTER: TypeAdapter[RunSpec] = TypeAdapter(RunSpec)


def spec_to_json(spec: RunSpec) -> dict[str, Any]:
    return asdict(spec)


def spec_from_json(data: Mapping[str, Any]) -> RunSpec:
    return _ADAPTER.validate_python(dict(data))


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One measured fact of a run, before it becomes an observation."""

    metric: str
    value: float
    unit: str
    source_file: str
    source_line: int | None = None
    is_bound: bool = False  # a bound on the quantity, not a measured value of it


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended, as its program's verification found it."""

    succeeded: bool
    reason: str = ""
    message: str = ""
    was_active: bool = True  # when an engine that it shared broke down; False: it waited for its turn
