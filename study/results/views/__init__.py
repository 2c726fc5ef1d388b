"""What is shown of results: a list of sections, each of which computes itself and says when it
applies.

sections         sections, their printing, and writing of JSON and CSV
report_view      the sections of a report
report_table     the section of a report that is printed
comparison_view  the sections of a comparison
listing          all studies in MLflow, one line each
page             sections as a page; page_files/ has its parts
figure           a report as a figure in a notebook
published        a report in MLflow's tags, and as a study of Optuna
serving          the page of a study on a server of its own
"""
