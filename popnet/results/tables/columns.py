"""Which part a table's column plays, by its name alone: whole names in lower case, never parts of them.

`plain` brings a name into the form of the tables below: `config/Learning Rate` is `learning_rate`, of a configuration.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from popnet.results.names import meaning

Role = Literal[
    "seed", "run", "history", "example", "id", "repeat", "task", "label", "prediction", "correct", "prose", "state",
    "bookkeeping", "setting", "metric", "value",
]  # fmt: skip


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SEEDS = _words(
    "seed seeds random_seed rng_seed rng manual_seed random_state torch_seed numpy_seed np_seed global_seed "
    "base_seed train_seed training_seed model_seed init_seed data_seed shuffle_seed seed_id seed_number"
)
"""What tells the runs of one population apart, before any name of a run."""

RUNS = _words(
    "run runs run_id runid run_name runname run_number run_idx run_index run_uuid trial trial_id trial_name "
    "trial_number replica replica_id replicate replicate_id rep repetition member member_id name mlflow_run_name "
    "wandb_id"
)
"""Names and numbers of runs: `Name` of W&B's export, `Run ID` of MLflow's."""

HISTORIES = _words(
    "epoch current_epoch train_epoch step train_step training_step iteration iter it global_step "
    "trainer_global_step train_global_step optimizer_step timestep total_timestep num_timesteps total_timesteps "
    "env_step env_steps num_env_steps update num_updates training_iteration round"
)
"""How far a training was; rows that differ in it are of one run."""

MAYBE_HISTORIES = _words("epochs steps timesteps iterations iters updates samples_seen tokens_seen tokens")
"""Settings, or how far a training was, which `--last` takes them for where there is none of `HISTORIES`."""

EXAMPLES = _words(
    "example_id example exampleid doc_id docid sample_id sampleid question_id questionid qid query_id image_id "
    "imageid img_id filename file_name image_name image_path item_id item instance_id prompt_id task_id "
    "problem_id sentence_id row_id test_id utterance_id utt_id pair_id document_id passage_id record_id entry_id "
    "datum_id text_id example_idx example_index sample_idx sample_index doc_idx"
)
"""What identifies an example."""

IDS = _words("id ids idx index uid uuid guid key pid number")
"""What identifies an example or a run, as the other columns tell: `number` is that of Optuna's trials."""

REPEATS = _words(
    "repeat repeats repeat_id repeat_idx attempt attempt_id attempt_number try_number rollout rollout_id "
    "generation_id completion_id completion_idx"
)
"""Which of several answers to one example."""

TASKS = _words("task tasks task_name taskname benchmark benchmark_name subset subtask")

LABELS = _words(
    "label labels target targets gold gold_label gold_labels true_label true_labels y_true y truth ground_truth "
    "actual expected label_id label_ids target_label true_class gold_answer correct_answer correct_label "
    "correct_class"
)

PREDICTIONS = _words(
    "prediction predictions predicted pred preds y_pred y_hat yhat predicted_label predicted_labels pred_label "
    "pred_labels predicted_class pred_class predicted_answer model_answer model_prediction"
)

CORRECTS = _words("correct is_correct iscorrect correctness is_right passed is_passed resolved solved hit hits")
"""Whether an example was answered right, where the cells are true and false or 1 and 0."""

PROSE = _words(
    "prompt question text sentence sentence1 sentence2 input inputs output outputs response responses completion "
    "generation generated document context passage premise hypothesis reference references source_text query "
    "answer model_output raw_output choices options problem solution content message messages"
)
"""What examples say."""

STATES = _words("state status run_state run_status")

BOOKKEEPING = _words(
    "user username host hostname node machine gpu gpu_type gpu_count gpu_name gpu_id cpu_count created created_at "
    "updated_at runtime duration notes note tags commit git_commit git_sha git_hash timestamp time wall_time "
    "walltime start_time end_time started_at finished_at heartbeat_at date datetime elapsed relative_time_process "
    "pid job_id slurm_job_id url run_url path run_dir output_dir log_dir logdir save_dir checkpoint_path "
    "artifact_uri lifecycle_stage user_id best_epoch best_step best_iteration last_epoch final_epoch stopped_epoch "
    "early_stop_epoch n_iter train_time training_time fit_time datetime_start datetime_complete"
)
"""What differs between runs of one population without being a part of them."""

PLACES = _words(
    "path url checkpoint_path artifact_uri timestamp time wall_time walltime date datetime elapsed "
    "relative_time_process"
)
"""Of the bookkeeping, what may as well tell examples or steps of one training apart."""

NAMES = _words("name run_name runname trial_name mlflow_run_name")
"""Of what tells runs apart, what people write, who name models in the same way."""

SPLITS = _words(
    "split splits data_split dataset_split eval_split fold folds fold_id cv_fold kfold partition phase dataset "
    "dataset_name"
)
"""What parts examples into tests of their own."""

SPLIT_NAMES = _words("train training val valid validation dev test testing eval evaluation holdout")
SUMMARIES = _words(
    "mean avg average averages std sd stdev stddev std_dev standard_deviation var variance median min minimum max "
    "maximum total sum overall count 25% 50% 75% 95% se sem stderr std_err ci ci95 95%_ci mittelwert summe"
)
"""What a row below the runs says that it holds."""

SYSTEMS = _words(
    "model model_name model_id model_type model_version arch architecture backbone network method method_name "
    "algorithm algo approach system system_name variant condition arm treatment experiment experiment_name "
    "experiment_id exp exp_name setup setting config config_name config_id recipe group group_name job_type sweep "
    "sweep_id ablation baseline checkpoint ckpt optimizer optim opt lr learning_rate pretrained"
)
"""What names a population, even beside examples."""

SETTINGS = SYSTEMS | _words(
    "base_lr max_lr min_lr init_lr peak_lr batch_size bs batchsize train_batch_size per_device_train_batch_size "
    "wd weight_decay l2 width depth layers num_layers n_layers hidden hidden_size hidden_dim dim d_model "
    "embed_dim heads num_heads n_heads dropout dropout_rate drop_rate drop_path momentum beta1 beta2 betas eps "
    "epsilon gamma alpha beta temperature tau top_k top_p warmup warmup_steps warmup_epochs warmup_ratio "
    "scheduler lr_scheduler schedule lr_schedule augment augmentation aug mixup cutmix cutout label_smoothing "
    "smoothing grad_clip clip gradient_clip precision dtype fp16 bf16 amp dataset dataset_name data data_path "
    "train_size n_train num_train train_examples fold split loss_fn loss_function criterion activation norm "
    "normalization num_epochs n_epochs max_epochs max_steps num_steps n_steps total_steps num_train_epochs "
    "hparams params kernel_size channels rank lora_rank lora_alpha r prompt_template template shots num_shots "
    "n_shots num_fewshot fewshot shot env env_id environment env_name game agent policy buffer_size n_envs "
    "num_envs tokenizer quantization bits sparsity n_estimators max_depth num_leaves c penalty regularization reg "
    "ema patience resolution image_size img_size input_size patch_size"
) | MAYBE_HISTORIES  # fmt: skip
"""What populations are compared by; rows that differ in one are not runs of one population."""

METRIC_NAMES = _words("metric metrics metric_name metricname measure variable score_name metric_id")
VALUES = _words("value metric_value")
"""Of a long table: one metric a row."""

_CONFIGURATIONS = ("config", "params", "param", "hparams", "hparam", "args", "cfg", "hyperparameters", "hp")
_JOINED = re.compile(r"(config|params?|hparams?|user_attrs|system_attrs)_(.+)")
"""Configurations of Optuna, scikit-learn and others, as `params_lr`."""
_SEED = re.compile(
    r"(?<![a-z])(?:seed|run|rep|repeat|repetition|replica|replicate|trial|member)[-_=. ]?\d+(?![a-z0-9])", re.IGNORECASE
)
_GENERATED = re.compile(r"[a-z]+-[a-z]+-\d+")  # W&B's and MLflow's: misty-sea-1
_ROLES: dict[str, Role] = {
    **dict.fromkeys(SETTINGS, "setting"),
    **dict.fromkeys(BOOKKEEPING, "bookkeeping"),
    **dict.fromkeys(STATES, "state"),
    **dict.fromkeys(PROSE, "prose"),
    **dict.fromkeys(CORRECTS, "correct"),
    **dict.fromkeys(PREDICTIONS, "prediction"),
    **dict.fromkeys(LABELS, "label"),
    **dict.fromkeys(TASKS, "task"),
    **dict.fromkeys(REPEATS, "repeat"),
    **dict.fromkeys(IDS, "id"),
    **dict.fromkeys(EXAMPLES, "example"),
    **dict.fromkeys(HISTORIES, "history"),
    **dict.fromkeys(RUNS, "run"),
    **dict.fromkeys(SEEDS, "seed"),
    **dict.fromkeys(METRIC_NAMES, "metric"),
    **dict.fromkeys(VALUES, "value"),
}


def plain(name: str) -> str:
    """A name in lower case, its words joined by `_`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", "_", name)
    return "_".join(word for word in re.split(r"[^a-z0-9]+", apart.lower()) if word)


def role_of(name: str) -> Role | None:
    """The part that a column plays by its name, or None: it may be a metric, or anything.

    A column of a configuration (`config.x`, `params.x`, `hparams/x`) is a setting, or a seed.
    """
    first, *rest = re.split(r"[./]", name.strip())
    word = plain("_".join(rest) if rest else name)
    if rest and plain(first) in _CONFIGURATIONS:
        return "seed" if word in SEEDS or plain(rest[-1]) in SEEDS else "setting"
    if rest and plain(first) == "tags":
        return "run" if word == "mlflow_run_name" else "bookkeeping"
    joined = _JOINED.fullmatch(plain(name))
    if joined is not None and plain(name) not in _ROLES:
        if joined[1].endswith("attrs") and meaning(joined[2]).higher_is_better is not None:
            return None  # a trial's user may note another metric of it
        return "seed" if joined[2] in SEEDS else "setting"
    return _ROLES.get(plain(name)) or (_ROLES.get(word) if plain(first) in ("summary", "metrics", "info") else None)


def names_a_system(name: str) -> bool:
    """Whether a column names what is compared (a model, a method), even in a table of examples."""
    if plain(name) in SYSTEMS or (_JOINED.fullmatch(plain(name)) and role_of(name) == "setting"):
        return True
    return plain(re.split(r"[./]", name.strip())[0]) in _CONFIGURATIONS and role_of(name) != "seed"


def alike_but_for_seeds(names: Iterable[str]) -> bool:
    """Whether names are those of one thing's runs: `vit-seed1`, `vit-seed2`. A number alone can be a model's size."""
    rest = {_SEED.sub("#", name) for name in names}
    return len(rest) == 1 and "#" in rest.pop()


def are_generated(names: Iterable[str]) -> bool:
    """Whether all names look as those that W&B and MLflow give to runs, which say nothing."""
    return all(_GENERATED.fullmatch(name) for name in names)


def is_summary(key: object) -> bool:
    """Whether a row's key says that it sums up others, as `mean` does."""
    return isinstance(key, str) and re.split(r"[\s±/:,;+(=]+", key.lower().strip())[0].rstrip(".") in SUMMARIES


def says_percent(name: str) -> bool:
    """Whether a metric's name says that it is in percent."""
    return "%" in name or bool({"pct", "percent", "percentage"} & set(plain(name).split("_")))


def without_split(name: str) -> str:
    """A metric's name without the part of the data that it is of: `val/loss` and `train_loss` are both `loss`."""
    return "_".join(word for word in plain(name).split("_") if word not in SPLIT_NAMES)
