"""MLflow: what a study writes there, and what is read back.

    tags            names of tags
    server/         one tracking server or database: requests to it, and the files that it names
    study_record    a study and its networks, as MLflow knows them
    records         MLflow -> records of studies, trials and projections
    handles         names of networks, and the runs that they mean
    studies         writes the study's own run, and the marks of its networks
    tracker         writes the trials of a study, each value once
    projection_run  the run of a projection, member or control, below its training's
    values          settings, numbers and tags, as written to MLflow and as read back
    clone           the git clone that this code runs from
    stored_model    a network as MLflow stores it, logged and fetched; imports torch through models
    removal         what MLflow has of a study, and its permanent deletion
    pages           texts, columns and addresses of MLflow's own pages

Only these modules import MLflow.
"""
