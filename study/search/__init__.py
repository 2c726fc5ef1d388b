"""What to train next, and which trials stop.

    suggestion     what travels from the searcher to a worker
    searcher       an Optuna sampler behind Tune's interface for searchers
    observation    what a sampler observes of a sample
    distributions  the space in Optuna's form, and samples that cover it evenly
    scheduler      which trials stop early, behind Tune's interface for schedulers
    halving        the rule of a halving scheduler
    stopping       when the study ends
    optuna_study   networks as an Optuna study in a storage, for other tools

Only these modules import Optuna.
"""
