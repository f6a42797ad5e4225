"""A file of any size, taken apart in bounded memory."""

from collections.abc import Iterable, Iterator

MAX_FRAGMENT_BYTES = 16 * 1024  # what goes beyond is passed over


def fragments(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """What stands between line feeds and carriage returns, with its line, counted from 1.

    Where the chunks are cut changes nothing. A fragment that is longer than the limit is cut short.
    """
    line, held = 1, b""
    for chunk in chunks:
        for index, text in enumerate(chunk.split(b"\n")):
            if index:
                if held:
                    yield line, held
                line, held = line + 1, b""
            *ended, rest = text.split(b"\r")
            for piece in ended:
                if fragment := _joined(held, piece):
                    yield line, fragment
                held = b""
            held = _joined(held, rest)
    if held:
        yield line, held


def whole_lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines that have come to their end, with their numbers; those that are too long are passed over."""
    line, held = 1, b""
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for text in ended:
            whole = _joined(held, text)
            if len(whole) < MAX_FRAGMENT_BYTES:
                yield line, whole
            line, held = line + 1, b""
        held = _joined(held, rest)


def _joined(held: bytes, piece: bytes) -> bytes:
    if not held:
        return piece if len(piece) <= MAX_FRAGMENT_BYTES else piece[:MAX_FRAGMENT_BYTES]
    room = MAX_FRAGMENT_BYTES - len(held)
    return held + piece[:room] if room > 0 else held
