"""Which trials of a running study have ended, found out without looking at each again."""

from ray.tune.experiment import Trial


class Ended:
    """Remembers what had ended: Tune shows all trials at each of its steps, of which a large study
    makes a hundred thousand, and nearly all of them are over.

    Attributes:
        running: those that had not ended at the last look.
    """

    def __init__(self) -> None:
        self.running: list[Trial] = []
        self._n_seen = 0
        self._ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, trial: Trial) -> bool:
        return trial.trial_id in self._ids

    def look(self, trials: list[Trial]) -> list[Trial]:
        """Take note of the trials of now; those that have ended since the last look.

        Args:
            trials: all that there are; Tune only ever adds to them.
        """
        self.running += trials[self._n_seen :]
        self._n_seen = len(trials)
        news = [trial for trial in self.running if trial.is_finished()]
        if news:
            self._ids.update(trial.trial_id for trial in news)
            self.running = [trial for trial in self.running if not trial.is_finished()]
        return news
