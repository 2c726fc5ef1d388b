"""The files of a study on Ray: its folder or bucket, Tune's state and the checkpoints of trials.

storage      the folder or bucket in which Tune keeps a study
snapshots    backups of Tune's state
checkpoints  deletes checkpoints that are no longer needed
"""
