"""One vLLM engine for a whole request."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import adapters
import prompts
from entries import Entry, EntryFailed, Request, Row


class EngineBroke(Exception):
    pass


@dataclass(frozen=True)
class Answer:
    text: str
    tokens: int


class Engine:
    def __init__(self, request: Request, max_rank: int | None) -> None:
        from vllm import LLM  # takes seconds, so not before it is known to be needed

        lora = {} if max_rank is None else {"enable_lora": True, "max_loras": 1, "max_lora_rank": max_rank}
        self.llm = LLM(model=request.model_path, **lora | request.engine)
        self.base = Path(request.model_path)
        self.max_rank = max_rank
        self.tokenizer = self.llm.get_tokenizer()
        self.max_length = self.llm.llm_engine.model_config.max_model_len

    def load(self, entry: Entry, number: int) -> Any:
        """The adapter, already in the engine: adding it can fail cleanly, generating with a broken one cannot."""
        from vllm.lora.request import LoRARequest

        if entry.adapter_path is None:
            return None
        adapters.check(Path(entry.adapter_path), self.base, self.max_rank)
        adapter = LoRARequest(f"run-{entry.run_id}", number, entry.adapter_path)
        try:
            self.llm.llm_engine.add_lora(adapter)
        except Exception as error:
            self._forget(number)
            raise EntryFailed(
                "ADAPTER_INVALID", f"vLLM cannot use the adapter {entry.adapter_path}: {error}"
            ) from error
        return adapter

    def tokenize(self, entry: Entry, rows: list[Row]) -> list[prompts.Prompt]:
        try:
            built = [
                prompts.build(entry.prompt_format, self.tokenizer, entry.system_prompt, r.input, r.earlier)
                for r in rows
            ]
        except prompts.PromptError as error:
            raise EntryFailed("DATA_INVALID", str(error)) from error
        longest = max(range(len(built)), key=lambda n: len(built[n]))
        if len(built[longest]) + entry.max_tokens > self.max_length:
            raise EntryFailed("DATA_INVALID", self._too_long(longest, len(built[longest]), entry.max_tokens))
        return built

    def answer(self, entry: Entry, built: list[prompts.Prompt], adapter: Any) -> list[Answer]:
        sampling = self._sampling(entry)
        inputs = [{"prompt_token_ids": prompt} for prompt in built]
        try:
            outputs = self.llm.generate(inputs, sampling, lora_request=adapter, use_tqdm=False)
        except Exception as error:
            raise EngineBroke(
                f"The engine broke while it answered for run {entry.run_id}: {error}"
            ) from error
        return [Answer(o.outputs[0].text, len(o.outputs[0].token_ids)) for o in outputs]

    def _sampling(self, entry: Entry) -> Any:
        from vllm import SamplingParams

        wanted = {"temperature": entry.temperature, "max_tokens": entry.max_tokens, "seed": 0}
        try:
            return SamplingParams(**wanted, stop_token_ids=prompts.stop_token_ids(self.tokenizer))
        except Exception as error:  # its validation errors are not ValueErrors
            raise EntryFailed("CONFIG_INVALID", f"vLLM does not take {wanted}: {error}") from error

    def _too_long(self, row: int, length: int, max_tokens: int) -> str:
        return (
            f"Row {row} makes a prompt of {length} tokens, which with max_tokens {max_tokens} is more than the engine's "
            f"max_model_len of {self.max_length}: raise max_model_len, lower max_tokens or shorten the row."
        )

    def _forget(self, number: int) -> None:
        try:
            self.llm.llm_engine.remove_lora(number)
        except Exception:  # it was never there
            pass
