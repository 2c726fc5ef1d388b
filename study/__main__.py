"""`python -m study`: which commands there are."""

print(
    """\
python -m study.launch    run a study
python -m study.report    its front, its page, several studies beside each other
python -m study.verify    check a network's proof again
python -m study.delete    delete a study for good

Each has --help. For Python: import study; help(study)"""
)
