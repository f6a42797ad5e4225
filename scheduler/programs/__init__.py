"""What is run: a program for each kind of run."""

from collections.abc import Mapping

from experiments.states import RunKind
from scheduler.programs.base import Program
from scheduler.programs.command import OwnCommand
from scheduler.programs.simulated import Simulated
from scheduler.programs.torchtune import Torchtune
from scheduler.programs.vllm import Vllm

PROGRAMS: Mapping[RunKind, Program] = {
    RunKind.FINETUNE: Torchtune(),
    RunKind.EVALUATE: Vllm(),
    RunKind.PROBE: Torchtune(),
    RunKind.COMMAND: OwnCommand(),
    RunKind.SIMULATED: Simulated(),
}
