"""Experiments as files: what is accepted, and one sentence for everything that is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import popnet
from popnet import config
from popnet.config import ALL_SOURCES, Component, Recipe, Section, from_mapping, load
from popnet.errors import ConfigError

EXPERIMENTS = sorted((Path(__file__).parent.parent / "experiments").glob("*.yaml"))

# (overrides, the whole message after "experiment: ")
MISTAKES = [
    # Unknown and misspelt keys, with the nearest valid one.
    (["recipe.epoch=3"], "recipe.epoch: unknown key; did you mean 'epochs'?"),
    (["recipe.optimizer.learning_rate=1"], "recipe.optimizer.learning_rate: unknown key; known: betas, eps, groups,"),
    (["recipe.optimizer.momentun=0"], "recipe.optimizer.momentun: unknown key; did you mean 'momentum'?"),
    (["populaton=3"], "populaton: unknown key; did you mean 'population'?"),
    (["variants.0.varry=[bit]"], "variants.0.varry: unknown key; did you mean 'vary'?"),
    (["variants.0.perturbation.stepp=1"], "variants.0.perturbation.stepp: unknown key; did you mean 'step'?"),
    (["variants.0.recipe={epoch: 3}"], "variant 'Initialization': recipe.epoch: unknown key; did you mean 'epochs'?"),
    (["recipe.optimizer.imports=x:y"], "recipe.optimizer.imports: unknown key; did you mean 'import'?"),
    # Wrong types and values out of range.
    (
        ["recipe.epochs=ten"],
        "recipe.epochs: should be a valid integer, unable to parse string as an integer, got 'ten'",
    ),
    (["recipe.epochs=[1]"], "recipe.epochs: should be a valid integer, got [1] (list)"),
    (["recipe.batch_size=0"], "recipe.batch_size: should be greater than or equal to 1, got 0 (int)"),
    (["recipe=5"], "recipe: should be a valid dictionary or instance of Recipe, got 5 (int)"),
    (["recipe.augment.flip=maybe"], "recipe.augment.flip: should be a valid boolean, unable to interpret input"),
    (["recipe.augment.fill=[300]"], "recipe.augment.fill.0: should be less than or equal to 255, got 300 (int)"),
    (["recipe.optimizer.lr=0"], "recipe.optimizer.lr: should be greater than 0, got 0 (int)"),
    (["recipe.optimizer.lr=.inf"], "recipe.optimizer.lr: should be a finite number, got inf (float)"),
    (["recipe.optimizer.momentum=1"], "recipe.optimizer.momentum: should be less than 1, got 1 (int)"),
    (["constants.init=-1"], "constants.init: should be greater than or equal to 0, got -1 (int)"),
    (["constants.init=18446744073709551616"], "constants.init: should be less than 18446744073709551616"),
    (["variants.0.recipe={optimizer: {lr: -1}}"], "variant 'Initialization': recipe.optimizer.lr: should be greater"),
    (["variants=[]"], "variants: at least one is needed"),
    (["name=a b"], "name: String should match pattern '^[A-Za-z0-9][A-Za-z0-9._-]*$', got 'a b' (str)"),
    # Unknown words where a few are known.
    (["recipe.precision=fp8"], "recipe.precision: unknown value 'fp8'; known: bf16, fp16, fp32, tf32"),
    (["recipe.schedule.name=cosin"], "recipe.schedule.name: unknown value 'cosin'; did you mean 'cosine'?"),
    (["recipe.schedule=cosin"], "recipe.schedule.name: unknown value 'cosin'; did you mean 'cosine'?"),
    (["recipe.optimizer.name=sdg"], "recipe.optimizer.name: unknown value 'sdg'; did you mean 'sgd'?"),
    (["recipe.optimizer.groups=release"], "recipe.optimizer.groups: unknown value 'release'; did you mean 'released'?"),
    (["recipe.kernels=reordered"], "recipe.kernels.mode: unknown value 'reordered'; did you mean 'reorder'?"),
    (["recipe.keep=[predictions, weight]"], "recipe.keep.1: unknown value 'weight'; did you mean 'weights'?"),
    (["variants.0.views=crop26"], "variants.0.views.name: unknown value 'crop26'; did you mean 'crop25' or 'crop9' or"),
    (["variants.0.perturbation=bits"], "variants.0.perturbation.kind: unknown value 'bits'; did you mean 'bit'?"),
    (["measure=[variabilty]"], "measure.0: unknown value 'variabilty'; did you mean 'variability'?"),
    # Unknown model, data set, loss, source, published table.
    (["recipe.model=resnet15"], "recipe.model: unknown model 'resnet15': did you mean 'resnet18' or 'resnet14' or"),
    (["recipe.dataset=cifar11"], "recipe.dataset: unknown dataset 'cifar11': did you mean 'cifar10' or 'cifar100'?"),
    (["recipe.loss=l2"], "recipe: unknown loss 'l2': known: cross_entropy, or {import: package.module:attr}"),
    (["variants.0.vary=[innit]"], "variants.0: unknown source 'innit'; did you mean 'init'?"),
    (
        ["variants.0.vary=cudnn"],
        "variants.0: unknown source 'cudnn'; known: all, augment, bit, init, kernels, shuffle,",
    ),
    (["constants.shufle=1"], "unknown source 'shufle'; did you mean 'shuffle'?"),
    (["variants.0.constants.bits=1"], "variants.0: unknown source 'bits'; did you mean 'bit'?"),
    (["variants=[{name: A, cross: {inits: 2}}]"], "variants.0: unknown source 'inits'; did you mean 'init'?"),
    (["variants.0.vary=[init, all]"], "variants.0: 'all' stands alone, as in 'vary: all': it means init, shuffle,"),
    (
        ["published=[summers_dinneen_2021.tabel1]"],
        "published: no published table is called 'summers_dinneen_2021.tabel1'; did you mean 'summers_",
    ),
    # Populations.
    (["population=1"], "variant 'Initialization': population is 1: a population needs at least 2 members"),
    (["variants.0.population=0"], "variant 'Initialization': population is 0: a population needs at least 2 members"),
    (["variants=[{name: A, cross: {init: 1}}]"], "variant 'A': population is 1: a population needs at least 2"),
    (
        ["variants.0.ensemble=3", "population=5"],
        "variant 'Initialization': a population of 5 gives 1 disjoint ensembles of 3: at least 2 are needed, so set "
        "population to 6 or more",
    ),
    (
        ["variants=[{name: A, vary: [init]}, {name: A, vary: [bit]}]"],
        "two variants are named 'A': a row's name must be",
    ),
    (["variants=[{name: A}]"], "variants.0: nothing varies: give 'vary: [...]', 'cross: {...}', or 'replicas: true'"),
    (["variants=[{name: A, vary: [bit, bit]}]"], "variants.0: 'vary' names a source twice"),
    (["variants=[{name: A, vary: [bit], cross: {init: 2}}]"], "variants.0: give 'vary' or 'cross', not both"),
    (["variants=[{name: A, cross: {init: 2}, population: 2}]"], "variants.0: 'cross' fixes the population: leave out"),
    (["variants=[{name: A, cross: {init: 2}, replicas: true}]"], "variants.0: 'cross' fixes the population: leave out"),
    (["variants=[{name: A, cross: {init: []}}]"], "variants.0: 'cross' needs at least one seed for each source, each"),
    (["variants=[{name: A, cross: {init: [1, 1]}}]"], "variants.0: 'cross' needs at least one seed for each source,"),
    # What does not go together.
    (
        ["variants.0.snapshots=3"],
        "variant 'Initialization': recipe: 3 snapshots do not divide 4 epochs: change epochs or snapshots",
    ),
    (
        ["variants.0.snapshots=4"],
        "variant 'Initialization': recipe: schedule.warmup_epochs=1 leaves nothing of the 1 epochs of a cycle: shorten",
    ),
    (
        ["recipe.schedule.warmup_epochs=4"],
        "recipe: schedule.warmup_epochs=4 leaves nothing of the 4 epochs: shorten it",
    ),
    (["recipe.schedule.cycles=2"], "recipe: schedule.cycles is for schedule.name=snapshot"),
    (["variants.0.onset=5"], "variant 'Initialization': onset=5 is after the last of 4 epochs"),
    (
        ["variants.0.onset=1", "variants.0.first_step_precision=bf16"],
        "variant 'Initialization': first_step_precision concerns step 0, and onset is later: leave one out",
    ),
    (
        ["variants.0.vary=[kernels]", "recipe.batch_size=1"],
        "variant 'Initialization': kernels mode 'reorder' permutes the examples of a batch, and batch_size is 1",
    ),
    (
        ["variants.0.vary=[augment]", "recipe.augment={crop: 0, flip: false}"],
        "variant 'Initialization': varies 'augment', but the recipe has no augmentation: add one, or drop the source",
    ),
    (["recipe.keep=[weights]"], "recipe: keep must contain 'predictions': every metric is computed from them"),
    # Imported parts.
    (["recipe.model={import: nets}"], "recipe.model: import 'nets' must read 'package.module:attribute'"),
    (["recipe.model={import: ':build'}"], "recipe.model: import ':build' must read 'package.module:attribute'"),
    (["recipe.model={name: linear, import: 'a:b'}"], "recipe.model: give exactly one of 'name' and 'import'"),
    (["recipe.model={kwargs: {}}"], "recipe.model: give exactly one of 'name' and 'import'"),
    (["recipe.optimizer.import=a:b"], "recipe.optimizer: give exactly one of 'name' (sgd, adam) and 'import'"),
    (
        ["recipe.optimizer.name=null", "recipe.optimizer.import=adam"],
        "recipe.optimizer: import 'adam' must read 'package.module:attribute'",
    ),
    (["recipe.model.kwargs.x=.nan"], "recipe.model: kwargs are part of the recipe's hash, so they must be plain data:"),
]


def message(content: dict[str, Any], overrides: list[str]) -> str:
    with pytest.raises(ConfigError) as caught:
        from_mapping(content, overrides)
    return str(caught.value)


@pytest.mark.parametrize(("overrides", "expected"), MISTAKES, ids=[" ".join(overrides) for overrides, _ in MISTAKES])
def test_a_mistake_is_named_in_one_clause(content, overrides, expected):
    said = message(content, overrides)
    assert said.startswith(f"experiment: {expected}")
    assert "\n" not in said
    proposals = said.count("did you mean") + said.count("known:")
    assert proposals <= 1, "one mistake, one clause"


def test_two_mistakes_are_both_named(content):
    said = message(content, ["recipe.epoch=3", "populaton=2"])
    assert "recipe.epoch: unknown key; did you mean 'epochs'?" in said
    assert "populaton: unknown key; did you mean 'population'?" in said


@pytest.mark.parametrize(
    ("key", "expected"),
    [("name", "name: this key is required"), ("recipe", "recipe: this key"), ("variants", "variants: this key")],
)
def test_a_missing_key_is_named(content, key, expected):
    del content[key]
    assert expected in message(content, [])


def test_missing_keys_inside_a_section_are_named(content):
    del content["recipe"]["optimizer"]["lr"]
    del content["variants"][0]["name"]
    said = message(content, [])
    assert "recipe.optimizer.lr: this key is required" in said
    assert "variants.0.name: this key is required" in said


def test_keys_must_be_words(content):
    content[1] = 2
    assert "1: Keys should be strings, got 1 (int)" in message(content, [])


# ---- overrides -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("override", ["recipe.epochs", "=3", "recipe..epochs=3", ".epochs=3", "recipe.=3"])
def test_an_override_must_read_key_value(content, override):
    assert message(content, [override]) == f"override {override!r}: must read key=value, as in recipe.epochs=10"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("variants.7.population=4", "list index out of range"),
        ("variants.first.population=4", "Index 'first' (str) is not an int"),
        ("recipe.epochs=[1", "while parsing a flow sequence"),
        ("recipe={", "while parsing a flow node"),
    ],
)
def test_an_override_that_cannot_be_applied_says_why(content, override, expected):
    said = message(content, [override])
    assert said.startswith(f"override {override!r}: {expected}")
    assert "root" not in said
    assert "\n" not in said


def test_overrides_are_yaml_values_at_dotted_keys(content):
    experiment = from_mapping(
        content,
        [
            "population=6",
            "recipe.optimizer.lr=5e-4",
            "recipe.augment={crop: 2}",
            "variants.0.vary=[init, shuffle]",
            "variants.0.population=3",
            "recipe.model.kwargs.hidden=8",
            "recipe.model.name=hidden_fc",
            "description=a=b",
        ],
    )
    assert experiment.population == 6
    assert experiment.recipe.optimizer.lr == 5e-4
    assert (experiment.recipe.augment.crop, experiment.recipe.augment.flip) == (2, True)
    assert experiment.variants[0].vary == ("init", "shuffle")
    assert experiment.population_of(experiment.variants[0]) == 3
    assert experiment.recipe.model == Component(name="hidden_fc", kwargs={"hidden": 8})
    assert experiment.description == "a=b"


def test_the_last_of_two_overrides_counts(content):
    assert from_mapping(content, ["population=3", "population=5"]).population == 5


def test_an_override_leaves_the_given_mapping_alone(content):
    before = yaml.safe_dump(content)
    from_mapping(content, ["recipe.optimizer.lr=3", "recipe.model.kwargs={}", "variants.0.name=B"])
    assert yaml.safe_dump(content) == before


def test_an_override_leaves_other_keys_as_they_are(content):
    content["description"] = "costs ${ and more"  # which would begin an interpolation
    experiment = from_mapping(content, ["recipe.epochs=2"])
    assert (experiment.description, experiment.recipe.epochs) == ("costs ${ and more", 2)


def test_an_override_of_one_key_keeps_the_word_of_a_short_form(content):
    content["recipe"]["schedule"] = "linear"
    content["recipe"]["model"] = "hidden_fc"
    content["variants"][0]["views"] = "flip"
    experiment = from_mapping(
        content,
        [
            "recipe.schedule.warmup_epochs=2",
            "recipe.model.kwargs.hidden=7",
            "variants.0.views.count_original_twice=true",
        ],
    )
    assert (experiment.recipe.schedule.name, experiment.recipe.schedule.warmup_epochs) == ("linear", 2)
    assert experiment.recipe.model == Component(name="hidden_fc", kwargs={"hidden": 7})
    views = experiment.variants[0].views
    assert (views.name, views.count_original_twice) == ("flip", True)


# ---- what files may say ----------------------------------------------------------------------------------------------


def test_a_word_stands_for_its_section(content):
    content["recipe"] |= {"model": "resnet14", "dataset": "digits", "schedule": "linear", "kernels": "hardware"}
    content["variants"][0] |= {"views": "flip", "perturbation": "scale", "vary": "init"}
    experiment = from_mapping(content)
    assert experiment.recipe.model == Component(name="resnet14")
    assert experiment.recipe.dataset.label == "digits"
    assert experiment.recipe.schedule.name == "linear"
    assert experiment.recipe.kernels.mode == "hardware"
    variant = experiment.variants[0]
    assert (variant.views.name, variant.perturbation.kind, variant.vary) == ("flip", "scale", ("init",))


@pytest.mark.parametrize("written", ["all", ["all"]])
def test_all_means_the_four_sources_of_images_and_never_a_bit(content, written):
    content["variants"][0]["vary"] = written
    assert from_mapping(content).variants[0].vary == ALL_SOURCES == ("init", "shuffle", "augment", "kernels")


def test_all_is_accepted_where_the_recipe_has_no_augmentation(content):
    content["recipe"]["augment"] = {}
    content["variants"][0]["vary"] = "all"
    assert from_mapping(content).variants[0].sources == ALL_SOURCES


def test_sources_come_in_the_canonical_order(content):
    content["variants"][0]["vary"] = ["bit", "kernels", "init"]
    assert from_mapping(content).variants[0].sources == ("init", "kernels", "bit")


def test_equal_models_written_differently_are_one_recipe(content):
    content["recipe"]["model"] = "resnet14_x1/8"
    first = from_mapping(content).recipe
    content["recipe"]["model"] = {"name": "resnet14_x0.125"}
    assert first == from_mapping(content).recipe
    assert first.digest == from_mapping(content).recipe.digest


def test_a_variant_changes_its_recipe_and_no_other(content):
    content["variants"] = [
        {"name": "A", "vary": ["init"]},
        {"name": "B", "vary": ["init"], "recipe": {"epochs": 8, "optimizer": {"lr": 0.5}, "schedule": "linear"}},
        {"name": "C", "vary": ["init"], "snapshots": 2},
    ]
    experiment = from_mapping(content)
    a, b, c = (experiment.recipe_of(variant) for variant in experiment.variants)
    assert a == experiment.recipe
    assert (b.epochs, b.optimizer.lr, b.optimizer.weight_decay) == (8, 0.5, 5e-4)
    assert (b.schedule.name, b.schedule.warmup_epochs) == ("linear", 0)
    assert (c.schedule.name, c.schedule.cycles, c.schedule.warmup_epochs) == ("snapshot", 2, 1)
    assert (c.epochs, c.optimizer) == (a.epochs, a.optimizer)
    assert len({a.digest, b.digest, c.digest}) == 3


def test_a_variants_own_batch_size_is_checked_too(content):
    content["variants"] = [{"name": "A", "vary": ["kernels"], "recipe": {"batch_size": 1}}]
    assert "variant 'A': kernels mode 'reorder' permutes the examples" in message(content, [])


def test_recipes_are_values(content):
    recipe = from_mapping(content).recipe
    with pytest.raises(ValueError, match="frozen"):
        recipe.epochs = 5
    assert recipe.changed({"epochs": 5}).epochs == 5
    assert recipe.epochs == 4


def test_the_digest_follows_every_key_but_what_is_kept(content):
    recipe = from_mapping(content).recipe
    assert recipe.changed({"keep": ["predictions", "weights"]}).digest == recipe.digest
    changes = [{"epochs": 6}, {"optimizer": {"lr": 0.2}}, {"augment": {"flip": False}}, {"precision": "bf16"}]
    changes += [{"drop_last": True}, {"train_examples": 30}, {"dataset": {"kwargs": {"train": 41}}}, {"threads": 2}]
    digests = {recipe.changed(change).digest for change in changes}
    assert len(digests | {recipe.digest}) == len(changes) + 1


def test_changing_a_recipe_validates_it_again(content):
    with pytest.raises(
        ValueError, match=re.escape("recipe.epochs: should be greater than or equal to 0, got -1 (int)")
    ):
        from_mapping(content).recipe.changed({"epochs": -1})


# ---- files -----------------------------------------------------------------------------------------------------------


def test_a_file_is_named_in_its_errors(content, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    assert load(file).name == "tiny"
    assert load(str(file), ["name=other"]).name == "other"
    with pytest.raises(ConfigError, match=re.escape(f"{file}: recipe.epoch: unknown key; did you mean 'epochs'?")):
        load(file, ["recipe.epoch=1"])


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words", "42"])
def test_a_file_must_be_a_mapping(tmp_path, text):
    file = tmp_path / "list.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == f"{file}: an experiment is a mapping with the keys name, recipe and variants"


def test_broken_yaml_is_located(tmp_path):
    file = tmp_path / "broken.yaml"
    file.write_text("name: tiny\nrecipe: {epochs: 3\nvariants: []\n")
    with pytest.raises(ConfigError) as caught:
        load(file)
    said = str(caught.value)
    assert said.startswith(f"{file}: not valid YAML: ")
    assert "line 3" in said
    assert "\n" not in said


def test_yaml_cannot_build_python_objects(tmp_path):
    file = tmp_path / "evil.yaml"
    file.write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match=r"not valid YAML: the tag .* is no plain data"):
        load(file)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    file = tmp_path / "binary.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(file)


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_every_shipped_experiment_loads_by_name_and_by_file(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    experiment = load(file)
    assert experiment.name == file.stem
    assert load(file.stem) == load(file.name) == experiment


def test_shipped_experiments_are_there():
    assert {"quickstart", "resnet14"} <= {file.stem for file in EXPERIMENTS}


def test_an_unknown_experiment_proposes_the_nearest(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load("quikstart")
    assert str(caught.value) == (
        "quikstart: no such file, and no shipped experiment of that name; did you mean 'quickstart'?"
    )


def test_a_path_never_falls_back_on_a_shipped_experiment(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "resnet14.yaml")


def test_resnet14_is_the_papers_recipe():
    experiment = load("resnet14")
    recipe = experiment.recipe
    assert (recipe.dataset.label, recipe.model.label, recipe.epochs, recipe.batch_size) == (
        "cifar10",
        "resnet14",
        500,
        512,
    )
    assert not recipe.drop_last
    optimizer = recipe.optimizer
    assert (optimizer.name, optimizer.lr, optimizer.momentum, optimizer.nesterov) == ("sgd", 0.4, 0.9, False)
    assert (optimizer.weight_decay, optimizer.groups) == (5e-4, "released")
    assert (recipe.schedule.name, recipe.schedule.warmup_epochs, recipe.schedule.start) == ("cosine", 3, 0)
    assert (recipe.augment.crop, recipe.augment.flip, recipe.augment.translate, recipe.augment.cutout) == (
        4,
        True,
        0,
        0,
    )
    assert (recipe.precision, recipe.kernels.mode, experiment.population) == ("fp32", "hardware", 100)


# ---- imports ---------------------------------------------------------------------------------------------------------


def test_an_import_finds_the_object():
    assert config.imported("popnet.config:Recipe") is Recipe
    assert config.imported("popnet.config:Recipe.changed") is Recipe.changed


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("no_such_package.nets:build", "import 'no_such_package.nets:build': module 'no_such_package.nets' cannot be"),
        ("popnet.config:Recip", "import 'popnet.config:Recip': 'Recip' is not there; did you mean 'Recipe'"),
        ("popnet.config:Recipe.chnged", "import 'popnet.config:Recipe.chnged': 'chnged' is not there; did you mean"),
    ],
)
def test_an_import_that_fails_names_what_is_not_there(path, expected):
    with pytest.raises(ConfigError) as caught:
        config.imported(path)
    assert str(caught.value).startswith(expected)


def test_a_module_that_raises_on_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "popnet_test_raises.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="module 'popnet_test_raises' cannot be imported: no licence"):
        config.imported("popnet_test_raises:build")


def test_every_section_is_frozen_and_closed():
    sections = [thing for thing in vars(config).values() if isinstance(thing, type) and issubclass(thing, Section)]
    assert len(sections) >= 10
    for section in sections:
        assert section.model_config["frozen"]
        assert section.model_config["extra"] == "forbid"


def test_the_public_names_are_the_modules():
    assert popnet.load is load
    assert popnet.ConfigError is ConfigError


# ---- inheritance -----------------------------------------------------------------------------------------------------


def test_a_file_inherits_what_it_does_not_say(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(
        "name: parent\nrecipe: {dataset: digits, model: linear, epochs: 9, batch_size: 32,"
        " optimizer: {name: sgd, lr: 0.4}}\n"
        "population: 5\nvariants: [{name: a, vary: [init]}, {name: b, vary: [shuffle]}]\n"
    )
    (tmp_path / "child.yaml").write_text(
        "base: parent.yaml\nname: child\nrecipe: {model: hidden_fc, optimizer: {momentum: 0.5}}\n"
    )
    (tmp_path / "grandchild.yaml").write_text(
        "base: child.yaml\nname: grandchild\nvariants: [{name: c, vary: [bit]}]\n"
    )
    child, grandchild = load(tmp_path / "child.yaml"), load(tmp_path / "grandchild.yaml", ["recipe.epochs=2"])
    assert (child.recipe.model.name, child.recipe.epochs, child.population) == ("hidden_fc", 9, 5)
    assert (child.recipe.optimizer.lr, child.recipe.optimizer.momentum) == (0.4, 0.5)
    assert [v.name for v in child.variants] == ["a", "b"]
    assert [v.name for v in grandchild.variants] == ["c"]
    assert (grandchild.recipe.model.name, grandchild.recipe.epochs) == ("hidden_fc", 2)


def test_a_shipped_experiment_can_be_inherited(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: quickstart\nname: mine\npopulation: 4\n")
    assert load(tmp_path / "mine.yaml").recipe == load("quickstart").recipe


def test_wrong_bases_are_named(tmp_path: Path) -> None:
    for name, content, message in [
        ("circle.yaml", "base: circle.yaml\nname: x\n", "goes in a circle"),
        ("none.yaml", "base: quickstrat\nname: x\n", r"none\.yaml: base: quickstrat: no such file.*did you mean"),
        ("number.yaml", "base: 3\nname: x\n", r"number\.yaml: base: must be the name"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / name)


def test_how_representations_are_compared_is_no_part_of_a_member(content):
    """Neither the estimator nor the number of examples changes an id; both have defaults."""
    plain = from_mapping(content).recipe
    kept = from_mapping(content, ["recipe.features={layers: [fc]}"]).recipe
    assert (kept.features.estimator, kept.features.examples) == ("unbiased", 2000)
    biased = from_mapping(content, ["recipe.features={layers: [fc], examples: 512, estimator: biased}"]).recipe
    assert plain.digest == kept.digest == biased.digest
    with pytest.raises(ConfigError, match=r"recipe\.features\.estimator: unknown value 'debiased'; .*'biased'"):
        from_mapping(content, ["recipe.features={layers: [fc], estimator: debiased}"])
    with pytest.raises(ConfigError, match=r"recipe\.features\.examples"):
        from_mapping(content, ["recipe.features={layers: [fc], examples: 3}"])
