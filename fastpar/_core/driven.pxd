from fastpar._core.dispatch cimport Crew


cdef class DrivenCrew(Crew):
    cdef object start  # constant
