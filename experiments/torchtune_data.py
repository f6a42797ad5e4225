"""The dataset section of a torchtune configuration: how it reads each format that labmgr knows."""

from typing import Any

from experiments.specs import DataSource

_SOURCES = {"json_splits": "json", "json": "json", "jsonl": "json", "parquet": "parquet"}


def dataset(data: DataSource, *, packed: bool) -> dict[str, Any]:
    """Only answers are trained on. Raises ValueError for chat rows in a format that holds none."""
    shared = {
        "data_files": data.path,
        "new_system_prompt": data.system_prompt,
        "train_on_input": False,
        "packed": packed,
    }
    if data.messages_column is not None:
        return {**_chat(data), **shared}
    columns = {"column_map": {"input": data.input_column, "output": data.output_column}}
    if data.format == "csv":
        return {"_component_": "text_columns.instruct_dataset", **columns, **shared}
    return {"_component_": "torchtune.datasets.instruct_dataset", **_loaded(data), **columns, **shared}


def _chat(data: DataSource) -> dict[str, Any]:
    if data.format == "csv":
        raise ValueError(
            f"{data.path} is CSV, which holds no lists of messages: use JSON, JSON lines or Parquet."
        )
    return {
        "_component_": "torchtune.datasets.chat_dataset",
        **_loaded(data),
        "conversation_column": data.messages_column,
        "conversation_style": "openai",
    }


def _loaded(data: DataSource) -> dict[str, Any]:
    """`field` picks the split out of a file that holds several; the file as a whole is then called `train`."""
    picked = {"field": data.split} if data.format == "json_splits" else {}
    return {"source": _SOURCES[data.format], "split": "train", **picked}
