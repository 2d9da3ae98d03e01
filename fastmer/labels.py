"Emotion vocabularies, and how a corpus's own codes become the labels that are trained on"
from collections import Counter

from .errors import FastmerError, did_you_mean

# A label set sends emotions to the labels that a model learns; what it does not name is left out.
LABEL_SETS = {
    '4': dict(angry='angry', happy='happy', excited='happy', sad='sad', neutral='neutral'),
    '5': dict(angry='angry', happy='happy', excited='happy', sad='sad', neutral='neutral', frustrated='frustrated'),
    '6': dict(angry='angry', happy='happy', excited='excited', sad='sad', neutral='neutral', frustrated='frustrated'),
}


def parse_map(text):
    "`'exc=happy,fru=angry'` -> `{'exc': 'happy', 'fru': 'angry'}`"
    pairs = [part.split('=') for part in str(text).split(',') if part.strip()]
    for pair in pairs:
        if len(pair) != 2 or not pair[0].strip() or not pair[1].strip():
            raise FastmerError(f"--map wants code=label pairs such as exc=happy,fru=angry, but got {'='.join(pair)!r}")
    return {code.strip(): label.strip() for code, label in pairs}


def parse_votes(text):
    "`'angry=2;happy=1'` -> `{'angry': 2., 'happy': 1.}`; what is named twice has the sum"
    votes = Counter()
    for part in filter(str.strip, text.split(';')):
        label, _, number = part.rpartition('=')
        try: n = float(number)
        except ValueError: n = -1.
        if not label.strip() or not 0 <= n < float('inf'):
            raise FastmerError(f'votes are label=number pairs such as angry=2;happy=1, not {text[:60]!r}')
        votes[label.strip()] += n
    return dict(votes)


def as_votes(votes, names=None):
    "`{'ang': 2., 'hap': 1.}` -> `'ang=2;hap=1'`, each called as in `names`"
    out = Counter()
    for label, n in votes.items(): out[(names or {}).get(label, label)] += n
    return ';'.join(f'{label}={n:g}' for label, n in out.items())


def wanted(labels):
    "The labels that `labels` (a set's name or a comma-separated list) asks for, sorted; none in particular for `all`"
    if labels == 'all': return []
    if labels in LABEL_SETS: return sorted(set(LABEL_SETS[labels].values()))
    return sorted({name.strip() for name in labels.split(',') if name.strip()})


def label_map(codes, labels='all', mapping=None):
    """Corpus code -> label to train on; a code that the map does not hold is left out.

    `codes`: what the corpus has, code -> emotion (`{'exc': 'excited', ...}`). `labels`: a label set (`4`, `5`, `6`, `all`) or a
    comma-separated list of labels to keep. `mapping`: code or emotion -> label, laid over the set. Raises `FastmerError` for a
    code or label that the corpus does not have: a misspelt class must not vanish in silence.
    """
    codes, mapping, labels = dict(codes), dict(mapping or {}), str(labels)
    keep = None if labels in LABEL_SETS or labels == 'all' else wanted(labels)
    of_set = LABEL_SETS.get(labels)
    out = {code: (emotion if of_set is None else of_set.get(emotion)) for code, emotion in codes.items()}
    for key, label in mapping.items():
        hit = [code for code, emotion in codes.items() if key in (code, emotion)]
        if not hit:
            known = sorted({*codes, *codes.values()})
            raise FastmerError(f'--map names {key!r}, which this corpus does not have{did_you_mean(key, known)}; '
                               f'it has {", ".join(known)}')
        out.update(dict.fromkeys(hit, label))
    out = {code: label for code, label in out.items() if label}
    for label in set(mapping.values()):
        if hint := did_you_mean(label, set(out.values()) - set(mapping.values()), cutoff=0.8):
            raise FastmerError(f'--map gives the label {label!r}, which looks misspelt{hint}')
    if keep is not None:
        for name in keep:
            if name not in out.values():
                known = sorted(set(out.values()))
                raise FastmerError(f'--labels names {name!r}, which this corpus does not have{did_you_mean(name, known)}; '
                                   f'it has {", ".join(known)}, and the sets {", ".join(LABEL_SETS)} and all')
        out = {code: label for code, label in out.items() if label in keep}
    return out
