"""How many tokens torchtune makes of rows: requests as JSON on stdin, their lengths as JSON on stdout.

Run by the ML environment's Python. The rows go through the transforms that instruct_dataset and chat_dataset use.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from torchtune.data import InputOutputToMessages, OpenAIToMessages
from torchtune.datasets._sft import SFTTransform
from torchtune.models.llama3 import Llama3Tokenizer


def main() -> None:
    json.dump([_lengths(request) for request in json.load(sys.stdin)], sys.stdout)


def _lengths(request: dict[str, Any]) -> list[int]:
    tokenizer = Llama3Tokenizer(request["tokenizer_file"], max_seq_len=request["max_seq_len"])
    prepare = SFTTransform(message_transform=_transform(request), model_transform=tokenizer)
    return [len(prepare(dict(row))["tokens"]) for row in request["rows"]]


def _transform(request: dict[str, Any]) -> Any:
    prompt = request["system_prompt"]
    if request["messages_column"]:
        return OpenAIToMessages(column_map={"messages": request["messages_column"]}, new_system_prompt=prompt)
    columns = {"input": request["input_column"], "output": request["output_column"]}
    return InputOutputToMessages(column_map=columns, new_system_prompt=prompt)


if __name__ == "__main__":
    main()
