"""Threads that work beside the caller's, none of which is at work any more when it goes on, whatever is raised there.

Only the main thread gets signals, and what their handlers raise comes between any two instructions: inside
`concurrent.futures` and `threading` too, where it leaves locks behind that other threads wait for. So threads are
started by `_thread` here, and the main thread takes no lock that another needs.
"""

from __future__ import annotations

import _thread
from collections import deque


class _Crew:
    """Threads at work. `stop()` makes their functions return soon; it may be called more than once."""

    def __init__(self, stop):
        self.stop = stop
        self.seats, self.errors = [], []

    def start(self, function, *arguments):
        """Calls a function in a thread of its own."""
        seat = _thread.RLock()  # held while it is at work, or once it is waited for
        self.seats.append(seat)
        _thread.start_new_thread(self._run, (seat, function, arguments))

    def _run(self, seat, function, arguments):
        if not seat.acquire(blocking=False):  # it starts after all was over
            return
        try:
            function(*arguments)
        except BaseException as error:
            self.errors.append(error)
            self.stop()
        finally:
            seat.release()

    def wait(self):
        """Returns when no function is running and none will start."""
        for seat in self.seats:
            seat.acquire()  # and keeps it: as an RLock counts, a wait that was interrupted can begin again


def with_threads(lead, stop):
    """The result of `lead(start)`, where `start(function, *arguments)` calls a function in a thread of its own.

    It returns, or raises, when all these functions have returned. What `lead` raises goes before what one of them
    raises; at either, `stop()` is called, which must make them return soon.
    """
    crew = _Crew(stop)
    try:
        result = lead(crew.start)
        crew.wait()
        if crew.errors:
            raise crew.errors[0]
        return result
    except BaseException:
        while True:  # however often it is interrupted: what is handed out must not change any more
            try:
                stop()
                crew.wait()
                break
            except BaseException:
                continue
        raise


class _Task:
    """One call of a function in another thread, and its result."""

    def __init__(self, function, argument):
        self.function, self.argument = function, argument
        self.result = self.error = None
        self.done = _thread.allocate_lock()
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
    """Calls `take(argument, function(argument))` for each, in order; by so many threads at once, if more than one.

    Arguments are drawn, and results taken, by this thread. Up to n_threads + 1 of them are under way.
    """
    if n_threads == 1:
        for argument in arguments:
            take(argument, function(argument))
        return
    from queue import SimpleQueue  # here, as most calls need none; it is C, and no thread waits for this one in it

    tasks, helpers, over = SimpleQueue(), 0, False

    def help_out():
        while (task := tasks.get()) is not None and not over:
            task.run()

    def stop():
        nonlocal over
        over = True
        for _ in range(helpers):
            tasks.put(None)

    def lead(start):
        nonlocal helpers
        under_way = deque()

        def take_first():
            task = under_way.popleft()
            take(task.argument, task.wait())

        for argument in arguments:
            task = _Task(function, argument)
            under_way.append(task)
            if helpers < min(n_threads, len(under_way)):
                helpers += 1
                start(help_out)
            tasks.put(task)
            if len(under_way) > n_threads:
                take_first()
        while under_way:
            take_first()
        for _ in range(helpers):
            tasks.put(None)

    with_threads(lead, stop)
