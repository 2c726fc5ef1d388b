"""A running study on Ray.

In the command's process, the driver:

    driver       where studies run and are kept, and who is told
    address      whether a cluster answers
    preflight    whether the trials of a study could run
    beginning    a new study: the plan
    resuming     a study that goes on: the plan
    starting     Ray, reached or started, with all that a trial needs
    running      the deed: a study is run to its end
    tuner        puts Tune's parts together
    provenance   where a run comes from: commit, versions
    nodes        whether every node reaches what a trial needs
    storage      the folder or bucket in which Tune keeps a study
    trials       what Tune says of a trial, read in one place
    callback     the base of Tune's callbacks, which are the next six
    interrupt    Ctrl-C
    failures     which failures a trial survives
    progress     the live view; notebook_view, where it is drawn in a notebook
    recorder     brings what happens to MLflow
    snapshots    whole copies of Tune's state
    checkpoints  which checkpoints stay

On the nodes:

    worker       trains one trial after another
"""
