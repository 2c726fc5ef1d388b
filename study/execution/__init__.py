"""A running study on Ray.

driver       the command's process: a study planned, started and run to its end
callbacks    callbacks of Tune
worker       the processes on the nodes, which train one trial after another
files        the files of a study: storage, Tune's state, checkpoints
trials       reads Tune's trials
callback     the base class of the callbacks
provenance   commit and versions of a run
"""
