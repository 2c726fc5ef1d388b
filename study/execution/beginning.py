"""A new study: whether it could run, and its name."""

from dataclasses import replace

import ray

from study.config.file import Asked
from study.config.study import StudyConfig
from study.errors import NameTakenError
from study.execution import storage
from study.execution.driver import Driver
from study.execution.preflight import check_trials, longest_trial
from study.execution.starting import start_ray
from study.trial.rehearsal import Rehearsal, rehearse


def plan_new(driver: Driver, asked: Asked) -> Asked:
    """A study under a name that is free. A name that an argument gave must be free; of the file's
    name the next free one is taken, and that is said.

    Raises:
        UserError: in one line, if the study could not run: a trial's data cannot be read, its
            network does not fit, or the name is taken.
    """
    config = asked.config
    check_trials(config, asked.source)
    free = _free_name(driver, config.name)
    if free == config.name:
        return asked
    if "name" in asked.options:
        raise NameTakenError.of(config.name)
    driver.say(f"the name {config.name} is taken; this study is {free}")
    of_file = driver.records.of_file(asked.source)
    unfinished = next((record for record in of_file if not record.finished), None)
    if unfinished is not None:
        driver.say_unfinished(unfinished.name)
    return replace(asked, config=replace(config, name=free))


def rehearse_new(driver: Driver, study: StudyConfig) -> tuple[Rehearsal, int]:
    """Whether a study could begin now where it is to run and to be kept: Ray is reached or started,
    and left again.

    Returns:
        What one of its trials takes on this machine, and how many run at a time.

    Raises:
        UserError: in one line, the first problem.
    """
    storage.check(driver.folder(study.name))
    n_at_once = start_ray(driver, study)
    ray.shutdown()
    resources = study.resources
    trial = rehearse(longest_trial(study), max(1, int(resources.cpus)), resources.gpus > 0)
    return trial, min(n_at_once, study.n_trainings)


def _free_name(driver: Driver, name: str) -> str:
    """The name, or the first of name-2, name-3, ... that no study has."""
    free, number = name, 2
    while driver.records.is_taken(free) or storage.exists(driver.folder(free)):
        free, number = f"{name}-{number}", number + 1
    return free
