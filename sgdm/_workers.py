"""Threads beside the caller's. When a function here returns or raises, no thread that it started is at work any more.

Python runs signal handlers in the main thread only, between any two of its instructions, and a handler may raise: an
exception inside the Python code of `concurrent.futures` or `threading` leaves locks held that other threads wait for.
So threads are started with `_thread`, and the main thread takes no lock that another thread needs.
"""

import _thread
from collections import deque


class _Threads:
    """Running threads. `stop()` makes their functions return soon; it may be called more than once."""

    def __init__(self, stop):
        self.stop, self.locks, self.errors = stop, [], []

    def start(self, function, *arguments):
        """Call a function in a new thread."""
        lock = _thread.RLock()  # held by the thread while it runs, and by `wait` afterwards
        self.locks.append(lock)
        _thread.start_new_thread(self._run, (lock, function, arguments))

    def _run(self, lock, function, arguments):
        if not lock.acquire(blocking=False):  # `wait` was faster: don't run at all
            return
        try:
            function(*arguments)
        except BaseException as error:
            self.errors.append(error)
            self.stop()
        finally:
            lock.release()

    def wait(self):
        """Return when no function is running and none will start."""
        for lock in self.locks:
            lock.acquire()  # never released; an RLock can be acquired again if an exception interrupts this loop


def with_threads(lead, stop):
    """The result of `lead(start)`, where `start(function, *arguments)` calls a function in a new thread.

    Returns or raises after all these functions have returned. An exception of `lead` takes precedence over theirs.
    After an exception `stop()` is called, which must make the functions return soon.
    """
    threads = _Threads(stop)
    try:
        result = lead(threads.start)
        threads.wait()
        if threads.errors:
            raise threads.errors[0]
        return result
    except BaseException:
        while True:  # again after each interrupt: no thread may change a result that the caller already has
            try:
                stop()
                threads.wait()
                break
            except BaseException:
                continue
        raise


class _Task:
    """One call of a function in another thread, and its result or error."""

    def __init__(self, function, argument):
        self.function, self.argument = function, argument
        self.result = self.error = None
        self.done = _thread.allocate_lock()  # held until the call has ended
        self.done.acquire()

    def run(self):
        try:
            self.result = self.function(self.argument)
        except BaseException as error:
            self.error = error
        finally:
            self.done.release()

    def wait(self):
        self.done.acquire()
        if self.error is not None:
            raise self.error
        return self.result


def map_in_order(function, arguments, take, n_threads):
    """Call `take(argument, function(argument))` for each argument, in order.

    `function` runs in n_threads threads if n_threads > 1; `take` and the iterator of arguments always run in this one.
    At most n_threads + 1 arguments are drawn and not yet taken.
    """
    if n_threads == 1:
        for argument in arguments:
            take(argument, function(argument))
        return
    from queue import SimpleQueue  # here, as few calls need it; written in C: no thread waits for this one inside it

    tasks, n_helpers, stopped = SimpleQueue(), 0, False

    def run_tasks():
        while (task := tasks.get()) is not None and not stopped:
            task.run()

    def stop():
        nonlocal stopped
        stopped = True
        for _ in range(n_helpers):
            tasks.put(None)

    def lead(start):
        nonlocal n_helpers
        pending = deque()

        def take_first():
            task = pending.popleft()
            take(task.argument, task.wait())

        for argument in arguments:
            task = _Task(function, argument)
            pending.append(task)
            if n_helpers < min(n_threads, len(pending)):
                n_helpers += 1
                start(run_tasks)
            tasks.put(task)
            if len(pending) > n_threads:
                take_first()
        while pending:
            take_first()
        for _ in range(n_helpers):
            tasks.put(None)

    with_threads(lead, stop)
