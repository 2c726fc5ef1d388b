"""Classifiers, one file for each kind."""
