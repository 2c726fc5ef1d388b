"""A thread that sends writes to MLflow in order, and retries after an outage."""

import threading
import time
from collections import deque
from collections.abc import Callable

from study.errors import OutageError

# Seconds between two tries, doubled from the first up to the longest.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 15.0
# Seconds to wait for a request in flight when a study is left at once.
_LEAVE_SECONDS = 5.0


class Outbox:
    """Sends writes one after another while the study goes on.

    A write that MLflow cannot take now is retried until it can. Any other error ends the sending,
    and `check` raises it.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        """`say` gets a line when MLflow stops answering, and one when it answers again."""
        self._say = say
        self._writes: deque[tuple[Callable[[], None], Callable[[], None]]] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._thread.start()

    def put(self, send: Callable[[], None], before_retry: Callable[[], None]) -> None:
        """Queue a write behind the earlier ones.

        Args:
            send: the write; it may run more than once.
            before_retry: runs before each retry, to learn what arrived of the last try.
        """
        with self._changed:
            self._writes.append((send, before_retry))
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error that ended the sending, if any."""
        if self._error is not None:
            raise self._error

    def wait(self, seconds: float) -> int:
        """Wait for all writes, at most this long; returns how many are left. Raises as `check`."""
        with self._changed:
            self._changed.wait_for(lambda: not self._writes or self._error is not None, seconds)
        self.check()
        return len(self._writes)

    def leave(self) -> None:
        """Stop sending, whatever is left, after a short wait for a request in flight."""
        self._left.set()
        with self._changed:
            self._changed.notify_all()
        self._thread.join(_LEAVE_SECONDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._writes or self._left.is_set())
                if self._left.is_set():
                    return
                send, before_retry = self._writes[0]
            try:
                self._send(send, before_retry)
            except BaseException as error:  # check() raises it in the other thread
                self._error = error
            with self._changed:
                if self._error is None:
                    self._writes.popleft()
                self._changed.notify_all()
            if self._error is not None:
                return

    def _send(self, send: Callable[[], None], before_retry: Callable[[], None]) -> None:
        since: float | None = None
        wait = _FIRST_WAIT
        while not self._left.is_set():
            try:
                if since is not None:
                    before_retry()
                send()
            except OutageError as error:
                if since is None:
                    since = time.monotonic()
                    self._say(f"{error}; trials go on, what they report is sent later")
                self._left.wait(wait)
                wait = min(2 * wait, _LONGEST_WAIT)
                continue
            if since is not None:
                away = time.monotonic() - since
                self._say(
                    f"MLflow answers again, after {away:.0f} s; {len(self._writes)} writes are "
                    "sent now"
                )
            return
