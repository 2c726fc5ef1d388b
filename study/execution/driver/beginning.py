"""Plan a new study: check that it can run, and choose its name."""

from dataclasses import replace

from study.config.file import Asked
from study.errors import NameTakenError, count_of
from study.execution.driver.environment import Driver
from study.execution.driver.preflight import check_trials
from study.execution.files import storage


def plan_new(driver: Driver, asked: Asked) -> Asked:
    """Check that a new study can run, and give it a free name: a number is added to the file's name
    if it is taken, and the user is told.

    Raises:
        UserError: if a trial's data cannot be read, its network does not fit the images or cannot
            have the ladder that is asked for, or a name given as an argument is taken.
    """
    config = asked.config
    check_trials(config, asked.source)
    free = _free_name(driver, config.name)
    if free == config.name:
        return asked
    if "name" in asked.options:
        raise NameTakenError.of(config.name)
    taken = driver.records.find_study(config.name)
    if taken is not None and taken.source == asked.source and taken.finished:
        n_completed = count_of(driver.records.n_completed(taken), "completed trial")
        driver.say(
            f"{taken.name} is there already, with {n_completed}; this study trains again, as {free}"
        )
        driver.say(f"to show {taken.name} instead: {driver.how_to_show(taken.name)}")
        driver.say(
            f"to extend it instead, with more trials or hours: {driver.how_to_resume(taken.name)}"
        )
    else:
        driver.say(f"the name {config.name} is taken; this study is {free}")
    of_file = driver.records.of_file(asked.source)
    unfinished = next((record for record in of_file if not record.finished), None)
    if unfinished is not None:
        driver.say_unfinished(unfinished.name)
    return replace(asked, config=replace(config, name=free))


def _free_name(driver: Driver, name: str) -> str:
    """The first of name, name-2, name-3, ... that no study has."""
    free, number = name, 2
    while driver.records.is_taken(free) or storage.exists(driver.folder(free)):
        free, number = f"{name}-{number}", number + 1
    return free
