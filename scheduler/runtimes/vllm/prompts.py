"""From a row's text to the tokens the model is given."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

BEGIN = "<|begin_of_text|>"
START_HEADER = "<|start_header_id|>"
END_HEADER = "<|end_header_id|>"
END_OF_TURN = "<|eot_id|>"
ENDS = ("<|end_of_text|>", END_OF_TURN, "<|eom_id|>")

Prompt = list[int]
Message = tuple[str, str]  # role and content
Format = Callable[[Any, list[Message]], Prompt]


class PromptError(ValueError):
    pass


def llama3(tokenizer: Any, messages: list[Message]) -> Prompt:
    """Token for token what torchtune's llama3 tokenizer makes of a row, up to the answer.

    The chat template of the published Llama 3 models adds a date and more, which a torchtune fine-tune never saw.
    """
    tokens = [_special(tokenizer, BEGIN)]
    for role, content in messages:
        tokens += [
            *_header(tokenizer, role),
            *_encode(tokenizer, content.strip()),
            _special(tokenizer, END_OF_TURN),
        ]
    return tokens + _header(tokenizer, "assistant")


def chat_template(tokenizer: Any, messages: list[Message]) -> Prompt:
    said = [{"role": role, "content": content} for role, content in messages]
    try:
        rendered = tokenizer.apply_chat_template(said, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is a program of the model's author and may raise anything
        raise PromptError(f"The model's chat template could not be applied: {error}") from error
    return tokenizer.encode(rendered, add_special_tokens=False)


FORMATS: dict[str, Format] = {"llama3": llama3, "chat_template": chat_template}


def build(
    name: str, tokenizer: Any, system_prompt: str | None, text: str, earlier: Sequence[Message] = ()
) -> Prompt:
    if name not in FORMATS:
        raise PromptError(f"There is no prompt format {name!r}: use one of {', '.join(FORMATS)}.")
    system = [] if system_prompt is None else [("system", system_prompt)]
    return FORMATS[name](tokenizer, [*system, *earlier, ("user", text)])


def stop_token_ids(tokenizer: Any) -> list[int]:
    ends = {_id(tokenizer, token) for token in ENDS} | {tokenizer.eos_token_id}
    return sorted(token for token in ends if token is not None)


def _header(tokenizer: Any, role: str) -> Prompt:
    start, end = _special(tokenizer, START_HEADER), _special(tokenizer, END_HEADER)
    return [start, *_encode(tokenizer, role), end, *_encode(tokenizer, "\n\n")]


def _encode(tokenizer: Any, text: str) -> Prompt:
    # Without splitting, "<|eot_id|>" inside a row would become the token itself; torchtune reads it as text.
    return tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)


def _special(tokenizer: Any, token: str) -> int:
    found = _id(tokenizer, token)
    if found is None:
        raise PromptError(
            f"The model's tokenizer has no {token}, so the llama3 format does not fit: use chat_template."
        )
    return found


def _id(tokenizer: Any, token: str) -> int | None:
    return tokenizer.get_vocab().get(token)
