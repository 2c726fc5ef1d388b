"""What to train next, and who stops.

    suggestion     what travels from the searcher to a worker
    searcher       a sampler of Optuna behind Tune's interface for searchers
    generator      asks the searcher for trials
    observation    what a sampler observes of a sample
    distributions  the space as Optuna knows it
    scheduler      which trials stop early, behind Tune's interface for schedulers
    halving        the rule of a halving scheduler
    stopping       when the study ends
    optuna_study   networks as a study of Optuna in a storage, for other tools
    importance     the share of the variance that each hyperparameter accounts for

Only these modules import Optuna.
"""
