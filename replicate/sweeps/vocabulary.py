"""Names of columns: the fields of a run and the measures of a model, as the various tools name them."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TESTED_ON = frozenset(_words("cv dev eval evaluation heldout holdout test val valid validation"))
TRAINED_ON = frozenset(_words("tr train training"))
"""Words of a measure on the data that the model was trained on."""
QUALIFIERS = TESTED_ON | frozenset(
    _words(
        "average avg best ema end final last macro max mean median metric metrics micro min overall result results "
        "summary top total weighted"
    )
)
"""Words in the name of a measure that do not change whether it is an accuracy, a loss or a score."""
PREFIXES = frozenset(
    _words(
        "_content args attrs cfg conf config hp hparam hparams hyperparameters hyperparams metrics param parameter "
        "parameters params settings summary user"
    )
)
SET = frozenset(_words("config cfg conf params param parameters hparams hparam hyperparameters args settings"))
"""First words of names that are settings rather than measures: `config.loss` is the name of the loss function."""
OPTIMIZER_WORDS = frozenset(_words("adam adamw lion model opt optim optimiser optimizer sgd solver trainer"))
SPREADS = frozenset(_words("ci ci95 sd se sem std std_dev std_err std_error stddev stderr stdev stdv"))
STANDARD_ERRORS = frozenset(_words("se sem std_err std_error stderr"))

ALIASES: dict[str, tuple[tuple[str, ...], ...]] = {
    "lr": (
        _words(
            "lr learning_rate learningrate base_lr peak_lr max_lr init_lr initial_lr start_lr eta learning_rate_init "
            "initial_learning_rate base_learning_rate peak_learning_rate max_learning_rate lrate l_rate lr0 eta0 "
            "lr_init lr_max lr_peak lr_base learn_rate learning_rates lrs"
        ),
        _words("step_size stepsize blr train_lr train_learning_rate muon_lr matrix_lr"),
    ),
    "wd": (
        _words(
            "wd weight_decay weightdecay lambda wdecay w_decay weight_decay_rate lambda_wd wd_lambda "
            "weight_decay_coefficient weight_decay_coef weight_decays wds weight_dec decoupled_weight_decay"
        ),
        _words(
            "l2 l2_reg l2reg l2_regularization l2_regularisation l2_penalty l2_weight l2_lambda l2_coef lmbda lambd "
            "lam reg_lambda lambda_reg l2_norm_penalty kernel_regularizer"
        ),
        _words("reg regularization regularisation reg_strength decay train_weight_decay train_wd"),
        _words("alpha penalty"),
    ),
    "seed": (
        _words(
            "seed random_seed rng_seed random_state manual_seed global_seed run_seed torch_seed train_seed "
            "training_seed rand_seed trial_seed seed_id"
        ),
        _words("repeat repetition rep replicate replica repeat_id fold cv_fold"),
    ),
    "arch": (_words("arch architecture model model_name backbone network net model_type model_arch"),),
    "dataset": (_words("dataset data_set dataset_name data task task_name benchmark"),),
    "step": (
        _words("step global_step train_step iteration iter training_iteration it update num_steps_done"),
        _words("epoch current_epoch tokens_seen"),
    ),
    "run": (
        _words("run_id trial_id run_uuid run run_name runname trial_name trial experiment_tag uid file"),
        _words(
            "name id experiment experiment_name exp exp_name job job_id path folder version model_path logdir log_dir "
            "tag tags config cfg setting settings display_name"
        ),
    ),
    "state": (_words("state status trial_status run_status run_state job_status outcome"),),
    "n": (
        _words(
            "n n_runs num_runs runs count n_seeds num_seeds n_trials num_trials n_obs nobs n_repeats num_repeats "
            "repeats n_replicates replicates n_samples number_of_runs seeds"
        ),
    ),
    "observed": (_words("is_observed observed was_run is_run has_run"),),
    "lost": (_words("diverged is_diverged has_diverged did_diverge divergence nan_loss is_nan"),),
    "direction": (_words("direction directions mode metric_direction goal"),),
}
"""Field → groups of its names, most certain first: a group counts only if no column has a name of an earlier group."""
OPTIMIZER = _words("optimizer optimiser optim opt optimizer_name optimizer_type")
"""Names of the column of optimisers, which must have a single value."""

ACCURACY, LOSS, SCORE, UNKNOWN = "accuracy", "loss", "score", "unknown"
MEASURES: dict[tuple[str, int], tuple[str, ...]] = {
    (ACCURACY, 0): _words(
        "accuracy acc top1 top_1 acc1 acc_1 accuracy1 accuracy_pp prec1 accuracies top1_acc top1_accuracy acc_top1 "
        "accuracy_top1 top_1_accuracy top_1_acc prec_1"
    ),
    (ACCURACY, 1): _words(
        "f1 f1_score auc auroc roc_auc auprc ap map map50 average_precision precision recall iou miou m_iou mean_iou "
        "dice dice_score ndcg success_rate win_rate exact_match em balanced_accuracy balanced_acc bacc top5 top_5 "
        "acc5 top5_acc pass_1 pass1 bleu rouge rouge_l micro_f1 macro_f1 mean_per_class_accuracy"
    ),
    (SCORE, 2): _words(
        "r2 r2_score r_squared mcc matthews_correlation kappa spearman spearmanr pearson pearsonr reward return "
        "episode_reward episode_return episode_reward_mean psnr ssim elbo log_likelihood loglik ll explained_variance "
        "concordance c_index lddt tm_score correlation corr"
    ),
    (LOSS, 3): _words("loss losses objective_loss"),
    (LOSS, 4): _words(
        "nll nll_loss ce cross_entropy crossentropy ce_loss xent bpb bpc bpd bits_per_byte ppl perplexity log_ppl mse "
        "rmse mae mape msle mse_loss error err error_rate err_rate err1 top1_error top1_err error_top1 wer cer per "
        "fid logloss log_loss brier brier_score bits_per_dim bits_per_char bits_per_token mean_squared_error "
        "root_mean_squared_error mean_absolute_error absolute_error squared_error misclassification risk regret "
        "rel_l2 relative_error rmsd lpips eer cross_entropy_loss top_1_error classification_error "
        "negative_log_likelihood kl val_error_rate ler"
    ),
    (SCORE, 5): _words("score scores"),
    (UNKNOWN, 6): _words(
        "value values objective metric hp_metric target objective_value values_0 final_objective test val validation "
        "eval dev"
    ),
}
"""(kind, tier) → names of measures; of several columns with a score, that with the lowest tier is judged."""
HIGHER = (ACCURACY, SCORE)
"""Kinds of measures for which higher is better."""
BASES = {base: key for key, bases in MEASURES.items() for base in bases}

SETTINGS = frozenset(
    _words(
        "aug augmentation batch batch_size batchsize beta1 beta2 betas bs clip d_model depth dropout dtype epoch "
        "epochs eps global_step grad_clip hidden hidden_dim hidden_size img_size iteration iterations label_smoothing "
        "layers lr_schedule lr_scheduler max_epochs max_iters max_steps model_size momentum n_epochs n_layers "
        "n_params n_steps num_epochs num_layers num_steps optimizer params patch_size precision schedule scheduler "
        "seq_len size step steps tokens total_steps train_batch_size train_steps training_iteration warmup "
        "warmup_steps width"
    )
)
"""Names of a run's settings; other columns are settings if their values recur."""
OUTCOMES = frozenset(
    _words(
        "artifact checkpoint comment comments commit created date datetime device dir duration elapsed end file "
        "finished flops folder fps git gpu heartbeat heartbeatat host hostname hours id ids idx index ip log logdir "
        "logs memory minutes node note notes number path pid rank runtime seconds speed start started stopped sweep "
        "throughput time timestamp unnamed updated uri url user uuid walltime warnings worker"
    )
)
"""Words in names of columns about how or where a run was done, rather than its settings."""
