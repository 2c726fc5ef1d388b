"""A running study on Ray.

In the command's process, the driver:

    session      starts or resumes a study, and runs it to its end
    extending    what is asked of a study that goes on
    tuner        puts Tune's parts together
    cluster      the Ray cluster: one that runs already, or one started here
    provenance   where a run comes from: commit, versions
    nodes        whether every node reaches what a trial needs
    storage      the folder or bucket in which Tune keeps a study
    relocation   Tune's state of a study whose folder was moved
    trials       what Tune says of a trial, read in one place
    callback     the base of Tune's callbacks, which are the next six
    interrupt    Ctrl-C
    failures     which failures a trial survives
    progress     the live view; notebook_view, where it is drawn in a notebook
    recorder     brings what happens to MLflow
    snapshots    whole copies of Tune's state
    checkpoints  which checkpoints stay
    messages     messages to the user

On the nodes:

    worker       trains one trial after another
"""
