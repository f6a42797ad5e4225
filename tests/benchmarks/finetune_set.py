"""Which fine-tunes record_finetunes.py records: settings that cover what moves time and memory, some of them repeated."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

STEPS = 11  # of a run, the first of them to warm up
REPEATS = 3  # of these, which show how much runs differ of themselves
REPEATED = {
    "small_b4_t60-150_r16",
    "small_b1_t20-160_r16_p512",
    "large_b2_t40-90_r16",
    "large_b2_t40-90_r16_a2",
    "large_b1_t20-160_r16_p256",
}
OUTPUT_BYTES = 12
CHAT_TOKENS = 25  # that the chat format adds to a row; else a byte is a token
MAX_SEQ_LEN = 1024  # above all rows: nothing is cut
LETTERS = "abcdefghijklmnopqrstuvwxyz "

HEAD_DIM = 64
SHAPES = {
    "small": {"hidden": 320, "layers": 12, "heads": 5, "kv_heads": 1, "mlp": 960, "vocabulary": 16_384},
    "large": {"hidden": 640, "layers": 12, "heads": 10, "kv_heads": 2, "mlp": 1920, "vocabulary": 24_000},
}


@dataclass(frozen=True, kw_only=True)
class Configuration:
    shape: str
    batch_size: int
    shortest: int  # bytes of a row's input, drawn evenly between these two
    longest: int
    lora_rank: int = 16
    gradient_accumulation_steps: int = 1
    pack_tokens: int | None = None  # None: not packed
    epochs: int = 1

    @property
    def name(self) -> str:
        parts = [self.shape, f"b{self.batch_size}", f"t{self.shortest}-{self.longest}", f"r{self.lora_rank}"]
        optional = (
            (f"a{self.gradient_accumulation_steps}", self.gradient_accumulation_steps > 1),
            (f"p{self.pack_tokens}", self.pack_tokens),
            (f"e{self.epochs}", self.epochs > 1),
        )
        return "_".join([*parts, *(part for part, is_said in optional if is_said)])

    @property
    def max_seq_len(self) -> int:
        return self.pack_tokens or MAX_SEQ_LEN

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(STEPS / self.epochs)

    @property
    def row_count(self) -> int:
        """Enough for the steps; of packs there are a few more, and the steps are capped."""
        samples = self.steps_per_epoch * self.batch_size * self.gradient_accumulation_steps
        if self.pack_tokens is None:
            return samples
        row_tokens = (self.shortest + self.longest) / 2 + OUTPUT_BYTES + CHAT_TOKENS
        return math.ceil(samples * self.pack_tokens / row_tokens)

    def rows(self) -> list[dict[str, str]]:
        """The same whenever they are asked for."""
        chance = random.Random(self.name)
        return [
            {
                "input": _text(chance, chance.randint(self.shortest, self.longest)),
                "output": _text(chance, OUTPUT_BYTES),
            }
            for _ in range(self.row_count)
        ]


def runs() -> list[tuple[Configuration, int]]:
    """Configurations and the number of the repeat, mixed: one that is broken off shows something of everything."""
    everything = [
        (configuration, repeat)
        for configuration in (*_small(), *_large())
        for repeat in range(REPEATS if configuration.name in REPEATED else 1)
    ]
    random.Random(0).shuffle(everything)
    return everything


def _small() -> Iterator[Configuration]:
    yield from _plain("small", [(1, 400, 600, 16), (1, 600, 900, 4), (2, 150, 300, 16), (2, 300, 500, 4)])
    yield from _plain("small", [(2, 400, 700, 64), (4, 60, 150, 16), (4, 60, 150, 64), (4, 60, 150, 4)])
    yield from _plain("small", [(4, 150, 250, 16), (4, 30, 320, 16), (8, 30, 80, 16), (8, 60, 160, 32)])
    yield from _plain("small", [(8, 20, 120, 64), (16, 20, 50, 16)])
    yield from _plain("small", [(4, 60, 110, 16), (2, 100, 250, 64)], accumulation=2)
    yield from _plain("small", [(2, 100, 200, 16), (1, 300, 450, 4)], accumulation=3)
    yield from _plain("small", [(4, 60, 150, 16), (2, 150, 300, 64), (8, 30, 80, 4)], epochs=2)
    yield from _packed("small", [(1, 512, 16), (2, 256, 16), (1, 896, 64), (2, 384, 4), (4, 192, 32)])
    yield from _packed("small", [(1, 448, 64)], accumulation=2)


def _large() -> Iterator[Configuration]:
    yield from _plain("large", [(1, 80, 160, 16), (1, 200, 300, 16), (1, 350, 450, 4), (2, 40, 90, 16)])
    yield from _plain("large", [(2, 40, 90, 64), (2, 40, 90, 4), (2, 100, 200, 16), (2, 20, 240, 16)])
    yield from _plain("large", [(4, 20, 60, 16), (4, 40, 100, 64), (8, 10, 30, 16), (1, 150, 250, 64)])
    yield from _plain("large", [(1, 80, 160, 16), (2, 40, 90, 16)], accumulation=2)
    yield from _plain("large", [(1, 60, 120, 4), (2, 20, 60, 64)], accumulation=3)
    yield from _plain("large", [(2, 40, 90, 16), (1, 120, 240, 64), (4, 20, 60, 4)], epochs=2)
    yield from _packed("large", [(1, 256, 16), (2, 128, 16), (1, 512, 64), (1, 384, 4), (4, 96, 32)])
    yield from _packed("large", [(1, 192, 64)], accumulation=2)


def _plain(
    shape: str, settings: list[tuple[int, int, int, int]], *, accumulation: int = 1, epochs: int = 1
) -> Iterator[Configuration]:
    for batch_size, shortest, longest, rank in settings:
        yield Configuration(
            shape=shape,
            batch_size=batch_size,
            shortest=shortest,
            longest=longest,
            lora_rank=rank,
            gradient_accumulation_steps=accumulation,
            epochs=epochs,
        )


def _packed(
    shape: str, settings: list[tuple[int, int, int]], *, accumulation: int = 1
) -> Iterator[Configuration]:
    for batch_size, pack_tokens, rank in settings:
        yield Configuration(
            shape=shape,
            batch_size=batch_size,
            shortest=20,
            longest=min(160, pack_tokens - 50),
            lora_rank=rank,
            gradient_accumulation_steps=accumulation,
            pack_tokens=pack_tokens,
        )


def _text(chance: random.Random, length: int) -> str:
    """Without spaces at its ends, which torchtune strips."""
    return "a" + "".join(chance.choices(LETTERS, k=length - 2)) + "z"
