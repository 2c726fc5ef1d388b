"""Callbacks of Tune, which run in the command's process, in the order in driver/tuner.py.

interrupt      Ctrl-C
failures       retries failed trials or gives them up
progress       the live view, in a terminal or a notebook
recorder       writes trials to MLflow
outbox         a thread that sends writes in order, and retries after an outage
own_callbacks  callbacks of the user's own
"""
