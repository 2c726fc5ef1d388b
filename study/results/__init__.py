"""What came out of a study, from its records.

How a stored study comes to the page: `tracking.records` -> `read` -> `front.collect` -> Results ->
`page`, which asks `growth`, `importance` and `table1`, and the records for what each network left.

    read        the results of the study that a command names
    front       every point with its mark, and the front among them
    growth      how the front grew
    importance  how much each hyperparameter accounts for, of a study's completed trials
    table1      Table 1 of the paper
    tables      the results as a table, JSON, CSV and a pandas frame
    page        the results as a page; page_files/ has its parts
    registry    points of the front into MLflow's Model Registry
"""
