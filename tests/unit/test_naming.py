import pytest

from experiments import naming
from experiments.documents import InvalidDocument
from experiments.shapes import size_label

FIELDS = ["model", "size", "lora_rank", "packed"]


@pytest.mark.parametrize(
    ("levels", "name"),
    [
        ({"lora_rank": 4, "model": "tiny"}, "tiny_rank4"),
        ({"model": "tiny", "learning_rate": 1e-4, "batch_size": 8}, "tiny_lr0.0001_bs8"),
        ({"model": "tiny", "epochs": 2, "max_seq_len": 512}, "tiny_ep2_len512"),
        ({"model": "tiny", "dataset": "short", "prompt": "kind", "method": "full"}, "tiny_short_kind_full"),
        ({"model": "tiny", "packed": True}, "tiny_packed"),
        ({"model": "tiny", "packed": False}, "tiny_not-packed"),
        ({"model": "tiny", "seed": 3}, "tiny_seed3"),
        ({"model": "meta-llama/Llama-3.2-1B", "lora_rank": 4}, "Llama-3.2-1B_rank4"),
        ({"model": "/models/Llama-3.2-1B/"}, "Llama-3.2-1B"),
        ({"model": "tiny", "adapter": "earlier/tiny_rank4/finetune"}, "tiny_adapter_tiny_rank4"),
        ({"model": "tiny", "adapter": "/runs/17/epoch_0/"}, "tiny_adapter_epoch_0"),
        ({"part": "a b/c"}, "parta-b-c"),
        ({"model": "..hidden"}, "hidden"),
        ({"model": "é"}, "own"),
        ({}, "own"),
    ],
)
def test_a_name_is_derived_from_what_varies(levels: dict[str, object], name: str) -> None:
    assert naming.cell_name(levels, "own") == name


def test_a_control_is_named_by_its_model_and_what_it_was_chosen_with() -> None:
    assert naming.control_name("1B") == "1B_base"
    assert naming.control_name("meta/Llama-1B", "short", "kind") == "Llama-1B_base_short_kind"


def test_a_template_is_filled_in() -> None:
    values = {"size": "1B", "lora_rank": 4, "packed": False, "model": "meta/x"}
    assert naming.by_template("{size}_rank{lora_rank}", values) == "1B_rank4"
    assert naming.by_template("{model}.{packed}", values) == "x.not-packed"


def test_what_a_template_asks_for_has_to_be_said() -> None:
    with pytest.raises(InvalidDocument, match=r"no recipe.*leave \{recipe\} out"):
        naming.by_template("{size}_{recipe}", {"size": "1B", "recipe": None})


@pytest.mark.parametrize("template", ["{size}_rank{lora_rank}", "a.b-c_D9", "{model}{model}"])
def test_a_good_template_is_taken(template: str) -> None:
    naming.check_template(template, FIELDS)


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("{", "'{' cannot be read"),
        ("}", "cannot be read"),
        ("{size", "cannot be read"),
        ("{}", "{} names no factor"),
        ("{0}", "No cell has '0'"),
        ("{sise}", "No cell has 'sise'. Did you mean 'size'?"),
        ("{model.__class__}", "No cell has 'model.__class__'"),
        ("{size!r}", "{size!r} asks for a format. Write {size} alone."),
        ("{size:{lora_rank}}", "asks for a format"),
        ("{{size}}", "has '{}'"),
        ("a/b c", "has ' /'"),
        ("é", "has 'é'"),
    ],
)
def test_a_template_that_cannot_name_is_refused(template: str, sentence: str) -> None:
    with pytest.raises(InvalidDocument) as refused:
        naming.check_template(template, FIELDS)
    assert sentence in str(refused.value)


def test_a_collision_says_what_would_tell_the_cells_apart() -> None:
    cells = [("a", {"model": "x", "seed": 1}), ("a", {"model": "x", "seed": 2}), ("b", {"model": "y"})]
    (problem,) = naming.refused(cells, template="{model}")
    assert (problem.path, problem.message) == ("name_template", "2 cells would be called 'a'.")
    assert problem.remedy == "Add {seed} to the template."
    (derived,) = naming.refused(cells, template=None)
    assert (derived.path, derived.remedy) == ("factors", "Set a name_template with {seed}.")


def test_the_same_cell_twice_is_told_as_such() -> None:
    (problem,) = naming.refused([("a", {"model": "x"}), ("a", {"model": "x"})], template=None)
    assert problem.remedy == "They are the same cell: keep one of them."


@pytest.mark.parametrize(("name", "word"), [("x" * 151, "151 characters"), (".a", "begin"), ("-a", "begin")])
def test_a_name_that_no_folder_should_have_is_refused(name: str, word: str) -> None:
    (problem,) = naming.refused([(name, {})], template="t")
    assert word in problem.message


def test_distinct_names_are_taken() -> None:
    assert naming.refused([("a", {}), ("b", {}), ("x" * 150, {})], template=None) == []


@pytest.mark.parametrize(
    ("parameters", "label"),
    [
        (1_235_814_400, "1B"),
        (3_212_749_824, "3B"),
        (8_030_261_248, "8B"),
        (134_515_008, "135M"),
        (70e9, "70B"),
    ],
)
def test_a_size_is_what_people_call_it(parameters: float, label: str) -> None:
    assert size_label(int(parameters)) == label
