"""From variants to members: seeds, sharing, identities, views, shared beginnings."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from popnet.config import Experiment, Perturbation, Variant, Views, from_mapping, load
from popnet.protocol import (
    CONSTANTS,
    ORIGINAL,
    Member,
    Plan,
    Platform,
    Seeds,
    View,
    member,
    plan,
    steps_per_epoch,
    view_weights,
    views_of,
)
from popnet.results.stores.populations import ensemble_groups

PLATFORM = Platform("cpu:test", (("torch", "0"),))


def planned(content: dict[str, Any], *variants: dict[str, Any], **keys: Any) -> Plan:
    """The plan of the tiny experiment with these variants and top-level keys."""
    named = [{"name": f"row {i}", **variant} for i, variant in enumerate(variants)]
    return plan(from_mapping({**content, **keys, "variants": named or content["variants"]}), PLATFORM)


def members_of(result: Plan, row: int = 0) -> tuple[Member, ...]:
    return result.populations[row].members


def seeds_of(result: Plan, row: int = 0) -> list[tuple[int, ...]]:
    """(init, shuffle, augment, kernels, bit) of each member."""
    return [
        (m.seeds.init, m.seeds.shuffle, m.seeds.augment, m.seeds.kernels, m.seeds.bit) for m in members_of(result, row)
    ]


def ids(members: Sequence[Member]) -> list[str]:
    return [m.id for m in members]


# ---- Table 1 ---------------------------------------------------------------------------------------------------------

TABLE_1 = {
    "Parameter Initialization": lambda i: (i, 1, 1, 1, 0),
    "Data Shuffling": lambda i: (1, i, 1, 1, 0),
    "Data Augmentation": lambda i: (1, 1, i, 1, 0),
    "cuDNN": lambda i: (1, 1, 1, 0, 0),
    "Data Shuffling + cuDNN": lambda i: (1, i, 1, 0, 0),
    "Data Shuffling + Aug. + cuDNN": lambda i: (1, i, i, 0, 0),
    "All Nondeterminism Sources": lambda i: (i, i, i, 0, 0),
    "Random Bit Change": lambda i: (1, 1, 1, 1, i),
}


def test_table_1_with_the_devices_own_kernels():
    """The shipped experiment, whose kernels are the hardware's: seed 0, told apart by replica."""
    result = plan(load("resnet14"), PLATFORM)
    rows = {population.name: index for index, population in enumerate(result.populations)}
    assert rows.keys() >= TABLE_1.keys()
    for name, seeds in TABLE_1.items():
        assert seeds_of(result, rows[name]) == [seeds(i) for i in range(1, 101)], name
        varies_kernels = seeds(1)[3] == 0
        replicas = [m.replica for m in members_of(result, rows[name])]
        assert replicas == (list(range(1, 101)) if varies_kernels else [0] * 100), name
        assert len(set(ids(members_of(result, rows[name])))) == 100


def test_table_1_with_the_seeded_proxy():
    """In mode `reorder` the kernels' seed runs with the others, and nothing needs a replica."""
    result = plan(load("resnet14", ["recipe.kernels.mode=reorder", "population=10"]), PLATFORM)
    rows = {population.name: index for index, population in enumerate(result.populations)}
    for name, seeds in TABLE_1.items():
        expected = [(*seeds(i)[:3], i if seeds(i)[3] == 0 else 1, seeds(i)[4]) for i in range(1, 11)]
        assert seeds_of(result, rows[name]) == expected, name
        assert {m.replica for m in members_of(result, rows[name])} == {0}


def test_determinism_is_really_trained_that_often(content):
    result = planned(content, {"replicas": True, "population": 6}, {"vary": ["init"]})
    assert seeds_of(result) == [(1, 1, 1, 1, 0)] * 6
    assert [m.replica for m in members_of(result)] == [1, 2, 3, 4, 5, 6]
    assert len(result.members) == 6 + 4, "no replica stands in for another row's member"


def test_sources_not_under_test_sit_at_their_constants():
    assert dict(CONSTANTS) == {"init": 1, "shuffle": 1, "augment": 1, "stochastic": 1, "kernels": 1, "bit": 0}
    assert dict(Seeds().items()) == dict(CONSTANTS)


def test_stochastic_is_a_source(content):
    result = planned(content, {"vary": ["stochastic"]}, {"vary": ["init", "stochastic"]})
    assert [m.seeds.stochastic for m in members_of(result)] == [1, 2, 3, 4]
    assert [(m.seeds.init, m.seeds.stochastic) for m in members_of(result, 1)] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_constants_of_the_experiment_and_of_a_variant(content):
    result = planned(
        content,
        {"vary": ["init"]},
        {"vary": ["init"], "constants": {"augment": 7, "bit": 2}},
        constants={"shuffle": 5, "augment": 6, "init": 9},
    )
    assert seeds_of(result) == [(i, 5, 6, 1, 0) for i in range(1, 5)]
    assert seeds_of(result, 1) == [(i, 5, 7, 1, 2) for i in range(1, 5)]


def test_full_cross_product(content):
    """Appendix F: every combination of the seeds of several sources, the last source running fastest."""
    result = planned(content, {"cross": {"shuffle": 2, "init": [4, 9], "bit": [0, 3]}})
    assert seeds_of(result) == [(init, shuffle, 1, 1, bit) for init in (4, 9) for shuffle in (1, 2) for bit in (0, 3)]
    assert len(set(ids(members_of(result)))) == 8


# ---- sharing ---------------------------------------------------------------------------------------------------------


def test_equal_members_are_one_training(content):
    result = planned(
        content,
        {"vary": ["init"]},
        {"vary": ["init"], "ensemble": 2},
        {"vary": ["init"], "views": "flip"},
        {"vary": ["init"], "population": 2},
        {"vary": ["shuffle"]},
    )
    assert result.rows == 4 + 4 + 4 + 2 + 4
    assert ids(members_of(result)) == ids(members_of(result, 1)) == ids(members_of(result, 2))
    assert len(result.members) == 4 + 3, "all seeds 1 is the first member of either source"
    assert len(set(ids(result.members))) == 7


def test_a_larger_population_only_adds(content):
    rows = ({"vary": "all"}, {"vary": ["bit"]}, {"replicas": True})
    small, large = planned(content, *rows, population=3), planned(content, *rows, population=8)
    for row in range(3):
        assert ids(members_of(large, row))[:3] == ids(members_of(small, row))
    assert set(ids(small.members)) < set(ids(large.members))


def test_populations_keep_the_order_of_their_seeds(content):
    result = planned(content, {"cross": {"init": [9, 3, 5]}})
    assert [m.seeds.init for m in members_of(result)] == [9, 3, 5]


def test_what_has_no_effect_is_brought_to_one_value(content):
    recipe = from_mapping(content).recipe
    base, other = Seeds(), Seeds(shuffle=3)
    plain = member(recipe, other, base, PLATFORM)
    assert member(recipe, other, base, PLATFORM, perturbation=Perturbation(kind="scale")) == plain, "bit is 0"
    assert member(recipe, other, base, PLATFORM, first_step_precision="fp32") == plain, "as in the recipe"
    assert member(recipe, other, Seeds(augment=4), PLATFORM) == plain, "without onset, the base is never used"
    constant = member(recipe, base, base, PLATFORM)
    assert member(recipe, other, base, PLATFORM, onset=recipe.epochs) == constant, "the onset never comes"
    assert member(recipe, base, base, PLATFORM, onset=2, until_step=3) == constant, "nothing differs after it"
    assert member(recipe, Seeds(init=5), base, PLATFORM, onset=1) == constant, "weights are drawn before the onset"


def test_kernels_mode_matters_only_where_kernels_vary(content):
    def ids_of(mode: str, **variant: Any) -> list[str]:
        return ids(members_of(planned({**content, "recipe": {**content["recipe"], "kernels": mode}}, variant)))

    assert ids_of("hardware", vary=["init"]) == ids_of("reorder", vary=["init"])
    assert not set(ids_of("hardware", vary=["kernels"])) & set(ids_of("reorder", vary=["kernels"]))
    late = {"vary": ["kernels"], "onset": 2, "constants": {"kernels": 2}, "population": 2}
    assert not set(ids_of("hardware", **late)) & set(ids_of("reorder", **late)), "the base depends on the mode too"


# ---- identities ------------------------------------------------------------------------------------------------------


def test_ids_follow_from_everything_that_trains(content):
    recipe = from_mapping(content).recipe
    base, seeds = Seeds(), Seeds(init=2, shuffle=2, bit=2)
    perturbation = Perturbation()
    reference = member(recipe, seeds, base, PLATFORM, perturbation=perturbation)
    variations = [
        member(recipe.changed({"epochs": 5}), seeds, base, PLATFORM, perturbation=perturbation),
        member(recipe, seeds, base, Platform("cpu:other", PLATFORM.versions), perturbation=perturbation),
        member(recipe, seeds, base, Platform("cpu:test", (("torch", "1"),)), perturbation=perturbation),
        member(recipe, seeds, base, PLATFORM, perturbation=Perturbation(step=1)),
        member(recipe, seeds, base, PLATFORM, perturbation=Perturbation(kind="scale")),
        member(recipe, seeds, base, PLATFORM, perturbation=perturbation, onset=1),
        member(recipe, seeds, base, PLATFORM, perturbation=perturbation, until_step=1),
        member(recipe, seeds, base, PLATFORM, perturbation=perturbation, first_step_precision="bf16"),
        member(recipe, seeds, base, PLATFORM, perturbation=perturbation, replica=1),
    ]
    variations += [
        member(recipe, seeds.changed({source: 9}), base, PLATFORM, perturbation=perturbation) for source in CONSTANTS
    ]
    assert len({m.id for m in [reference, *variations]}) == 1 + len(variations)
    assert len(reference.id) == 24
    int(reference.id, 16)


def test_ids_do_not_depend_on_what_is_kept(content):
    before = planned(content)
    content["recipe"]["keep"] = ["predictions", "weights"]
    assert ids(planned(content).members) == ids(before.members)


def test_ids_do_not_depend_on_name_views_or_ensembles(content):
    plain = planned(content, {"vary": ["init"]})
    dressed = planned(content, {"vary": ["init"], "ensemble": 2, "views": "crop9"}, name="other", description="d")
    assert ids(plain.members) == ids(dressed.members)


def test_ids_are_the_same_in_every_process(content, tmp_path):
    rows = [{"name": "A", "vary": "all"}, {"name": "B", "vary": ["bit"], "onset": 1}, {"name": "C", "replicas": True}]
    content["variants"] = rows
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(content))
    program = (
        "import sys; from popnet.config import load; from popnet.protocol import plan, Platform\n"
        "print(*(m.id for m in plan(load(sys.argv[1]), Platform('cpu:test', (('torch', '0'),))).members))"
    )
    here = ids(plan(load(file), PLATFORM).members)
    printed = subprocess.run(
        [sys.executable, "-c", program, str(file)],
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert printed.stdout.split() == here


# ---- onset, steps, perturbations -------------------------------------------------------------------------------------


def test_onset_gives_each_epoch_its_seeds(content):
    result = planned(content, {"vary": ["init", "shuffle", "augment", "kernels"], "onset": 2})
    third = members_of(result)[2]
    assert third.init_seed == 1
    assert [third.seed("shuffle", epoch, 0) for epoch in range(4)] == [1, 1, 3, 3]
    assert [third.seed("augment", epoch, 0) for epoch in range(4)] == [1, 1, 3, 3]
    assert [third.seed("kernels", epoch, 0) for epoch in range(4)] == [1, 1, 3, 3]
    assert [m.init_seed for m in members_of(planned(content, {"vary": ["init"]}))] == [1, 2, 3, 4]


def test_until_step_makes_only_the_first_batch_differ(content):
    result = planned(content, {"vary": ["shuffle"], "until_step": 1})
    second = members_of(result)[1]
    assert [second.seed("shuffle", 0, step) for step in range(3)] == [2, 1, 1]
    assert second.seed("shuffle", 1, 3) == 1
    assert second.seed("augment", 0, 0) == 1


def test_until_step_still_draws_the_members_own_weights(content):
    second = members_of(planned(content, {"vary": ["init", "shuffle"], "until_step": 2}))[1]
    assert second.init_seed == 2
    assert [second.seed("shuffle", 0, step) for step in range(4)] == [2, 2, 1, 1]


def test_a_window_between_onset_and_until_step(content):
    second = members_of(planned(content, {"vary": ["shuffle"], "onset": 1, "until_step": 5}))[1]
    # Three steps an epoch: epoch 1 has steps 3, 4, 5.
    assert [second.seed("shuffle", step // 3, step) for step in range(7)] == [1, 1, 1, 2, 2, 1, 1]


def test_a_perturbation_comes_before_its_step(content):
    rows = (
        {"vary": ["bit"]},
        {"vary": ["bit"], "perturbation": {"kind": "scale", "step": 5, "weight": "first"}},
        {"vary": ["bit"], "onset": 2, "perturbation": {"step": 1}},
        {"vary": ["init"]},
    )
    result = planned(content, *rows)
    assert [members_of(result, row)[1].perturbed_before(3) for row in range(4)] == [0, 5, 7, None]
    scaled = members_of(result, 1)[0].perturbation
    assert scaled is not None
    assert (scaled.kind, scaled.factor, scaled.weight) == ("scale", 1.001, "first")


def test_another_precision_in_the_first_step_only(content):
    result = planned(content, {"vary": ["init"], "first_step_precision": "bf16"}, {"vary": ["init"]})
    assert [m.first_step_precision for m in members_of(result)] == ["bf16"] * 4
    assert {m.recipe.precision for m in members_of(result)} == {"fp32"}
    assert not set(ids(members_of(result))) & set(ids(members_of(result, 1)))
    same = planned(content, {"vary": ["init"], "first_step_precision": "fp32"})
    assert ids(same.members) == ids(members_of(result, 1))


def test_snapshots_train_under_the_cyclic_schedule(content):
    result = planned(content, {"vary": ["init"], "snapshots": 2}, {"vary": ["init"]})
    assert {m.recipe.schedule.cycles for m in members_of(result)} == {2}
    assert not set(ids(members_of(result))) & set(ids(members_of(result, 1)))


# ---- shared beginnings -----------------------------------------------------------------------------------------------


def trunks(result: Plan, steps: int = 3):
    return result.trunks(result.members, {m.recipe.digest: steps for m in result.members})


def test_members_with_an_onset_share_their_beginning(content):
    result = planned(content, {"vary": ["shuffle"], "onset": 2}, {"vary": ["augment"], "onset": 3})
    constant, *late = result.members
    assert constant.seeds == Seeds()
    assert [m.diverges(3) for m in late] == [2, 2, 2, 3, 3, 3]
    (trunk,) = trunks(result)
    assert trunk.member == constant
    assert trunk.epochs == (2, 3)
    assert trunk.views == (ORIGINAL,)
    assert all(m.trunk == constant for m in result.members)


def test_members_that_differ_from_the_start_share_nothing(content):
    result = planned(content, {"vary": ["init"]}, {"vary": ["shuffle"]}, {"vary": ["bit"]})
    assert [m.diverges(3) for m in result.members if m.seeds.bit] == [0, 0, 0, 0]
    assert trunks(result) == ()


def test_a_late_perturbation_leaves_from_the_epoch_it_falls_in(content):
    result = planned(content, {"vary": ["bit"], "perturbation": {"step": 7}})
    assert {m.diverges(3) for m in result.members} == {2}, "step 7 lies in the third epoch of three steps"
    (trunk,) = trunks(result)
    assert (trunk.member.seeds, trunk.member.perturbation, trunk.epochs) == (Seeds(), None, (2,))
    assert {m.diverges(8) for m in result.members} == {0}
    assert trunks(result, steps=8) == ()


def test_each_initialization_has_its_own_trunk(content):
    rows = {"cross": {"init": [1, 2], "bit": [1, 2, 3]}, "perturbation": {"step": 3}}
    result = planned(content, rows)
    found = trunks(result)
    assert sorted(trunk.member.seeds.init for trunk in found) == [1, 2]
    assert {trunk.epochs for trunk in found} == {(1,)}


def test_replicas_and_a_different_first_step_share_nothing(content):
    result = planned(content, {"replicas": True}, {"vary": ["shuffle"], "onset": 2, "first_step_precision": None})
    assert {m.diverges(3) for m in members_of(result, 0)} == {0}
    precise = planned(content, {"vary": ["shuffle"], "first_step_precision": "bf16"})
    assert {m.diverges(3) for m in precise.members} == {0}


def test_one_member_alone_needs_no_trunk(content):
    result = planned(content, {"vary": ["shuffle"], "onset": 2})
    steps = {m.recipe.digest: 3 for m in result.members}
    assert result.trunks([result.members[1]], steps) == ()
    assert len(result.trunks(result.members[1:3], steps)) == 1


def test_members_with_other_views_have_another_trunk(content):
    result = planned(content, {"vary": ["shuffle"], "onset": 2}, {"vary": ["augment"], "onset": 2, "views": "flip"})
    found = trunks(result)
    assert len({trunk.id for trunk in found}) == len(found) == 2
    assert {trunk.views for trunk in found} == {(ORIGINAL,), (ORIGINAL, View(flip=True))}


# ---- views, ensembles, steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "count", "shift", "stride", "flips"),
    [
        ("none", 1, 0, 1, False),
        ("flip", 2, 0, 1, True),
        ("crop9", 9, 1, 1, False),
        ("crop25", 25, 4, 2, False),
        ("crop81", 81, 4, 1, False),
        ("flip_crop25", 50, 4, 2, True),
        ("flip_crop81", 162, 4, 1, True),
    ],
)
def test_views(name, count, shift, stride, flips):
    views = views_of(Views(name=name))
    assert views[0] == ORIGINAL == View(flip=False, dy=0, dx=0)
    assert len(views) == len(set(views)) == count
    offsets = range(-shift, shift + 1, stride)
    sides = (False, True) if flips else (False,)
    assert set(views) == {View(flip, dy, dx) for flip in sides for dy in offsets for dx in offsets}
    assert view_weights(Views(name=name)) == (1,) * count
    assert view_weights(Views(name=name, count_original_twice=True)) == (2,) + (1,) * (count - 1)


def test_the_released_programs_counts_of_terms():
    counts = {
        name: sum(view_weights(Views(name=name, count_original_twice=True)))
        for name in ("crop25", "crop81", "flip_crop25", "flip_crop81", "crop9")
    }
    assert counts == {"crop25": 26, "crop81": 82, "flip_crop25": 51, "flip_crop81": 163, "crop9": 10}


def test_a_member_is_predicted_once_in_all_views_that_rows_need(content):
    result = planned(
        content,
        {"vary": ["init"], "views": "flip"},
        {"vary": ["init"], "views": "crop9", "population": 2},
        {"vary": ["shuffle"]},
    )
    first, third = members_of(result)[0], members_of(result)[2]
    assert result.views[first.id][0] == ORIGINAL
    assert set(result.views[first.id]) == {*views_of(Views(name="flip")), *views_of(Views(name="crop9"))}
    assert len(result.views[first.id]) == 10
    assert result.views[third.id] == (ORIGINAL, View(flip=True))
    assert result.views[members_of(result, 2)[1].id] == (ORIGINAL,)


@pytest.mark.parametrize(("members", "size"), [(100, 2), (100, 3), (10, 4), (9, 2), (8, 8)])
def test_ensembles_are_disjoint_groups(members, size):
    groups = ensemble_groups(members, size)
    assert len(groups) == members // size
    drawn = [index for group in groups for index in group]
    assert len(set(drawn)) == len(drawn) == size * (members // size)
    assert set(drawn) <= set(range(members))
    assert ensemble_groups(members, size) == groups
    if members == 100:
        assert groups != [list(range(start, start + size)) for start in range(0, 99, size)]


def test_steps_per_epoch(content):
    recipe = from_mapping(content, ["recipe.batch_size=512"]).recipe
    assert steps_per_epoch(recipe, 50_000) == 98
    assert steps_per_epoch(recipe.changed({"drop_last": True}), 50_000) == 97
    assert steps_per_epoch(recipe, 512) == 1
    assert steps_per_epoch(recipe, 513) == 2
    assert steps_per_epoch(recipe.changed({"drop_last": True}), 511) == 0


def test_variants_and_populations_keep_the_files_order(content):
    result = planned(content, {"vary": ["init"]}, {"vary": ["bit"]})
    assert [population.name for population in result.populations] == ["row 0", "row 1"]
    assert isinstance(result.experiment, Experiment)
    assert isinstance(result.populations[0].variant, Variant)
