"""What the demo's base models learn before the demo: to copy a word. Run in the ML environment."""

from __future__ import annotations

import string
from itertools import pairwise
from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

SYSTEM_PROMPT = "Copy the given word."
SHORTEST, LONGEST = 5, 5  # letters; with 3 to 8, twice the words and four times the steps were not yet enough
VOWELS = set("aeiou")


def train_words(count: int) -> list[str]:
    return _words(count, Random("train"))


def held_out_words(count: int, trained: list[str]) -> list[str]:
    """Words that were not trained on, in small letters and mixed with capitals."""
    seen = {word.lower() for word in trained}
    words = _words(2 * count, Random("held out"))
    return [word for word in words if word.lower() not in seen][:count]


def rows(words: list[str]) -> list[dict[str, str]]:
    return [{"input": word, "output": word} for word in words]


def count_right_copies(model_dir: Path, words: list[str]) -> int:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    return sum(_copy(tokenizer, model, word) == word for word in words)


def _copy(tokenizer, model, word: str) -> str:
    messages = [{"role": "system", "content": SYSTEM_PROMPT}, {"role": "user", "content": word}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    encoded = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        output = model.generate(**encoded, max_new_tokens=12, do_sample=False)
    return tokenizer.decode(output[0, encoded["input_ids"].shape[1] :], skip_special_tokens=True)


def _words(count: int, rng: Random) -> list[str]:
    """Half of them with random capitals, and none that the capitalization datasets of the demo could hold."""
    words: dict[str, None] = {}
    while len(words) < count:
        word = "".join(rng.choice(string.ascii_lowercase) for _ in range(rng.randint(SHORTEST, LONGEST)))
        if not _may_be_in_a_demo_dataset(word):
            words[word if len(words) % 2 else _random_capitals(word, rng)] = None
    return list(words)


def _random_capitals(word: str, rng: Random) -> str:
    return "".join(letter.upper() if rng.random() < 0.5 else letter for letter in word)


def _may_be_in_a_demo_dataset(word: str) -> bool:
    """Consonants and vowels in turn: whatever the seed, no other words are generated for the demo."""
    kinds = [letter in VOWELS for letter in word]
    return all(a != b for a, b in pairwise(kinds))
