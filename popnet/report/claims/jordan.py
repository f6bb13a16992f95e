"""Claims of Jordan (2024): how much of the variance between runs is genuine, and what makes it.

They are checked where an experiment names one of that paper's tables, or is called jordan_... (`settings.is_jordans`).
All make sense for any network, so that they are judged on the experiment's own rows; the paper's numbers are judged by
the same rule where a row stands in one of its tables.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from popnet.config import test_parts
from popnet.report.claims.claim import Claim, Evidence, Finding, Side, Values, told
from popnet.report.claims.comparable import why_not
from popnet.report.claims.rows import groups, is_plain
from popnet.report.measured import Measured, Row
from popnet.report.quantities import UNKNOWN, Value, quantity, with_error
from popnet.report.settings import (
    DURATION,
    RATE,
    differing_in,
    is_jordans,
    their_ensembles,
    variance_ratio,
    without,
    without_augmentation_and_less_data,
)
from popnet.report.twins import change_of
from popnet.report.verdicts import Verdict, at_least, at_most, difference, log_ratio, ratio, ratio_at_least

PAIRS = 10
"""Members that a claim on disagreement needs: it is a mean over pairs and examples, of which few runs give many."""

SPREAD = 20
"""Members that a claim on a correlation or an SD needs: an SD of so many is known to a sixth."""

SHARES = 50
"""Members that a claim on a share of the SD or of the variance needs: to see 20%, an SD must be known to a tenth."""

ONE = Value(1.0, 0.0)

SOURCES = 100
"""Members that a claim needs which sets two SDs against each other.

The paper has 26% less variance, which is an SD lower by 15.6%: with so many runs, 1.85 standard errors of the ratio.
"""

ENOUGH = 500
"""Members from which on three equal SDs are likely to be told from 90% of a fourth: of 100 runs 3% are, of 300 19%."""

CLOSE = 0.8
"""What is "close to" or "about" asks of the smaller over the larger."""

NEARLY = 0.9
"""What "as much as", "almost no difference" asks."""

LITTLE = 0.25
"""What "little" or "near zero" allows, of a whole: the paper has a twentieth of the variance, 0.02 points of gain."""

SHORT = 4
"""How many times shorter than the longest planned a training is at least that a claim calls short."""

UNDER = 16
"""Epochs below which the paper calls a training of its ResNet-9 short (Appendix D.1)."""

FULL = 32
"""Epochs from which on the paper calls it full; of those between, it says nothing."""

BELOW = 0.01
"""Points: the accuracy SD of a regularised linear model is below it (Section 3.4)."""

_PAPER = "Jordan (2024), "

Check = Callable[[Side], Finding]


def claims(evidence: Evidence) -> Iterator[Claim]:
    """The claims that the experiment has the rows for."""
    if not is_jordans(evidence.measured.experiment):
        return
    row = _subject(evidence.measured)
    if row is not None and not _is_unstable(evidence.measured):
        yield from _on_luck(evidence, row)
    if row is not None:
        yield from _on_calibration(evidence, row)
    for group in differing_in(evidence.measured.rows, DURATION):
        if len(group[-1].variant.sources) > 1 and group[0].recipe.epochs * SHORT <= group[-1].recipe.epochs:
            yield from _on_durations(evidence, group[0], group[-1])
    yield from _on_sources(evidence)
    yield from _on_twins(evidence)
    yield from _on_first_batch(evidence)
    for group in differing_in(evidence.measured.rows, RATE):
        yield from _on_rates(evidence, group)
    yield from _on_augmentation(evidence)
    yield from _on_linear(evidence)
    yield from _on_parts(evidence)


# ---- one population: Sections 3.1 to 3.4 -----------------------------------------------------------------------------


def _on_luck(evidence: Evidence, row: Row) -> Iterator[Claim]:
    yield _converged(
        evidence,
        "When training to convergence, luck does not carry over: of what the best quarter of the runs by one half of "
        "the test set gain there, less than a quarter is left on the other half",
        "Section 3.1 and Figure 2",
        row,
        ("lucky_gain_kept",),
        lambda rows: _judged(
            rows, lambda v: at_most([v["lucky_gain_kept"]], LITTLE), "lucky_quarter_gain_there", "lucky_quarter_gain"
        ),
        SPREAD,
    )
    yield _converged(
        evidence,
        "When training to convergence, errors are about independent: that explains at least 80% of the SD between runs",
        "Section 3.2 and Figure 3",
        row,
        ("accuracy_sd", "independent_errors_sd"),
        _independent,
        SHARES,
    )
    yield _converged(
        evidence,
        "When training to convergence, the variance on the distribution itself is small (Theorem 2): less than a "
        "quarter of that on the test set",
        "Section 3.3",
        row,
        ("accuracy_sd", "distribution_sd"),
        lambda rows: _judged(rows, lambda v: at_most([_genuine_share(v)], LITTLE), "accuracy_sd", "distribution_sd"),
        SHARES,
    )
    yield _converged(
        evidence,
        "When training to convergence, the binomial approximation overestimates the variance",
        "Section 3.2 and Figure 14",
        row,
        ("binomial_ratio",),
        lambda rows: _judged(rows, lambda v: ratio_at_least(v["binomial_ratio"], ONE, 1.0), "binomial_ratio"),
        SPREAD,
    )


def _on_calibration(evidence: Evidence, row: Row) -> Iterator[Claim]:
    """Theorems 3 to 5 are proved: what is checked is whether their premise, class-wise calibration, is near enough."""
    yield _converged(
        evidence,
        "The training is calibrated enough that two runs disagree about as often as one errs, within 20% (Theorem 5)",
        "Section 3.4 and Appendix B.5",
        row,
        ("disagreement_ratio",),
        lambda rows: _judged(rows, lambda v: _about_one(v["disagreement_ratio"]), "disagreement_ratio"),
        PAIRS,
    )
    yield _converged(
        evidence,
        "Calibration foretells the variance: over all binary tasks made of the classes, err / (2 n) is within 20% of "
        "it (Theorem 3, Equation 6)",
        "Section 3.4 and Figure 6",
        row,
        ("tasks_ratio",),
        _foretold,
        SHARES,
    )
    yield _converged(
        evidence,
        "The variance is at least err / (n k), as calibration of k classes makes it (Theorem 4)",
        "Section 3.4",
        row,
        ("lower_bound_ratio",),
        lambda rows: _judged(rows, lambda v: at_least([v["lower_bound_ratio"]], 1.0), "lower_bound_ratio"),
        SPREAD,
    )


def _converged(
    evidence: Evidence, statement: str, where: str, row: Row, needs: Sequence[str], check: Check, least: int
) -> Claim:
    """A claim of Section 3, which is about training to convergence."""
    short = ""
    if row.recipe.model.name == "resnet9" and row.recipe.epochs < FULL:
        short = f"{row.name} is a short training of ResNet-9, {_epochs(row)}: the claim is of full, {FULL} or more"
    claim = _claim(evidence, statement, where, [row], needs, check, least, short)
    halves = row.values.get("halves_correlation", UNKNOWN)
    far = at_least([halves], LITTLE) is Verdict.HOLDS and row.recipe.model.name != "resnet9"
    if claim.measured.verdict is not Verdict.FAILS or claim.measured.why or not far:
        return claim
    why = f"accuracies on two halves of the test set still go together (r = {halves.value:.2f}): train longer"
    return replace(claim, measured=replace(claim.measured, why=why))


def _independent(rows: Side) -> Finding:
    finding = _judged(rows, _explained, "accuracy_sd", "independent_errors_sd")
    ((_, values),) = rows.items()
    distance, chance = (values.get(f"independence_{name}", UNKNOWN) for name in ("distance", "by_chance"))
    if not (distance.known and chance.known):
        return finding
    text = f"at most {distance.value:.1f}% of the runs apart, as they are by chance up to {chance.value:.1f}%"
    if distance.value > chance.value:
        text = f"{distance.value:.1f}% of the runs apart, where chance gives at most {chance.value:.1f}%"
    return Finding(finding.verdict, (*finding.evidence, ("Both distributions of accuracy", text)), finding.why)


def _explained(values: Values) -> Verdict:
    return at_least([_independent_share(values)], CLOSE)


def _foretold(rows: Side) -> Finding:
    finding = _judged(rows, lambda v: _about_one(v["tasks_ratio"]), "tasks_ratio", "tasks_r_squared")
    ((_, values),) = rows.items()
    calibrated = values.get("disagreement_ratio", UNKNOWN)
    if finding.verdict is Verdict.FAILS and calibrated.known and _about_one(calibrated) is Verdict.FAILS:
        why = (
            f"this training is not calibrated (disagreement is {100 * calibrated.value:.0f}% of the error), which is "
            "the formula's premise"
        )
        return Finding(finding.verdict, finding.evidence, why)
    return finding


def _independent_share(values: Values) -> Value:
    own = values.get("independent_share", UNKNOWN)
    return own if own.known else ratio(values["independent_errors_sd"], values["accuracy_sd"])


def _genuine_share(values: Values) -> Value:
    own = values.get("genuine_share", UNKNOWN)
    return own if own.known else variance_ratio(values["distribution_sd"], values["accuracy_sd"])


def _genuine_variance(values: Values) -> Value:
    """In points squared; of a printed SD its square."""
    own, sd = values.get("distribution_variance", UNKNOWN), values["distribution_sd"]
    return own if own.known else Value(sd.value * abs(sd.value), 2 * abs(sd.value) * sd.error)


# ---- durations: Figures 2, 3 and 5 -----------------------------------------------------------------------------------


def _on_durations(evidence: Evidence, short: Row, full: Row) -> Iterator[Claim]:
    for statement, where, needs, of in (
        (
            "Lucky seeds vanish with training: the longer it is, the less do accuracies on two halves of the test set "
            "go together",
            "Section 3.1 and Figure 2",
            ("halves_correlation",),
            lambda values: _negative(values["halves_correlation"]),
        ),
        (
            "The longer the training, the more of the SD between runs do independent errors explain",
            "Section 3.2 and Figure 3",
            ("accuracy_sd", "independent_errors_sd"),
            _independent_share,
        ),
        (
            "The longer the training, the smaller the variance on the distribution (Theorem 2)",
            "Section 3.3 and Figure 5",
            ("distribution_sd",),
            lambda values: _negative(_genuine_variance(values)),
        ),
    ):
        yield _claim(evidence, statement, where, [short, full], needs, _grows(needs, of), SPREAD)


def _grows(needs: Sequence[str], of: Callable[[Values], Value]) -> Check:
    """Whether `of` the second row is above that of the first."""

    def check(rows: Side) -> Finding:
        before, after = map(of, rows.values())
        lines = tuple(
            (quantity(name).header, ", ".join(told(quantity(name), values[name], row) for row, values in rows.items()))
            for name in needs
        )
        return Finding(at_least([difference(after, before)], 0.0), lines)

    return check


# ---- sources and pokes: Appendix D -----------------------------------------------------------------------------------


def _on_sources(evidence: Evidence) -> Iterator[Claim]:
    found = [group for group in groups(evidence.measured) if group.everything is not None and not group.linear]
    sets = [(group.everything, [row for row in group.sources if len(row.variant.sources) == 1]) for group in found]
    rows = sorted(
        ((every, alone) for every, alone in sets if every is not None and len(every.variant.sources) > 1 and alone),
        key=lambda pair: pair[0].recipe.epochs,
    )
    for every, alone in rows:
        length = _length(every, evidence.measured)
        if length == "full":
            statement = f"One source alone gives as much spread as all together ({_epochs(every)}): at least 90%"
            yield _shares_of_all(evidence, statement, every, alone, _all_nearly)
        elif length == "short":
            statement = f"In short trainings one source alone gives less spread than all together ({_epochs(every)})"
            yield _shares_of_all(evidence, statement, every, alone, _all_less)


def _length(row: Row, measured: Measured) -> str:
    """Whether the paper would call a training "full" or "short"; empty where it says neither.

    Its ResNet-9 goes by epochs, any other network by the longest training that is planned of it.
    """
    epochs = row.recipe.epochs
    if row.recipe.model.name == "resnet9":
        return "full" if epochs >= FULL else "short" if epochs < UNDER else ""
    alike = (other.recipe for other in measured.rows)
    own = without(row.recipe, DURATION)
    longest = max(recipe.epochs for recipe in alike if without(recipe, DURATION) == own)
    return "full" if epochs == longest else "short" if epochs * SHORT <= longest else ""


def _all_nearly(shares: Sequence[Value]) -> Verdict:
    return at_least(shares, math.log(NEARLY))


def _all_less(shares: Sequence[Value]) -> Verdict:
    return at_most(shares, 0.0)


def _shares_of_all(
    evidence: Evidence, statement: str, every: Row, alone: Sequence[Row], verdict: Callable[[Sequence[Value]], Verdict]
) -> Claim:
    """The accuracy SD of each row in which one source varies over that of all; of the paper, those that it prints.

    verdict: of the logarithms of these shares.
    """

    def check(rows: Side) -> Finding:
        whole = rows[every.name]["accuracy_sd"]
        shares = {name: ratio(values["accuracy_sd"], whole) for name, values in rows.items() if name != every.name}
        lines = [(quantity("accuracy_sd").header, told(quantity("accuracy_sd"), whole, every.name))]
        lines += [
            (name, f"{told(quantity('accuracy_sd'), rows[name]['accuracy_sd'], name)}: {_percent(share)}")
            for name, share in shares.items()
        ]
        logarithms = [log_ratio(rows[name]["accuracy_sd"], whole) for name in shares]
        return Finding(verdict(logarithms), tuple(lines))

    where = "Appendix D.1 and Figure 11"
    claim = _claim(evidence, statement, where, [every, *alone], ("accuracy_sd",), check, SOURCES)
    printed = {
        row.name: evidence.printed[row.name] for row in (every, *alone) if _printed(evidence, row, "accuracy_sd")
    }
    theirs = check(printed) if every.name in printed and len(printed) > 1 else None
    ours, fewest = claim.measured, min(row.members for row in (every, *alone))
    if ours.verdict is Verdict.OPEN and verdict is _all_nearly and fewest < ENOUGH:
        why = f"of {fewest} runs it can hardly be told even where all SDs are equal: {ENOUGH} or more are needed"
        ours = replace(ours, why=why)
    return replace(claim, measured=ours, published=theirs)


def _on_twins(evidence: Evidence) -> Iterator[Claim]:
    where = "Appendix D.2 and Figure 12"
    pairs = [(row, twin) for row in evidence.measured.rows if (twin := _twin(evidence.measured, row)) is not None]
    alike: dict[tuple[str, str], list[tuple[Row, Row]]] = {}
    for row, twin in sorted(pairs, key=lambda pair: pair[0].recipe.epochs):
        alike.setdefault((twin.name, change_of(row.variant)), []).append((row, twin))
    for found in alike.values():
        found.sort(key=lambda pair: pair[0].variant.perturbation.step)
        (poked, twin), last = found[0], found[-1][0]
        what = "another precision in the first step" if poked.variant.first_step_precision else "one poked weight"
        if length := _length(poked, evidence.measured):
            full = length == "full"
            statement = (
                f"After {length} training {what} makes runs differ "
                f"{'as much as' if full else 'less than'} other seeds do ({_epochs(poked)})"
            )
            needs = (("twin_disagreement",), ("disagreement",))
            check = _against_other_seeds(_nearly_all if full else _less)
            yield _claim(evidence, statement, where, [poked, twin], needs, check, PAIRS)
        if not poked.variant.first_step_precision and _step(poked) < _step(last):
            yield _claim(
                evidence,
                f"The earlier a weight is poked, the more the runs differ in the end ({_epochs(poked)})",
                where,
                [last, poked],
                ("twin_disagreement",),
                _grows(("twin_disagreement",), lambda values: values["twin_disagreement"]),
                PAIRS,
            )


def _step(row: Row) -> int:
    return row.variant.perturbation.step


def _nearly_all(own: Value, seeds: Value) -> Verdict:
    return ratio_at_least(own, seeds, NEARLY)


def _less(own: Value, seeds: Value) -> Verdict:
    return at_most([log_ratio(own, seeds)], 0.0)


def _against_other_seeds(bound: Callable[[Value, Value], Verdict]) -> Check:
    def check(rows: Side) -> Finding:
        (name, own), (other, seeds) = rows.items()
        share = ratio(own["twin_disagreement"], seeds["disagreement"])
        lines = (
            ("Disagreement with the twin (%)", told(quantity("twin_disagreement"), own["twin_disagreement"], name)),
            ("Disagreement of other seeds (%)", told(quantity("disagreement"), seeds["disagreement"], other)),
            ("Share", _percent(share)),
        )
        return Finding(bound(own["twin_disagreement"], seeds["disagreement"]), lines)

    return check


def _twin(measured: Measured, row: Row) -> Row | None:
    """The row whose runs are this one's twins but for a poked weight, or the precision of the first step."""
    if "twin_disagreement" not in row.values:
        return None
    sources = tuple(source for source in row.variant.sources if source != "bit")
    others = (other for other in measured.rows if other is not row and is_plain(other) and other.recipe == row.recipe)
    return next((other for other in others if other.variant.sources == sources), None)


def _on_first_batch(evidence: Evidence) -> Iterator[Claim]:
    rows = [row for row in evidence.measured.rows if row.variant.until_step == 1 and row.variant.sources]
    for row in rows:
        everything = (g.everything for g in groups(evidence.measured) if g.everything is not None)
        every = next((other for other in everything if other.recipe == row.recipe), None)
        if every is not None:
            yield _claim(
                evidence,
                f"Runs that differ in their first batch alone ({row.name}) disagree as much as any: at least 90%",
                "Appendix D.2",
                [row, every],
                ("disagreement",),
                _as_much_disagreement,
                PAIRS,
            )


def _as_much_disagreement(rows: Side) -> Finding:
    (name, first), (other, every) = rows.items()
    kind, share = quantity("disagreement"), ratio(first["disagreement"], every["disagreement"])
    text = f"{told(kind, first[kind.name], name)} against {told(kind, every[kind.name], other)}: {_percent(share)}"
    return Finding(ratio_at_least(first[kind.name], every[kind.name], NEARLY), ((kind.header, text),))


# ---- rates, augmentation, linear models, parts: Section 4 ------------------------------------------------------------


def _on_rates(evidence: Evidence, group: Sequence[Row]) -> Iterator[Claim]:
    """The most accurate rate against the next larger one: there accuracy falls, and genuine variance sets in."""
    known = [row for row in group if row.values.get("accuracy_mean", UNKNOWN).known]
    if len(known) < 3:
        return
    best = max(known, key=lambda row: row.values["accuracy_mean"].value)
    larger = known[known.index(best) + 1 :][:1]
    statement = (
        "The best learning rate is the largest without excess variance: at the next larger one accuracy falls and the "
        "variance on the distribution rises"
    )
    where = "Section 4.3 and Figure 8"
    if not larger:
        rate = best.recipe.optimizer.lr
        why = f"the largest rate that was tried, {rate:g}, is the most accurate: larger ones are needed"
        yield Claim(statement, _PAPER + where, (best.name,), Finding(Verdict.NOT_COMPARABLE, (), why))
        return
    yield _claim(
        evidence,
        statement,
        where,
        [best, larger[0]],
        ("accuracy_mean", "distribution_sd", "accuracy_sd"),
        _declines,
        SPREAD,
    )


def _declines(rows: Side) -> Finding:
    best, larger = rows.values()
    loss = difference(best["accuracy_mean"], larger["accuracy_mean"])
    excess = difference(_genuine_variance(larger), _genuine_variance(best))
    share = _genuine_share(best)
    lines = tuple(
        (quantity(name).header, ", ".join(told(quantity(name), values[name], row) for row, values in rows.items()))
        for name in ("accuracy_mean", "accuracy_sd", "distribution_sd")
    )
    within = Value(LITTLE - share.value, share.error)
    return Finding(at_least([loss, excess, within], 0.0), lines)


def _on_augmentation(evidence: Evidence) -> Iterator[Claim]:
    where = "Section 4.2 and Figure 7"
    reduced = _bare_and_augmented(evidence.measured)
    if reduced is not None:
        yield _claim(evidence, "Augmentation reduces variance", where, reduced, ("accuracy_sd",), _reduced, SHARES)
    pair = without_augmentation_and_less_data(evidence.measured.rows)
    if pair is None:
        return
    yield _claim(
        evidence,
        "Without augmentation runs vary more than with less data, at the same accuracy",
        where,
        pair,
        ("accuracy_mean",),
        _more_variance,
        SHARES,
    )
    ensembles = their_ensembles(evidence.measured.rows, pair)
    if ensembles is not None:
        yield _claim(
            evidence,
            "A large ensemble of runs without augmentation is more accurate than one of runs with less data",
            where,
            ensembles,
            ("accuracy_mean",),
            _more_accurate,
            2,
        )


def _more_variance(rows: Side) -> Finding:
    bare, less = rows.values()
    found = bare.get("variance_ratio_to_less_data", UNKNOWN)
    gap = bare["accuracy_mean"].value - less["accuracy_mean"].value
    kind = quantity("accuracy_mean")
    lines = (
        (kind.header, ", ".join(told(kind, values[kind.name], name) for name, values in rows.items())),
        ("Variance / that with less data", with_error(found, 1)),
    )
    if abs(gap) > 2.0:
        why = f"their accuracies are {abs(gap):.1f} points apart, and the claim is about trainings of the same accuracy"
        return Finding(Verdict.NOT_COMPARABLE, lines, why)
    return Finding(ratio_at_least(found, ONE, 1.0), lines)


def _reduced(rows: Side) -> Finding:
    bare, augmented = rows.values()
    found, kind = variance_ratio(bare["accuracy_sd"], augmented["accuracy_sd"]), quantity("accuracy_sd")
    text = ", ".join(told(kind, values[kind.name], name) for name, values in rows.items())
    verdict = ratio_at_least(bare[kind.name], augmented[kind.name], 1.0)
    return Finding(verdict, ((kind.header, text), ("Ratio of the variances", with_error(found, 1))))


def _more_accurate(rows: Side) -> Finding:
    bare, less = rows.values()
    kind = quantity("accuracy_mean")
    text = ", ".join(told(kind, values[kind.name], name) for name, values in rows.items())
    return Finding(at_least([difference(bare[kind.name], less[kind.name])], 0.0), ((kind.header, text),))


def _bare_and_augmented(measured: Measured) -> tuple[Row, Row] | None:
    """A row without augmentation, and that of the same training with it."""
    rows = [row for row in measured.rows if is_plain(row) and row.variant.sources and "bit" not in row.variant.sources]
    path = ("augment",)
    for bare in (row for row in rows if not row.recipe.augment.any):
        own = without(bare.recipe, path)
        for row in (row for row in rows if row.recipe.augment.any):
            if without(row.recipe, path) == own:
                return bare, row
    return None


def _on_linear(evidence: Evidence) -> Iterator[Claim]:
    for row in evidence.measured.rows:
        regularised = row.recipe.model.name == "linear" and row.recipe.optimizer.weight_decay > 0
        if regularised and is_plain(row) and row.variant.sources and "bit" not in row.variant.sources:
            yield _claim(
                evidence,
                f"A regularised linear model has one optimum: its runs vary by less than {BELOW} points",
                "Section 3.4 and Figure 7",
                [row],
                ("accuracy_sd",),
                lambda rows: _judged(rows, lambda v: _below(v["accuracy_sd"]), "accuracy_sd"),
                SPREAD,
            )


def _below(sd: Value) -> Verdict:
    """Of the paper, which prints a bound, whether that is none above ours."""
    if sd.within and sd.value + sd.within <= BELOW:
        return Verdict.HOLDS
    return at_most([sd], BELOW)


def _on_parts(evidence: Evidence) -> Iterator[Claim]:
    """Fine-tuning: are the best runs on the validation set better on the test set?"""
    unstable = _is_unstable(evidence.measured)
    for row in evidence.measured.rows:
        if "lucky_part_gain" not in row.values:
            continue
        if unstable:
            yield _claim(
                evidence,
                "Unstable fine-tuning differs in genuine quality: at least half of the variance is on the distribution",
                "Section 4.1",
                [row],
                ("accuracy_sd", "distribution_sd"),
                lambda rows: _judged(
                    rows, lambda v: at_least([_genuine_share(v)], 0.5), "accuracy_sd", "distribution_sd"
                ),
                SHARES,
            )
            continue
        yield _claim(
            evidence,
            "The best 15% of the runs by the validation set gain little by it: on the test set less than a quarter",
            "Section 4.1 and Figure 7",
            [row],
            ("lucky_part_gain", "lucky_part_gain_there"),
            _chosen_by_validation,
            SHARES,
        )


def _chosen_by_validation(rows: Side) -> Finding:
    ((_, values),) = rows.items()
    there, elsewhere = values["lucky_part_gain_there"], values["lucky_part_gain"]
    rest = difference(elsewhere, Value(LITTLE * there.value, LITTLE * there.error))
    lines = (
        ("Gain where they were chosen (points)", with_error(there, 2)),
        ("Gain on the other part (points)", with_error(elsewhere, 2)),
    )
    return Finding(at_most([rest], 0.0), lines)


# ---- how all of them are put -----------------------------------------------------------------------------------------


def _claim(
    evidence: Evidence,
    statement: str,
    where: str,
    rows: Sequence[Row],
    needs: Sequence[str] | Sequence[Sequence[str]],
    check: Check,
    least: int,
    unless: str = "",
) -> Claim:
    """The claim, judged where every row has what it needs and nothing speaks against it, and on the paper's numbers.

    Args:
        needs: names of quantities, of every row or row by row; of the paper all must be printed.
        least: the members that each row needs.
        unless: what else speaks against it, in a sentence.
    """
    names = tuple(row.name for row in rows)
    why = why_not(evidence.measured, rows, least, any_network=True, cross_entropy=False) or unless or None
    wanted = [(row, name) for place, row in enumerate(rows) for name in _needs(needs, place)]
    lacking = next((row.name for row, name in wanted if not row.values.get(name, UNKNOWN).known), None)
    if lacking is not None:
        ours = Finding(
            Verdict.NOT_COMPARABLE, (), why or f"of {lacking} too little is known: all runs are alike, or few"
        )
    else:
        ours = check({row.name: row.values for row in rows})
        ours = ours if why is None else Finding(Verdict.NOT_COMPARABLE, ours.evidence, why)
    printed = all(_printed(evidence, row, name) for row, name in wanted)
    theirs = check({name: evidence.printed[name] for name in names}) if printed else None
    return Claim(statement, _PAPER + where, names, ours, theirs)


def _needs(needs: Sequence[str] | Sequence[Sequence[str]], place: int) -> Sequence[str]:
    return needs if all(isinstance(name, str) for name in needs) else needs[place]  # type: ignore[return-value]


def _printed(evidence: Evidence, row: Row, name: str) -> bool:
    return evidence.printed.get(row.name, {}).get(name, UNKNOWN).known


def _judged(rows: Side, verdict: Callable[[Values], Verdict], *shown: str) -> Finding:
    """The verdict on the one row, with the numbers that it rests on."""
    ((name, values),) = rows.items()
    known = [quantity(key) for key in shown if values.get(key, UNKNOWN).known]
    return Finding(verdict(values), tuple((kind.header, told(kind, values[kind.name], name)) for kind in known))


def _about_one(value: Value) -> Verdict:
    """Whether a ratio is within 20% of 1, whichever is the smaller."""
    verdicts = {at_least([value], CLOSE), at_most([value], 1 / CLOSE)}
    return next((v for v in (Verdict.FAILS, Verdict.OPEN) if v in verdicts), Verdict.HOLDS)


def _subject(measured: Measured) -> Row | None:
    """The row of the longest training in which most varies, of several the most accurate; None of a linear model."""
    rows = [
        row
        for row in measured.rows
        if is_plain(row) and row.variant.sources and "bit" not in row.variant.sources and _is_last_part(row)
    ]
    rows = [row for row in rows if row.recipe.model.name != "linear" and row.recipe.language is None]
    accuracy = [row.values.get("accuracy_mean", UNKNOWN).value for row in rows]
    ranks = [
        (row.recipe.epochs, len(row.variant.sources), -math.inf if math.isnan(value) else value)
        for row, value in zip(rows, accuracy, strict=True)
    ]
    return rows[max(range(len(rows)), key=ranks.__getitem__)] if rows else None


def _is_last_part(row: Row) -> bool:
    """Of the rows that are one training on several parts of the test set, the last is the test set proper."""
    return row.variant.part is None or row.variant.part == test_parts(row.recipe.dataset)[-1][0]


def _is_unstable(measured: Measured) -> bool:
    """Whether the experiment is the paper's exception, whose runs differ in genuine quality (Section 4.1)."""
    return any(reference.startswith("jordan_2024.bert_large") for reference in measured.experiment.published)


def _negative(value: Value) -> Value:
    return replace(value, value=-value.value)


def _percent(share: Value) -> str:
    return f"{100 * share.value:.0f}% ± {100 * share.error:.0f}" if share.known else "too small to compare"


def _epochs(row: Row) -> str:
    return f"{row.recipe.epochs} epoch{'' if row.recipe.epochs == 1 else 's'}"
