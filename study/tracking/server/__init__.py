"""One tracking server or database, and the files that it names.

locations    where the files of runs and models are, also of a study that was moved
database     creates a SQLite database, once and completely
client       requests to a server or database, and what its errors mean
files        the only place where files of runs and models are read and written; digests
"""
