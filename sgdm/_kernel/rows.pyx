"""A problem's rows, opened for reading, and the threads that share them."""

import os

cimport cython
from cython cimport floating
from libc.stdlib cimport calloc, free


cdef int _count
cdef const Level* _levels = sgdm_levels(&_count)
LEVELS = tuple([_levels[i].name.decode() for i in range(_count)])   # of this CPU, the lowest first


cdef int _choose_level() except -1:
    """The highest level of this CPU, or a lower one that the environment variable SGDM_ISA names."""
    name = os.environ.get("SGDM_ISA") or LEVELS[len(LEVELS) - 1]
    if name not in LEVELS:
        raise ImportError(f"SGDM_ISA must be one of {', '.join(LEVELS)} on this machine, got {name!r}")
    return LEVELS.index(name)


cdef const Level* _level = &_levels[_choose_level()]
ISA = _level.name.decode()


cdef const Level* arithmetic() noexcept nogil:
    """What the level in use offers."""
    return _level


@cython.final
cdef class Team:
    """The threads that share the rows of one `advance`: the one that calls it, and `helpers` that are in `help`."""

    def __init__(self, int helpers):
        self.team.members = helpers + 1

    def open(self):
        """Lets helpers in again, once those from before have left."""
        SGDM_SET(&self.team.closed, 0)

    def close(self):
        """Sends the helpers home."""
        SGDM_SET(&self.team.closed, 1)

    def help(self, int member):
        """Takes part, as member 1 to `helpers`, until the team is closed."""
        if not 0 < member < self.team.members:
            raise ValueError(f"member must be from 1 to {self.team.members - 1}, got {member}")
        with nogil:
            sgdm_help(&self.team, member)


@cython.final
@cython.internal
cdef class Buffer:
    """Zeros (a, b, c), floats or doubles, which begin at a cache line: misaligned ones cost an epoch over 100 x 2 a
    tenth of its time. They are read and written by typed memoryviews."""

    cdef void* memory
    cdef Py_ssize_t shape[3]
    cdef Py_ssize_t strides[3]

    cdef void allocate(self, Py_ssize_t a, Py_ssize_t b, Py_ssize_t c, Py_ssize_t itemsize) except *:
        self.shape[:] = [a, b, c]
        self.strides[:] = [b * c * itemsize, c * itemsize, itemsize]
        self.memory = calloc(a * b * c * itemsize + SGDM_LANE_BYTES, 1)
        if self.memory == NULL:
            raise MemoryError("no memory for the working arrays of the fit")

    def __getbuffer__(self, Py_buffer* view, int flags):
        view.buf = <char*> self.memory + (SGDM_LANE_BYTES - <Py_ssize_t> self.memory % SGDM_LANE_BYTES)
        view.obj, view.readonly, view.format = self, False, b"f" if self.strides[2] == sizeof(float) else b"d"
        view.itemsize, view.len = self.strides[2], self.shape[0] * self.strides[0]
        view.ndim, view.shape, view.strides = 3, self.shape, self.strides
        view.suboffsets, view.internal = NULL, NULL

    def __dealloc__(self):
        free(self.memory)


@cython.final
cdef class Rows:
    """The rows of a problem, opened for reading, with what a descent over them works in.

    batch_size: how many rows an update takes, 0 for all. team: the threads that share them; the bits don't depend on
    it. columns: (COLUMN_TERMS, features), where columns differ in their penalties or the descent standardizes them: the
    mean, 1 / deviation, weight decay and l1 of each. MemoryError if there is no room; ValueError if lines, targets and
    weights lack the shapes that n, d and k say.
    """

    def __init__(self, Problem problem, Py_ssize_t batch_size=0, Team team=None, columns=None):
        cdef CTeam* c_team = &team.team if team is not None else NULL
        if self.handle != NULL:
            raise ValueError("these rows are open already")
        self.problem, self.team, self.float32_lines = problem, team, problem.lines.itemsize == 4
        self.total_weight = problem.total_weight
        self.shape = shape_of(problem, batch_size)
        self.at_loss = self.shape.padded + 1
        self.for_float, self.for_double = _level.for_float, _level.for_double
        open_rows = self.for_float.open if self.float32_lines else self.for_double.open
        self.handle = open_rows(&self.shape, c_team)
        if self.handle == NULL:
            raise MemoryError("no memory for the working arrays of the fit")
        self.order = self.columns = None
        if columns is not None:
            set_columns(self, columns)
        cdef Buffer work = Buffer.__new__(Buffer), sums = Buffer.__new__(Buffer)
        work.allocate(SLABS, problem.k, self.shape.width, problem.lines.itemsize)
        sums.allocate(SUMS, problem.k, self.shape.width, sizeof(double))
        self.work, self.sums = work, sums
        if self.float32_lines:
            _take[float](self, problem.lines, problem.targets, problem.weights)
        else:
            _take[double](self, problem.lines, problem.targets, problem.weights)

    def __dealloc__(self):
        if self.handle != NULL:
            self.handle.close(self.handle)


cdef Shape shape_of(Problem problem, Py_ssize_t batch_size) except *:
    """The sizes of a problem, and how its rows are read by updates of so many of them, or of all."""
    return sgdm_shape_of(problem.n, problem.d, problem.k, problem.row_step, problem.lines.itemsize,
                         problem.by_columns, problem.triangular, batch_size)


def parts(Problem problem, Py_ssize_t batch_size=0):
    """Into how many parts the rows of an update fall, at most: more threads are of no use."""
    cdef Shape shape = shape_of(problem, batch_size)
    return (shape.batch + shape.part_rows - 1) // shape.part_rows


cdef int _take(Rows rows, const floating[:, :] lines, const floating[:, ::1] targets,
               const floating[::1] weights) except -1:
    cdef Problem problem = rows.problem
    cdef Py_ssize_t n = problem.n, d = problem.d
    if (lines.shape[0] != (d if problem.by_columns else n) or lines.shape[1] != (n if problem.by_columns else d)
            or targets.shape[0] != problem.k or targets.shape[1] != n
            or (weights is not None and weights.shape[0] != n)):
        raise ValueError(f"the problem must have {n} rows, {d} columns, {problem.k} targets and as many weights as "
                         f"rows, got lines of shape {problem.lines.shape}, targets of {problem.targets.shape} and "
                         f"weights of {getattr(problem.weights, 'shape', None)}")
    if lines.shape[1] > 1 and lines.strides[1] != sizeof(floating) or lines.shape[0] > 1 and (
            lines.strides[0] != (n if problem.by_columns else problem.row_step) * <Py_ssize_t> sizeof(floating)):
        raise ValueError("lines must be contiguous, and rows a whole number of elements apart, got strides of "
                         f"{problem.lines.strides} bytes")
    with nogil:
        take(rows, &lines[0, 0], &targets[0, 0], &weights[0] if weights is not None else NULL)
    return 0
