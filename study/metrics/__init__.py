"""What a trial gives, in the terms that all other parts share.

definitions   each metric: its name, unit, direction and resolution
reports       what a trial reports, and where it stands
goals         what a study is after: objectives and constraints
artifacts     the files that a trial leaves
"""
