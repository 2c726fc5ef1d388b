"""Plan a new study: check that it can run, and choose its name."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

from study.config.file import Asked, to_yaml
from study.config.study import StudyConfig
from study.config.trial import DataConfig
from study.errors import NameTakenError, count_of
from study.execution.driver.place import Driver
from study.execution.driver.preflight import check_ladder, check_trials, longest_trial
from study.execution.driver.sizing import Size, size
from study.execution.driver.starting import connected
from study.execution.files import storage
from study.trial.rehearsal import Rehearsal, measured


def plan_new(driver: Driver, asked: Asked) -> Asked:
    """Check that a new study can run, and give it a free name: a number is added to the file's name
    if it is taken, and the user is told.

    Raises:
        UserError: if a trial's data cannot be read, its network does not fit the images or cannot
            have the ladder that is asked for, or a name given as an argument is taken.
    """
    config = asked.config
    check_trials(config, asked.source)
    check_ladder(config, asked.source)
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


@dataclass(frozen=True)
class Rehearsed:
    """The result of a dry run: the study, a measured trial, and how many trials run in parallel."""

    config: StudyConfig
    trial: Rehearsal
    n_at_once: int

    @property
    def seconds(self) -> float:
        """Estimated wall-clock time of the study."""
        return math.ceil(self.config.n_trainings / self.n_at_once) * self.trial.seconds

    @property
    def size(self) -> Size:
        """What the study asks of its driver and of its storage."""
        return size(self.config, self.trial, self.n_at_once)

    def as_file(self, every: bool) -> str:
        """The study as YAML; `every` includes settings that equal the defaults."""
        config, default = self.config, DataConfig().root
        if config.data.root == str(Path(default).resolve()):
            config = replace(config, data=replace(config.data, root=default))
        return to_yaml(config, is_short=not every)


def rehearse(driver: Driver, asked: Asked) -> Rehearsed:
    """Check a new study, its storage and Ray, and time a trial, without running the study.
    Raises UserError if the study could not begin."""
    study = plan_new(driver, asked).config
    storage.check(driver.folder(study.name))
    with connected(driver, study) as n_at_once:
        pass  # it was reached or started, and is left again
    n_threads, on_gpu = max(1, int(study.resources.cpus)), study.resources.gpus > 0
    trial = measured(longest_trial(study), n_threads, on_gpu)
    return Rehearsed(study, trial, min(n_at_once, study.n_trainings))


def _free_name(driver: Driver, name: str) -> str:
    """The first of name, name-2, name-3, ... that no study has."""
    free, number = name, 2
    while driver.records.is_taken(free) or storage.exists(driver.folder(free)):
        free, number = f"{name}-{number}", number + 1
    return free
