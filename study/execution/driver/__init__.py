"""The command's process: a study planned, started on Ray, and run to its end.

place        where studies run and are stored, and where messages to the user go
address      checks that a cluster answers
preflight    checks that the trials of a study can run
beginning    plans a new study
resuming     plans resuming a study
sizing       what a study asks of its driver and its storage
starting     connects to Ray or starts it, and checks its nodes
local_ray    Ray on this host alone, with a token of its own
nodes        checks that every node reaches what a trial needs
tuner        builds the Tune tuner of a study
running      runs a study to its end
own_loop     a study whose networks its user trains
"""
