"""A catalogue of bad documents: each is refused at its place, naming the thing, with a remedy, before anything runs."""

from typing import NamedTuple

import pytest

from experiments import documents
from experiments.documents import InvalidDocument, Problem
from tests.unit.lab_material import lay_out

GOOD = """
name: ranks
dataset: words.json
factors: {model: [Llama-1B, Llama-3B], lora_rank: [4, 64]}
fixed: {epochs: 2}
evaluation: {split: test}
"""
SLEEPERS = "name: sleepers\nsimulated: {duration_seconds: 1}\n"


class Bad(NamedTuple):
    name: str
    change: str  # of the good document, in YAML; a document of its own where it begins with a name
    path: str
    words: str
    remedy: str


CATALOGUE = [
    # keys
    Bad("a key that is a number", "1: 2", "1", "The key 1 is no text", "'1'"),
    Bad("a key that YAML takes for true", "fixed: {on: 2}", "fixed.True", "yes, no, on and off", "in quotes"),
    Bad("a model's name that YAML takes for false", "factors: {model: [no]}", "factors.model.0", "false", "quotes"),
    Bad("an unknown key", "factor: {}", "factor", "Unknown key 'factor'", "'factors'"),
    Bad("a setting where keys stand", "epochs: 2", "epochs", "Unknown key 'epochs'", "under fixed"),
    Bad("a key where settings stand", "fixed: {control: true}", "fixed.control", "'control'", "left margin"),
    Bad("an unknown setting", "fixed: {batchsize: 4}", "fixed.batchsize", "'batchsize'", "'batch_size'"),
    Bad("an unknown factor", "factors: {model: [a], rank: [4]}", "factors.rank", "'rank'", "'lora_rank'"),
    Bad("an unknown setting of a cell", "cells: [{model: a, epoch: 1}]", "cells.0.epoch", "'epoch'", "'epochs'"),
    Bad("an unknown key of a section", "limits: {timeout: 5}", "limits.timeout", "'timeout'", "timeout_seconds"),
    Bad(
        "an unknown key of a file", "dataset: {path: x, fromat: csv}", "dataset.fromat", "'fromat'", "'format'"
    ),
    Bad("a key given twice", f"{GOOD}name: again", "name", "given twice, again in line 7", "Keep one"),
    # shapes
    Bad("a level for a list", "factors: {model: Llama-1B}", "factors.model", "'Llama-1B' is no list", "[...]"),
    Bad("no levels", "factors: {model: []}", "factors.model", "empty", "at least one"),
    Bad("a level that is a mapping", "factors: {model: [{a: 1}]}", "factors.model.0", "{'a': 1}", "one text"),
    Bad("a level that is a list", "factors: {lora_rank: [[4]]}", "factors.lora_rank.0", "[4]", "one number"),
    Bad("an empty level", "factors: {model: [null]}", "factors.model.0", "null", "one text"),
    Bad("factors as a list", "factors: [model]", "factors", "['model'] is no mapping", "{key: value}"),
    Bad("cells as a mapping", "cells: {model: Llama-1B}", "cells", "is no list", "[...]"),
    Bad("a cell as a text", "cells: [Llama-1B]", "cells.0", "'Llama-1B' is no mapping", "{key: value}"),
    Bad("resources as a number", "resources: 2", "resources", "2 is no mapping", "{key: value}"),
    Bad("a date", "question: 2026-01-01", "question", "2026-01-01 (date)", "in quotes"),
    Bad("an infinity", "fixed: {learning_rate: .inf}", "fixed.learning_rate", "inf (float)", "number"),
    # values
    Bad("true for a number", "fixed: {batch_size: true}", "fixed.batch_size", "true is no whole", "whole number"),
    Bad("a text for a number", "fixed: {batch_size: '4'}", "fixed.batch_size", "'4' is no whole", "whole number"),
    Bad("a fraction", "max_parallel: 1.5", "max_parallel", "1.5 is no whole number", "whole number"),
    Bad("a number for true", "fixed: {packed: 1}", "fixed.packed", "1 is neither", "true or false"),
    Bad("too small", "resources: {devices: 0}", "resources.devices", "0 is less than 1", "1 or more"),
    Bad("too large", "priority: 5000", "priority", "5000 is more than 1000", "1000 or less"),
    Bad("far too large", f"fixed: {{batch_size: {10**30}}}", "fixed.batch_size", "1.000e+30", "smaller"),
    Bad("nothing said", "fixed: {epochs: null}", "fixed.epochs", "null is no whole number", "whole number"),
    Bad("a rate of 2", "fixed: {learning_rate: 2}", "fixed.learning_rate", "2 is not less than 1", "less than 1"),
    Bad("a method's capital", "fixed: {method: Lora}", "fixed.method", "'Lora' is none of lora", "'lora'"),
    Bad("a level in the wrong place", "fixed: {lora_rank: [4]}", "fixed.lora_rank", "[4] is a list", "factors"),
    Bad("a rank of 0 among levels", "factors: {model: [a], lora_rank: [4, 0]}", "factors.lora_rank.1", "0", "1 or"),
    Bad("a bad setting of one model", "fixed: {batch_size: {Llama-1B: 0}}", "fixed.batch_size.Llama-1B", "0", "1 or"),
    Bad("validation by true", "validation: true", "validation", "true does not say how", "every_n_steps"),
    Bad("control by a word", "control: maybe", "control", "'maybe' is neither", "true or false"),
    Bad("an unknown scorer", "evaluation: {scorers: [bleu]}", "evaluation.scorers.0", "'bleu'", "exact_match"),
    Bad("a bad name", "name: a b", "name", "'a b' is no name", "letters, digits"),
    Bad("a reserved name", "name: plan\ndataset: x\nfactors: {model: [a]}", "name", "'plan' is reserved", "another"),
    Bad("no name", "name: null", "name", "null is no text", "text"),
    # what it is about
    Bad("nothing to work on", "dataset: null", "dataset", "none of them", "exactly one of dataset"),
    Bad("two things to work on", "command: {argv: [ls]}", "command", "dataset and command", "exactly one of"),
    Bad("a dataset that is a list", "dataset: [a, b]", "dataset", "['a', 'b'] is no dataset", "{path: FILE}"),
    Bad("a misspelt generator", "dataset: {generatr: x}", "dataset", "{'generatr': 'x'}", "{generator: NAME"),
    Bad("an empty path", "dataset: {path: ''}", "dataset.path", "empty", "Write something"),
    Bad("an unknown format", "dataset: {path: x, format: xml}", "dataset.format", "'xml'", "parquet"),
    Bad("settings of a program", f"{SLEEPERS}fixed: {{epochs: 2}}", "fixed", "simulated", "Leave it out"),
    Bad("a control of a program", f"{SLEEPERS}control: true", "control", "simulated", "Leave it out"),
    Bad("an adapter of a program", f"{SLEEPERS}cells: [{{adapter: x}}]", "cells.0.adapter", "models", "Leave"),
    # what names what
    Bad("no model", "factors: {lora_rank: [4]}", "factors.model", "No model is named", "{model: [...]}"),
    Bad("a cell without a model", "cells: [{lora_rank: 4}]", "cells.0", "{'lora_rank': 4}", "Add model"),
    Bad("an empty cell", "cells: [{}]", "cells.0", "{}", "Add model"),
    Bad("a number for a model", "factors: {model: [7]}", "factors.model.0", "7 names no model", "in quotes"),
    Bad("models where one stands", "factors: {}\nfixed: {model: [a, b]}", "fixed.model", "['a', 'b']", "factors"),
    Bad("a factor fixed, too", "fixed: {lora_rank: 4}", "fixed.lora_rank", "'lora_rank' is a factor", "one of the"),
    Bad("a level twice", "factors: {model: [a, a]}", "factors.model.1", "'a' is given twice", "Keep one"),
    Bad("a seed twice", "seeds: [1, 2, 1]", "seeds.2", "1 is given twice", "Keep one"),
    Bad("seeds twice", "seeds: [1, 2]\nfixed: {seed: 1}", "fixed.seed", "`seeds` is given", "Keep one"),
    Bad("a model nobody has", "fixed: {batch_size: {Llama-2B: 4}}", "fixed.batch_size.Llama-2B", "'Llama-2B'", "'Llama"),
    Bad("epochs of one model only", "fixed: {epochs: {Llama-1B: 2}}", "fixed.epochs", "for Llama-3B", "each model"),
    Bad("a dataset nobody named", "fixed: {dataset: long}", "fixed.dataset", "'long'", "under datasets"),
    Bad(
        "datasets nobody uses",
        "dataset: null\ndatasets: {short: a, long: b}\nfactors: {model: [a], dataset: [short]}",
        "datasets.long",
        "No cell uses it",
        "factors: {dataset: [...]}",
    ),
    Bad(
        "a cell that leaves its dataset open",
        "dataset: null\ndatasets: {short: a}\ncells: [{model: a}]\nfactors: {model: [b], dataset: [short]}",
        "cells.0",
        "names no dataset",
        "Add dataset",
    ),
    Bad("a prompt nobody uses", "prompts: {kind: Please.}", "prompts.kind", "No cell uses it", "prompt: [...]"),
    Bad("prompts by model", "prompts: {p: x}\nfixed: {prompt: {a: p}}", "fixed.prompt", "{'a': 'p'}", "factors"),
    Bad("an exclusion of no factor", "exclude: [{rank: 4}]", "exclude.0.rank", "'rank' is no factor", "'lora_rank'"),
    Bad("an exclusion of no level", "exclude: [{lora_rank: 8}]", "exclude.0.lora_rank", "8 is no level", "4, 64"),
    Bad("an exclusion of true", "exclude: [{lora_rank: true}]", "exclude.0.lora_rank", "true is no level", "4, 64"),
    Bad("an exclusion of all", "exclude: [{}]", "exclude.0", "every cell", "Leave it out"),
    Bad("nothing left", "exclude: [{lora_rank: 4}, {lora_rank: 64}]", "exclude", "leaves no cell", "fewer"),
    Bad("an adapter among factors", "factors: {model: [a], adapter: [x]}", "factors.adapter", "'adapter'", "cells: ["),
    Bad("a trained adapter", "cells: [{model: a, adapter: x, epochs: 1}]", "cells.0.epochs", "not trained", "Leave"),
    Bad("torchtune keys of a cell", "cells: [{model: a, torchtune: x}]", "cells.0.torchtune", "share them", "fixed"),
    # what contradicts what
    Bad("a control unevaluated", "control: true\nevaluation: null", "control", "no evaluation", "evaluation: {"),
    Bad("an adapter unevaluated", "cells: [{model: a, adapter: x}]\nevaluation: null", "cells.0.adapter", "only", "eval"),
    Bad("the best of nothing", "keep: best", "keep", "nothing is validated", "validation: {"),
    Bad("no adapter to keep", "factors: {model: [Llama-1B]}\nfixed: {method: full}\nkeep: adapter", "keep", "full", "last"),
    Bad("ranks of all weights", "fixed: {method: full}", "factors.lora_rank", "no adapter", "under cells"),
    Bad("validation on two devices", "resources: {devices: 2}\nvalidation: {}", "validation", "one device", "off"),
    Bad("a split of no rows", "evaluation: {split: dev}", "evaluation.split", "'dev'", "train, validation, test"),
    Bad("validation of no rows", "validation: {split: dev}", "validation.split", "'dev'", "train, validation"),
    Bad("a batch above all rows", "fixed: {batch_size: 1601}", "fixed.batch_size", "1601", "Lower the batch size"),
    Bad("a rank vLLM lacks", "factors: {model: [Llama-1B], lora_rank: [513]}", "fixed.lora_rank", "513", "512"),
    Bad("a rank without alpha", f"factors: {{model: [Llama-1B], lora_rank: [{2**31 - 1}]}}", "fixed.lora_alpha", "4294", "2147483647 or less"),
    # names
    Bad("a brace", "name_template: '{'", "name_template", "'{'", "{factor}"),
    Bad("empty braces", "name_template: '{}'", "name_template", "{} names no factor", "{factor}"),
    Bad("an empty template", "name_template: ''", "name_template", "empty", "leave the key out"),
    Bad("a misspelt field", "name_template: '{lora_rnk}'", "name_template", "'lora_rnk'", "'lora_rank'"),
    Bad("a field's format", "name_template: '{size:>9}'", "name_template", "{size:>9}", "{size} alone"),
    Bad("a field's attribute", "name_template: '{model.x}'", "name_template", "'model.x'", "'model'"),
    Bad("a slash", "name_template: 'a/{lora_rank}'", "name_template", "has '/'", "letters, digits"),
    Bad("a hidden name", "name_template: '.{model}{lora_rank}'", "name_template", "'.Llama-1B4'", "first a letter"),
    Bad("a field nobody said", "name_template: '{recipe}'", "name_template", "no recipe", "leave {recipe} out"),
    Bad("one name for ranks", "name_template: '{size}'", "name_template", "2 cells would be called '1B'", "{lora_rank}"),
    Bad(
        "one size of two models",
        "factors: {model: [Llama-1B, Other-1B]}\nname_template: '{size}'",
        "name_template",
        "2 cells would be called '1B'",
        "Add {model}",
    ),
    Bad("one cell twice", "cells: [{model: Llama-1B, lora_rank: 4}]", "factors", "'Llama-1B_rank4'", "same cell"),
    Bad("a long name", f"name_template: '{'x' * 151}{{model}}{{lora_rank}}'", "name_template", "160", "150"),
]  # fmt: skip


def refusals(change: str) -> list[Problem]:
    try:
        given = documents.load(change)
        data = given if "name" in given and len(given) > 1 else {**documents.load(GOOD), **given}
        lay_out(data)
    except InvalidDocument as invalid:
        return invalid.problems
    return []


@pytest.mark.parametrize("bad", CATALOGUE, ids=lambda bad: bad.name)
def test_a_bad_document_is_told_where_what_and_what_to_do(bad: Bad) -> None:
    told = refusals(bad.change)
    at_its_place = [problem for problem in told if problem.path == bad.path]
    assert at_its_place, [str(problem) for problem in told]
    assert bad.words in at_its_place[0].message
    assert bad.remedy in at_its_place[0].remedy


@pytest.mark.parametrize("bad", CATALOGUE, ids=lambda bad: bad.name)
def test_every_sentence_is_one_and_names_no_library(bad: Bad) -> None:
    for problem in refusals(bad.change):
        assert problem.message.endswith((".", "?")) and problem.remedy.endswith((".", "?")), problem
        assert "Input should" not in str(problem) and "Value error" not in str(problem)


def test_the_document_that_they_spoil_is_good() -> None:
    assert refusals(GOOD) == [] and refusals(SLEEPERS) == []


def test_the_catalogue_is_as_long_as_it_was_promised() -> None:
    assert len({bad.name for bad in CATALOGUE}) == len(CATALOGUE) >= 25
