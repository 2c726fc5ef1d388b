"""What came out of a study, from its records.

How a stored study comes to the page: `tracking.records` -> `read` -> `front.collect` ->
`certainty` -> Results -> `page`, which asks `recommended`, `growth`, `importance` and `table1`, and
the records for what each network left.

    read        the results of the study that a command names
    conditions  which of its networks, by --where
    headings    what stands over the table's columns
    front       every point with its mark, and the front among them
    certainty   how sure the front is, by what its networks classify right
    recommended which networks to take, and why
    numbers     values as text, in the digits in which they are reported
    costs       what a study cost, in hours
    publish     what came out, written into MLflow
    covered     the time in which at least one trial ran
    growth      how the front grew
    importance  how much each hyperparameter accounts for, of a study's completed trials
    table1      Table 1 of the paper
    listing     the studies that MLflow has, a line each
    tables      the results as a table, JSON, CSV and a pandas frame
    figures     figures of a study for a notebook
    page        the results as a page; page_files/ has its parts
    export      the results as a study of Optuna
    registry    points of the front into MLflow's Model Registry

Several studies side by side: Results of each -> `comparable` -> `comparison`, which asks
`differences` and `growth` -> `comparison_tables` and `comparison_page`.

    comparable         whether they can be compared, and why not
    comparison         their joint front, how each grew, settings that differ
    differences        how far they lie apart, and how sure that is
    comparison_text    what a comparison says, in sentences
    comparison_tables  as tables, JSON and CSV
    comparison_page    as a page
"""
