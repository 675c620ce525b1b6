# What a call allocates.

cdef extern from "accounting.hpp" namespace "fastconv" nogil:
    cdef cppclass Accounting:
        bint dry
        cnp.int64_t most
    Accounting* accounting


def allocated(run, arguments, bint dry=True) -> int:
    """The most bytes of scratch memory that run(*arguments) holds at once on this thread's behalf.

    In a dry run nothing is computed, and the arrays among the arguments need no content.
    """
    global accounting
    cdef Accounting account
    account.dry = dry
    accounting = &account
    try:
        run(*arguments)
    except RuntimeError as end:
        if not dry or str(end) != "the dry run ends":
            raise
    finally:
        accounting = NULL
    return account.most
