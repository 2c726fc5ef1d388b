"""Studies of invertible residual networks. What each part may import stands beside it.

    launch, report, verify, delete, head_services    the commands; no command imports another
    cli          what the commands share                                errors
    errors       errors that a user can cause                           -
    metrics      names, units and directions of what trials report      -
    artifacts    file names in checkpoints and in runs                  metrics
    config/      what is asked of a study                               errors metrics
    pareto/      the mathematics of losses                              config metrics
    trial/       one training; torch, safetensors          models config artifacts errors metrics
    search/      what to train next, and who stops         pareto config metrics
    tracking/    MLflow                                     models config artifacts errors metrics
    execution/   a running study on Ray        tracking search trial pareto config artifacts errors
                                               metrics models
    results/     what came out of a study      tracking search pareto config artifacts errors
                                               metrics
    head/        MLflow and PostgreSQL on the head of a cluster         errors

`models/`, beside this package, is the mathematics of the networks. It imports torch,
safetensors and numpy alone.

The way of the data: a study file -> StudyConfig -> searcher -> Suggestion -> TrialConfig, in a
worker -> training -> EpochReport -> Ray -> the scheduler decides, and the recorder writes it to
MLflow -> records -> results. Nothing flows back. A second way leads through the checkpoints, each
of which holds all reports of its trial: see execution.worker.

Importing this package imports none of it.
"""
