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
        self._seen: set[str] = set()
        self._ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, trial: Trial) -> bool:
        return trial.trial_id in self._ids

    def look(self, trials: list[Trial]) -> list[Trial]:
        """Take note of the trials of now; those that have ended since the last look.

        Args:
            trials: all that there are. Tune adds to their end, and moves there what it tries again.
        """
        new = []
        for trial in reversed(trials):
            if len(self._seen) == len(trials):
                break
            if trial.trial_id not in self._seen:
                self._seen.add(trial.trial_id)
                new.append(trial)
        self.running += reversed(new)
        news = [trial for trial in self.running if trial.is_finished()]
        if news:
            self._ids.update(trial.trial_id for trial in news)
            self.running = [trial for trial in self.running if not trial.is_finished()]
        return news
