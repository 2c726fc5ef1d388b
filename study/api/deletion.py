"""Deletion of a study: planned, then carried out."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from study.errors import FailedError, LaunchError, TrackingError, UserError, some
from study.execution.driver.environment import Driver
from study.execution.files import storage
from study.tracking import removal
from study.tracking.removal import Holdings


@dataclass(frozen=True)
class Deletion:
    """A planned deletion of a study: of what MLflow holds of it, and of the folder or bucket with
    its checkpoints and state."""

    driver: Driver
    held: Holdings
    folder: str

    def lines(self) -> list[str]:
        """What is deleted, for the user."""
        held = self.held
        lines = [
            f"{held.name}: {held.n_runs} runs and {len(held.model_ids)} models in MLflow",
            self.folder if storage.exists(self.folder) else f"{self.folder} is not there",
        ]
        if held.versions:
            lines.append(
                "Versions in the model registry whose models are deleted with it: "
                + some(held.versions)
            )
        return lines

    def carry_out(self) -> None:
        """Delete the study. Raises FailedError if a part of it cannot be deleted; a second call
        deletes the rest."""
        try:
            # MLflow last: a second call finds the study there.
            storage.delete(self.folder)
            removal.delete(self.driver.client, self.held)
        except UserError as error:
            raise FailedError(
                f"{error.rule}; the same command goes on with it", error.key
            ) from error


@contextmanager
def planned_deletion(driver: Driver, name: str) -> Iterator[Deletion]:
    """Plan the deletion of a study, which is locked within the context if it can be.

    Raises:
        UserError: if there is no such study, it may be running, or it is not where MLflow says.
    """
    held = removal.holdings(driver.client, name)
    if held is None:
        raise TrackingError(driver.records.absent(name), "study")
    folder = driver.folder(name)
    driver.check_kept_here(name, held.storage)
    is_there = storage.exists(folder)
    can_be_locked = "://" not in folder and (is_there or held.database is not None)
    if held.is_running and not can_be_locked:
        raise LaunchError(
            f"it must not be running, but {held.name} is marked so; interrupt it, or, if its "
            "driver has died, change the tag study.state of its run in MLflow",
            "study",
        )
    with storage.locked(folder) if is_there else nullcontext():
        yield Deletion(driver, held, folder)
