"""What a trial gives, in terms that all other parts share.

definitions   each metric: its name, unit, direction and resolution
reports       what a trial reports, and its status
goals         objectives and constraints of a study
artifacts     names of the files that a trial leaves
"""
