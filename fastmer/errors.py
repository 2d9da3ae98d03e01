"The exceptions that a user is meant to read: one sentence each, saying what was wrong, where, and what to do"


class FastmerError(Exception):
    "Bad input or an impossible request: the command line prints its sentence and exits with 1"


class LeakageError(FastmerError):
    "What was asked for would let the test part choose or train what it scores"


def did_you_mean(word, known, cutoff=0.6):
    "`' (did you mean x?)'` where `word` looks like a slip for one of `known`, else `''`"
    from difflib import get_close_matches
    near = get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=cutoff)
    return f' (did you mean {near[0]}?)' if near else ''
