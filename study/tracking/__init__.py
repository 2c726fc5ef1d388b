"""MLflow: what a study writes there, and what is read back.

    tags          names of the tags by which runs are known
    locations     where the files of runs and models are, also of a study that was moved
    client        one tracking server or database: requests to it, and what its errors mean
    records       MLflow -> records of studies, trials and projections
    handles       what a network is called, and which run is meant
    studies       writes of the study's own run, and of how its networks stand in the results
    tracker       writes of the trials of a study, each thing once
    values        settings; numbers as MLflow stores them; tags that anybody may have changed
    outbox        a thread that sends writes in order, and again after an outage
    manifest      the files of a folder with their digests, and what is not as they say
    clone         the git clone that this code is run from
    stored_model  a network as MLflow keeps it; imports torch by way of models
    mlmodel       which network a logged model is, and what MLflow would load and install with it
    claims        a stored certificate beside what is proven of the weights now
    proof         whether a stored model is what was logged, and what is proven of it; likewise
    removal       what MLflow has of a study, and its deletion for good
    pages         what MLflow's own pages say and show of a study

Only these modules import MLflow.
"""
