"""A running study on Ray.

In the command's process, the driver:

    driver       where studies run, where they are stored, and where messages go
    address      checks that a cluster answers
    preflight    checks that the trials of a study can run
    beginning    plans a new study
    resuming     plans resuming a study
    sizing       what a study asks of its driver and its storage
    starting     connects to Ray or starts it, and checks its nodes
    local_ray    Ray on this host alone, with a token of its own
    running      runs a study to its end
    tuner        builds the Tune tuner of a study
    provenance   commit and versions of a run
    nodes        checks that every node reaches what a trial needs
    storage      the folder or bucket in which Tune keeps a study
    trials       reads Tune's trials
    callback     base class of the Tune callbacks, which are the next six
    interrupt    Ctrl-C
    failures     retries failed trials or gives them up
    progress     the live view, in a terminal or a notebook
    recorder     writes trials to MLflow
    snapshots    backups of Tune's state
    checkpoints  deletes checkpoints that are no longer needed

On the nodes:

    worker       trains one trial after another
    batching     which reports travel to the driver together
"""
