"""What to train next, and who stops.

    suggestion     what travels from the searcher to a worker
    searcher       a sampler of Optuna behind Tune's interface for searchers
    generator      how Tune asks it for trials
    observation    what a sampler observes of a sample
    distributions  the space as Optuna knows it
    scheduler      who stops early, behind Tune's interface for schedulers
    halving        the rule that a halving scheduler stops by
    stopping       when the study has searched enough
    optuna_study   networks as a study of Optuna in a storage, for other tools
    importance     the share of the variance that each hyperparameter accounts for

Only these modules import Optuna.
"""
