"""The command's process: a study planned, started on Ray, and run to its end.

environment  MLflow, the storage, a Ray cluster and the user's terminal
preflight    checks that the trials of a study can run
planning     plans a new study, or how one is resumed
starting     connects to Ray or starts it, and checks its nodes
local_ray    Ray on this host alone, with a token of its own
nodes        checks that every node reaches what a trial needs
tuner        builds the Tune tuner of a study
running      runs a study to its end
dry_run      estimates what a new study would take
own_loop     a study whose networks are trained by the user's own loop
"""
