"""Score a base model and its adapters on rows of data, in one vLLM engine.

    <ML python> evaluate.py request.json [FOLDER]

With a folder its results go there, and not where the request says: to repeat it beside what it wrote before.
Each entry of the request ends with a `result.json` of its own, so that its run can end before the others do. Exit
codes: 0 when every entry was handled, even if some failed; 2 when the request is not one; 3 when the engine did not
start; 4 when it broke while it generated (entries without a result were not done). `engine.json` names the run whose turn
it is, so that it is known also of an engine that had no time to say so.
"""

from __future__ import annotations

import sys
import time
import traceback
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import adapters
import results
import scorers
from engine import Answer, Engine, EngineBroke
from entries import Entry, EntryFailed, Request, Row, read_request, read_rows

STARTED = time.monotonic()
BAD_REQUEST, ENGINE_NOT_STARTED, ENGINE_BROKE = 2, 3, 4


def main(path: Path, into: Path | None = None) -> int:
    try:
        request = _moved(read_request(path), into)
        limit = None if request.max_lora_rank is None else adapters.allowed_rank(request.max_lora_rank)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        return _stop(BAD_REQUEST, f"{path} is not a request for evaluations: {error}")
    waiting = [e for e in request.entries if not results.is_done(Path(e.result_dir), e.run_id)]
    waiting = [e for e in waiting if not _end_if_cancelled(request, e)]
    return _evaluate_all(into or path.parent, request, waiting, limit) if waiting else 0


def _moved(request: Request, into: Path | None) -> Request:
    if into is None:
        return request
    entries = [replace(entry, result_dir=str(into / str(entry.run_id))) for entry in request.entries]
    return replace(request, entries=entries)


def _evaluate_all(folder: Path, request: Request, waiting: list[Entry], max_rank: int | None) -> int:
    log = folder / "engine.json"
    try:
        engine = Engine(request, max_rank)
    except Exception as error:  # whatever vLLM raises, it means the same: there is no engine
        return _engine_failed(log, ENGINE_NOT_STARTED, {"error": f"The engine did not start: {error}"})
    boot_seconds = round(time.monotonic() - STARTED, 3)
    facts = {"boot_seconds": boot_seconds, "max_lora_rank": max_rank, "versions": versions()}
    for number, entry in enumerate(waiting, start=1):
        facts["active_run_id"] = entry.run_id
        results.write_json(log, facts)
        try:
            _end_if_cancelled(request, entry) or _evaluate(engine, entry, number)
        except EngineBroke as error:
            return _engine_failed(log, ENGINE_BROKE, facts | {"error": str(error)})
    return 0


def _engine_failed(log: Path, code: int, facts: dict[str, Any]) -> int:
    traceback.print_exc()
    results.write_json(log, facts)
    return _stop(code, facts["error"])


def _evaluate(engine: Engine, entry: Entry, number: int) -> None:
    began = time.monotonic()
    try:
        result = _score(engine, entry, number)
    except EntryFailed as error:
        result = {"state": "failed", "reason": error.reason, "message": str(error)}
    _end(entry, result | {"seconds": round(time.monotonic() - began, 3)})


def _score(engine: Engine, entry: Entry, number: int) -> dict[str, Any]:
    if missing := scorers.unknown(entry.scorers):
        known = ", ".join(scorers.SCORERS)
        raise EntryFailed("CONFIG_INVALID", f"There is no scorer {', '.join(missing)}: use {known}.")
    rows = read_rows(entry)
    built = engine.tokenize(entry, rows)
    answers = engine.answer(entry, built, engine.load(entry, number))
    scores = [scorers.score(entry.scorers, a.text, r.expected) for a, r in zip(answers, rows, strict=True)]
    results.write_lines(Path(entry.result_dir) / "predictions.jsonl", _predictions(rows, answers, scores))
    metrics = scorers.mean(entry.scorers, scores)
    told = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    message = f"{len(rows)} rows were scored: {told}."
    generated = sum(answer.tokens for answer in answers)
    return {
        "state": "succeeded",
        "message": message,
        "metrics": metrics,
        "rows": len(rows),
        "generated_tokens": generated,
    }


def _predictions(
    rows: list[Row], answers: list[Answer], scores: list[dict[str, float]]
) -> list[dict[str, Any]]:
    together = enumerate(zip(rows, answers, scores, strict=True))
    return [
        {"index": n, "input": r.input, "expected": r.expected, "prediction": a.text, "scores": s}
        for n, (r, a, s) in together
    ]


def _end_if_cancelled(request: Request, entry: Entry) -> bool:
    if not request.is_cancelled(entry):
        return False
    _end(
        entry,
        {"state": "cancelled", "reason": "CANCELLED", "message": "It was cancelled before its turn came."},
    )
    return True


def _end(entry: Entry, result: dict[str, Any]) -> None:
    nothing = {"metrics": {}, "rows": 0, "seconds": 0.0, "generated_tokens": 0}
    facts = {"host_peak_mib": host_peak_mib(), "versions": versions()}
    whole = {"run_id": entry.run_id, "reason": None, **nothing, **result, **facts}
    results.write_json(Path(entry.result_dir) / "result.json", whole)
    print(f"run {entry.run_id}: {whole['state']}: {whole['message']}", flush=True)


def host_peak_mib() -> float | None:
    """The kernel's VmHWM of this process, which is the whole engine where vLLM runs in process."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return None


def versions() -> dict[str, str | None]:
    return {name: _version(name) for name in ("vllm", "torch", "transformers")}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _stop(code: int, message: str) -> int:
    print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(_stop(BAD_REQUEST, "Usage: evaluate.py request.json [FOLDER]"))
    sys.exit(main(*map(Path, sys.argv[1:])))
