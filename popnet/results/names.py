"""What is known of a metric by its name: whether more of it is better, and its unit. Whole names, never parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Kind = Literal["share", "bounded", "free"]


@dataclass(frozen=True)
class Meaning:
    """What a metric's name says.

    Attributes:
        higher_is_better: None where the name is not known.
        unit: `points` of a percent, `nats`, or empty.
        kind: `share`, an accuracy or error rate, shown in percent; `bounded` in 0..1 or 0..100; else `free`.
    """

    higher_is_better: bool | None
    unit: str = ""
    kind: Kind = "free"


_SHARES_HIGHER = (
    "accuracy acc acc_norm acc_bytes acc_per_byte balanced_accuracy balanced_acc top1 top_1 top5 top_5 top1_accuracy "
    "top_1_accuracy top5_accuracy top_5_accuracy top1_acc top_1_acc top5_acc top_5_acc acc1 acc_1 acc5 acc_5 "
    "accuracy_top1 accuracy_top5 acc_top1 acc_top5 exact_match em quasi_exact_match prefix_exact_match correct "
    "is_correct accuracy_score pass_1 pass_at_1 multiple_choice_accuracy mc1 mc2 word_accuracy token_accuracy"
)
_SHARES_LOWER = (
    "error_rate err err_rate top1_error top_1_error top5_error top_5_error top1_err top_1_err top5_err top_5_err "
    "classification_error misclassification_rate"
)
_BOUNDED_HIGHER = (
    "f1 f1_score macro_f1 micro_f1 weighted_f1 f1_macro f1_micro f1_weighted precision recall sensitivity specificity "
    "auc auroc roc_auc roc_auc_score auprc pr_auc average_precision ap map_50 map_50_95 mean_average_precision iou "
    "miou mean_iou jaccard dice dice_score ssim bleu sacrebleu chrf rouge rouge1 rouge2 rougel rouge_1 rouge_2 rouge_l "
    "rougelsum meteor bertscore mcc matthews_correlation matthews_corrcoef pearson pearsonr spearman spearmanr kendall "
    "kendall_tau kappa cohen_kappa ndcg mrr hit_rate win_rate success_rate pass_k pass_at_k pass_10 pass_100 r2 "
    "r2_score r_squared likelihood"
)
_BOUNDED_LOWER = (
    "error wer cer ter word_error_rate character_error_rate brier brier_score ece calibration_error fpr fnr eer"
)
_FREE_HIGHER = (
    "psnr log_likelihood loglikelihood elbo inception_score is_score throughput images_per_second tokens_per_second "
    "samples_per_second examples_per_second"
)
_FREE_LOWER = (
    "loss cross_entropy crossentropy ce nll negative_log_likelihood log_loss logloss bpc bpb bits_per_byte "
    "bits_per_char bits_per_character bits_per_dim perplexity ppl word_perplexity byte_perplexity rmse mse "
    "mae mape smape mean_squared_error root_mean_squared_error mean_absolute_error squared_error absolute_error "
    "fid kid lpips latency kl_divergence hinge_loss"
)
_NATS = frozenset(["cross_entropy", "crossentropy", "ce", "nll", "negative_log_likelihood", "log_loss", "logloss"])

KNOWN: dict[str, Meaning] = {
    **dict.fromkeys(_SHARES_HIGHER.split(), Meaning(True, "points", "share")),
    **dict.fromkeys(_SHARES_LOWER.split(), Meaning(False, "points", "share")),
    **dict.fromkeys(_BOUNDED_HIGHER.split(), Meaning(True, "", "bounded")),
    **dict.fromkeys(_BOUNDED_LOWER.split(), Meaning(False, "", "bounded")),
    **dict.fromkeys(_FREE_HIGHER.split(), Meaning(True)),
    **{name: Meaning(False, "nats" if name in _NATS else "") for name in _FREE_LOWER.split()},
}
"""The whole table, printed in docs/your-results.md."""

_SPLITS = frozenset(
    (
        *("train", "training", "val", "valid", "validation", "test", "testing", "eval", "evaluation", "dev"),
        *("metrics", "metric", "final", "best"),
    )
)


def plain(name: str) -> str:
    """A name as the table has it: lower case, words joined by `_`, without the split's name or a filter after a comma.

    `val/Top-1 Accuracy` is `top_1_accuracy`, `eval_loss` is `loss`, `acc_norm,none` is `acc_norm`.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", name.partition(",")[0].lower()) if word]
    while len(words) > 1 and words[0] in _SPLITS:
        words = words[1:]
    return "_".join(words)


def meaning(name: str) -> Meaning:
    """What the name says; `Meaning(None)` where the table does not hold it."""
    return KNOWN.get(plain(name), Meaning(None))
