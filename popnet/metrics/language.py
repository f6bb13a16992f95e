"""How much language models differ: Tables 2, 4 and 9 of Summers & Dinneen (2021), Section 3.3, and correlations.

Everywhere log_probabilities are those of the words that come, float32 [members, tokens], nats, and words the most
probable ones, int32 [members, tokens]: torch tensors on the CPU or a CUDA device, or NumPy arrays. An ensemble averages
its members' probabilities. Equal members give exactly 0 (correlation 1). No result depends on `threads`, on the order
of the members (but for the resamples and the sample of pairs, which number them) or on the device.

ValueError names the argument that is wrong, and the member and token of a value that is not finite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from popnet import native
from popnet.metrics.inputs import Array, at_least_two, tensor_of, thread_count
from popnet.metrics.pairs import PairMean, pair_groups, standard_error
from popnet.metrics.population import RESAMPLES, spearman, standard_deviation
from popnet.metrics.predictions import Predictions
from popnet.metrics.resampling import in_steps

_LARGEST = 1e-3  # a log-probability that rounding may have put above 0
_OVERFLOW = 709.0  # nats a token


@dataclass(frozen=True)
class LanguageVariability:
    """One row of Table 2: perplexities, disagreement in percent.

    Attributes:
        ppl_sd: population standard deviation (ddof 0); `ppl_sd_error` is its standard deviation over bootstrap
            resamples of the members.
        disagreement: mean over pairs of the share of tokens whose most probable words differ; NaN where the words are
            not known.
        ensemble_ppl_delta: mean over `ensemble_pairs` pairs of the perplexity of the two's mean probabilities minus the
            mean of their perplexities; where these are a sample (above 2,000 members), `_error` is the mean's standard
            error, else 0.
        target_spearman: mean over pairs of Spearman's rho of the log-probabilities.
        logit_spearman: the same of all words' logits at sampled positions; NaN where they are not known.
    """

    members: int
    ppl_mean: float
    ppl_sd: float
    ppl_sd_error: float
    disagreement: float
    ensemble_ppl_delta: float
    target_spearman: float
    logit_spearman: float
    ensemble_pairs: int
    ensemble_ppl_delta_error: float = 0.0

    @property
    def all_pairs(self) -> bool:
        """Whether the ensemble delta is a mean over all pairs rather than over a sample."""
        return self.ensemble_pairs == self.members * (self.members - 1) // 2

    def as_dict(self) -> dict[str, float]:
        """The fields by name, one row of a table."""
        return asdict(self)


@dataclass(frozen=True)
class LanguagePairwise:
    """The metrics of every pair of members, each float64 [members, members], symmetric, 0 on the diagonal.

    Units as in `LanguageVariability`; disagreement is None where the words are not known.
    """

    disagreement: NDArray[np.float64] | None
    ensemble_ppl_delta: NDArray[np.float64]


def perplexity(log_probabilities: Array, *, threads: int | None = None) -> NDArray[np.float64]:
    """exp(-mean log-probability) of each member, float64 [members]; the tokens are summed exactly."""
    return _perplexities(_checked(log_probabilities), thread_count(threads))


def word_disagreement(words: Array, *, threads: int | None = None) -> float:
    """The mean over pairs of the share of tokens whose most probable words differ, percent; counted, so exact."""
    tensor = _words(words)
    at_least_two(len(tensor), "word_disagreement")
    return _mean_disagreement(native.differing_matrix(tensor, threads=thread_count(threads)), tensor.shape[1])


def ensemble_perplexity_delta(log_probabilities: Array, *, seed: int = 1, threads: int | None = None) -> PairMean:
    """The mean over pairs of (perplexity of the mean probabilities) - (mean of the perplexities), at most 0.

    All pairs; above 2,000 members a sample of them, fixed by (members, seed).
    """
    checked = _checked(log_probabilities)
    at_least_two(len(checked), "ensemble_perplexity_delta")
    return _delta(checked, seed, thread_count(threads))


def language_pairwise(
    log_probabilities: Array, words: Array | None = None, *, threads: int | None = None
) -> LanguagePairwise:
    """The [members, members] matrices of the metrics over pairs; words may be left out."""
    checked, count = _checked(log_probabilities), thread_count(threads)
    at_least_two(len(checked), "language_pairwise")
    disagreement = None
    if words is not None:
        tensor = _words(words, checked)
        disagreement = 100.0 * native.differing_matrix(tensor, threads=count).cpu().numpy() / tensor.shape[1]
    return LanguagePairwise(disagreement, _delta_matrix(checked, range(len(checked)), count))


def language_variability(
    log_probabilities: Array,
    words: Array | None = None,
    logits: Array | Predictions | None = None,
    *,
    resamples: int = RESAMPLES,
    bootstrap_seed: int = 1,
    pairs_seed: int = 1,
    threads: int | None = None,
    block: int | None = None,
) -> LanguageVariability:
    """Every metric of the population.

    Args:
        words: the most probable words; without them disagreement is NaN.
        logits: [members, positions, vocabulary], as `popnet.metrics.spearman` takes them; without them their
            correlation is NaN.
        resamples, bootstrap_seed: of the bootstrap behind the standard deviation's error.
        pairs_seed: of the sample of pairs, above 2,000 members.
        threads: CPU threads; all cores this process may use if not given.
        block: members whose ranks are taken together; as many as fit in 128 MB if not given.
    """
    checked, count = _checked(log_probabilities), thread_count(threads)
    members, tokens = checked.shape
    at_least_two(members, "language_variability")
    disagreement = logit_spearman = math.nan
    if words is not None:
        differing = native.differing_matrix(_words(words, checked), threads=count)
        disagreement = _mean_disagreement(differing, tokens)
    if logits is not None:
        if (logits.members if isinstance(logits, Predictions) else len(logits)) != members:
            raise ValueError(f"logits must have as many members as log_probabilities, {members}")
        logit_spearman = spearman(logits, threads=count, block=block)
    perplexities = _perplexities(checked, count)
    delta = _delta(checked, pairs_seed, count)
    return LanguageVariability(
        members=members,
        ppl_mean=math.fsum(perplexities) / members,
        ppl_sd=standard_deviation(perplexities),
        ppl_sd_error=_sd_error(perplexities, resamples, bootstrap_seed, count),
        disagreement=disagreement,
        ensemble_ppl_delta=delta.mean,
        target_spearman=spearman(checked[:, :, None], threads=count, block=block),
        logit_spearman=logit_spearman,
        ensemble_pairs=delta.pairs,
        ensemble_ppl_delta_error=delta.error,
    )


def _checked(log_probabilities: Any) -> Tensor:
    """float32 [members, tokens], contiguous, finite, none above 0."""
    name = "log_probabilities"
    tensor = _tensor(log_probabilities, name, torch.float32)
    index = native.first_nonfinite(tensor)
    if index >= 0:
        member, token = divmod(index, tensor.shape[1])
        what = "NaN" if bool(torch.isnan(tensor[member, token])) else "infinite"
        raise ValueError(f"{name} of member {member}, token {token} is {what}")
    if float(tensor.max()) > _LARGEST:
        member, token = divmod(int(tensor.argmax()), tensor.shape[1])
        raise ValueError(f"{name} of member {member}, token {token} is {float(tensor[member, token]):g}, above 0")
    return tensor


def _words(words: Any, like: Tensor | None = None) -> Tensor:
    """int32 [members, tokens], contiguous, of the shape and on the device of `like`."""
    tensor = _tensor(words, "words", torch.int32)
    if like is not None and tensor.shape != like.shape:
        raise ValueError(
            f"words must have the shape of log_probabilities, {list(like.shape)}, not {list(tensor.shape)}"
        )
    return tensor if like is None else tensor.to(like.device)


def _tensor(values: Any, name: str, dtype: torch.dtype) -> Tensor:
    if not isinstance(values, (Tensor, np.ndarray)):
        raise ValueError(f"{name} must be a NumPy array or a torch tensor, but is {type(values).__name__}")
    tensor = values.detach() if isinstance(values, Tensor) else tensor_of(values, name)
    if tensor.dtype != dtype:
        raise ValueError(f"{name} must be {str(dtype).removeprefix('torch.')}, but is {tensor.dtype}")
    if tensor.dim() != 2 or 0 in tensor.shape:
        raise ValueError(f"{name} must be [members, tokens] and not empty, but has shape {list(tensor.shape)}")
    return tensor.contiguous()


def _perplexities(checked: Tensor, threads: int) -> NDArray[np.float64]:
    return _exponentials(-native.token_sums(checked, threads=threads).numpy() / checked.shape[1])


def _exponentials(nats: NDArray[np.float64]) -> NDArray[np.float64]:
    if nats.size and nats.max() > _OVERFLOW:
        raise ValueError(f"log_probabilities mean {nats.max():g} nats a token for a member: its perplexity overflows")
    return np.asarray(native.portable_exp(torch.from_numpy(np.ascontiguousarray(nats))).numpy())


def _delta(checked: Tensor, seed: int, threads: int) -> PairMean:
    means, sums, pairs = [], [], []
    for group in pair_groups(len(checked), seed):
        values = _delta_matrix(checked, group, threads)[np.triu_indices(len(group), 1)]
        sums.append(math.fsum(values))
        pairs.append(values.size)
        means.append(sums[-1] / values.size)
    return PairMean(math.fsum(sums) / sum(pairs), standard_error(means), sum(pairs))


def _delta_matrix(checked: Tensor, members: Sequence[int], threads: int) -> NDArray[np.float64]:
    """Of every pair of the named members, float64 [m, m], symmetric.

    A member's own perplexity is that of its ensemble with itself, so that equal members give exactly 0.
    """
    rows = torch.tensor(list(members), dtype=torch.int64, device=checked.device)
    products = torch.zeros((len(rows), len(rows)), dtype=torch.float64, device=checked.device)
    native.add_mixture_log_products(products, checked, rows=rows, threads=threads)
    above = np.triu_indices(len(rows))
    perplexities = np.zeros(products.shape)
    perplexities[above] = _exponentials(math.log(2.0) - products.cpu().numpy()[above] / checked.shape[1])
    own = np.diagonal(perplexities)
    deltas = np.triu(perplexities - (own[:, None] + own[None, :]) / 2, 1)
    return np.asarray(deltas + deltas.T)


def _mean_disagreement(differing: Tensor, tokens: int) -> float:
    members = len(differing)
    return 100 * int(differing.sum()) / (tokens * members * (members - 1))


def _sd_error(values: NDArray[np.float64], resamples: int, seed: int, threads: int) -> float:
    steps, step = in_steps(values)
    deviations = native.bootstrap_deviations(
        torch.from_numpy(steps[None]), resamples=resamples, seed=seed, threads=threads
    )
    return step * standard_deviation(deviations.numpy()[0])
