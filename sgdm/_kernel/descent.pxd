from cython cimport floating
from libc.stdint cimport uint32_t, uint64_t

from .nouns cimport Options, Record, State
from .rows cimport Rows


cdef struct BitGenerator "sgdm_bit_generator":  # numpy/random/bitgen.h: what the capsule of a BitGenerator holds
    void* state
    uint64_t (*next_uint64)(void* state) noexcept nogil
    uint32_t (*next_uint32)(void* state) noexcept nogil
    double (*next_double)(void* state) noexcept nogil
    uint64_t (*next_raw)(void* state) noexcept nogil


cdef enum Outcome:
    COMPLETED   # all epochs asked for are done
    CONVERGED   # the gradient met tol
    STOPPED     # the validation loss has not improved for `patience` epochs
    DIVERGED    # a number overflowed


cdef Outcome descend(Rows rows, Rows held_out, Options options, State state, Record record, Py_ssize_t epochs,
                     BitGenerator* generator, floating[:, :, ::1] work, floating[:, :, ::1] parameters,
                     floating[:, ::1] best, double[:, ::1] average, double[:, ::1] metrics, floating[:, ::1] loss,
                     floating[:, ::1] val_loss, floating[:, :, :, :] paths) noexcept nogil

cdef void losses_at(Rows rows, floating[:, :, ::1] work, const floating* parameters) noexcept nogil
