"""Fine-tunes and probes by torchtune 0.6.1: its configuration, its command, and what lies beside it in its folder."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments import recipes, torchtune_command
from experiments.parsers import torchtune as parser
from experiments.recipes import Recipe
from experiments.scripts import command_sh
from experiments.specs import FinetuneSpec, ProbeSpec
from experiments.torchtune_builders import missing_special_tokens
from experiments.torchtune_config import build_config
from scheduler.launchers.base import ExitRecord
from scheduler.paths import JobPaths
from scheduler.programs import probe_rows, resuming, torchtune_verdict
from scheduler.programs.base import CarriedRun, Command, PlacedJob, Surroundings, Verdict
from scheduler.programs.environment import job_environment
from scheduler.programs.reproduction import COMMAND, ENVIRONMENT, copies, environment_json
from scheduler.programs.torchtune_measurements import Finished

RUNTIME = Path(__file__).resolve().parent.parent / "runtimes" / "torchtune"


class Torchtune:
    def prepare(self, job: PlacedJob, surroundings: Surroundings) -> Command:
        asked = job.runs[0].spec
        spec = _trained(job.runs[0], job.paths)
        recipe = recipes.named(spec.recipe, method=spec.method)
        config = _config(job, spec, recipe)
        argv = torchtune_command.arguments(python=str(surroundings.ml_python), spec=spec, recipe=recipe)
        environment = _environment(asked, surroundings)
        resumed = resuming.resumption(job=job, recipe=recipe, config=config, environment=environment)
        folder = job.paths.directory
        code = folder / torchtune_command.CODE
        env = {**job_environment(job, surroundings), "PYTHONPATH": str(code)}
        script = command_sh(
            argv=torchtune_command.repeating(argv), env=env, code_folder=torchtune_command.CODE
        )
        files = {
            folder / torchtune_command.CONFIG: resuming.config_text(config),
            folder / ENVIRONMENT: environment,
            folder / COMMAND: script,
            **copies(RUNTIME, sorted(_modules(config, recipe) | resumed.modules), into=code),
            **_own_recipe(spec, folder),
            **_rows(asked, folder),
            **resumed.files(job, spec),
        }
        argv = resumed.arguments(argv)
        return Command(argv=argv, env=env, files=files, executables=frozenset({folder / COMMAND}))

    def settled(self, job: PlacedJob) -> Mapping[int, Verdict]:
        return {}

    def verify(self, job: PlacedJob, record: ExitRecord) -> Mapping[int, Verdict]:
        run = job.runs[0]
        finished = Finished(
            spec=_trained(run, job.paths),
            paths=job.paths,
            record=record,
            metrics=parser.read(job.paths.output),
            on_gpu=job.on_gpu,
        )
        verdict = torchtune_verdict.verdict(run, finished)
        message = f"{verdict.outcome.message} {resuming.told(job)}".strip()
        return {run.run_id: replace(verdict, outcome=replace(verdict.outcome, message=message))}

    def lack(self, run: CarriedRun, paths: JobPaths) -> str:
        if not paths.directory.is_dir():
            return f"{paths.directory} is not there."
        return torchtune_verdict.lack(run, _trained(run, paths), paths)


def _trained(run: CarriedRun, paths: JobPaths) -> FinetuneSpec:
    spec = run.spec
    if isinstance(spec, ProbeSpec):
        return probe_rows.probed(spec, paths.directory / probe_rows.ROWS)
    assert isinstance(spec, FinetuneSpec)
    return spec


def _config(job: PlacedJob, spec: FinetuneSpec, recipe: Recipe) -> Mapping[str, Any]:
    """Checked when it was planned, and again: what was stored since may have been planned by an older labmgr."""
    model = Path(spec.model_path)
    config = build_config(
        spec=spec,
        model_config=json.loads((model / "config.json").read_text()),
        weight_files=_weight_files(model),
        output_dir=job.paths.output,
        on_gpu=job.on_gpu,
        special_tokens_listed=not missing_special_tokens(_tokenizer(model)),
    )
    if problems := recipes.check_config(recipe, config):
        raise ValueError(" ".join(str(problem) for problem in problems))
    return config


def _modules(config: Mapping[str, Any], recipe: Recipe) -> set[str]:
    """Our own that the run needs beside it."""
    named = {str(config["metric_logger"]["_component_"]), str(config["dataset"]["_component_"])}
    named |= {str(config["dataset_val"]["_component_"])} if "dataset_val" in config else set()
    ours = {f"{name.rpartition('.')[0]}.py" for name in named if not name.startswith("torchtune.")}
    return ours | ({"validation.py", f"{recipe.name}.py"} if recipe.validates else set())


def _own_recipe(spec: FinetuneSpec, folder: Path) -> Mapping[Path, str]:
    if spec.recipe_file is None:
        if recipes.is_own(spec.recipe):
            raise ValueError(
                f"The recipe {spec.recipe!r} is a lab's own, and its file is not named; plan it again."
            )
        return {}
    source = Path(spec.recipe_file)
    return {folder / torchtune_command.OWN / source.name: source.read_text(encoding="utf-8")}


def _rows(asked: object, folder: Path) -> Mapping[Path, str]:
    if not isinstance(asked, ProbeSpec):
        return {}
    return {folder / probe_rows.ROWS: json.dumps(probe_rows.chosen_rows(asked), ensure_ascii=False)}


def _environment(asked: object, surroundings: Surroundings) -> str:
    spec = asked.finetune if isinstance(asked, ProbeSpec) else asked
    assert isinstance(spec, FinetuneSpec)
    data = [spec.data, *([spec.validation.data] if spec.validation else [])]
    return environment_json(model_path=Path(spec.model_path), data=data, ml_python=surroundings.ml_python)


def _tokenizer(model_path: Path) -> Mapping[str, Any]:
    """Empty where there is none: torchtune itself then says so best."""
    try:
        found: Mapping[str, Any] = json.loads((model_path / "tokenizer.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found


def _weight_files(model_path: Path) -> list[str]:
    index = model_path / "model.safetensors.index.json"
    if not index.is_file():
        return ["model.safetensors"]
    return sorted(set(json.loads(index.read_text())["weight_map"].values()))
