"""Corpora, by name: a reader is one small file with `read(root, **options)` and one line in `CORPORA`

A reader returns a `Corpus`: the manifest with the corpus's own codes in `label` and `votes`, what those codes mean, and what it has to say
about what it found. `read_corpus` then turns codes into labels, the same way for every corpus.
"""
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd

from ..errors import FastmerError, did_you_mean
from ..labels import LABEL_SETS, as_votes, label_map, parse_map, parse_votes, wanted
from ..manifest import as_manifest, check_manifest

CORPORA = {  # name: (module, the label set used when none is asked for)
    'iemocap': ('iemocap', '4'),
    'emodb': ('emodb', 'all'),
    'crema-d': ('crema_d', 'all'),
    'emovo': ('emovo', 'all'),
    'ravdess': ('ravdess', 'all'),
    'savee': ('savee', 'all'),
    'tess': ('tess', 'all'),
    'meld': ('meld', 'all'),
    'shemo': ('shemo', 'all'),
    'esd': ('esd', 'all'),
    'msp-podcast': ('msp_podcast', 'all'),
    'jl-corpus': ('jl_corpus', 'all'),
    'table': ('table', 'all'),
    'folders': ('folders', 'all'),
}


@dataclass
class Corpus:
    "What a reader found: `manifest` with codes as labels, `codes` code -> emotion, `skipped` rows `id, audio, reason`, and `notes`"
    manifest: pd.DataFrame
    codes: dict
    skipped: list = field(default_factory=list)
    notes: list = field(default_factory=list)  # sentences on what is missing against what the corpus is known to hold
    root: Path | None = None        # what the paths in `audio` are relative to; where None, the folder that was read
    label_map: dict = field(default_factory=dict)


def read_corpus(name, root, labels=None, mapping=None, **options):
    """The corpus `name` under `root` as a `Corpus` whose manifest carries the labels to train on.

    `labels`: a label set (`4`, `5`, `6`, `all`) or a comma-separated list; the corpus's own default when `None`. `mapping`: code ->
    label, as a dict or as `'exc=happy,fru=angry'`. Utterances whose label is left out stand in `skipped` with the reason.
    Raises `FastmerError` for an unknown corpus, a root that is not there or holds no such corpus, and labels it does not have.
    """
    if name not in CORPORA:
        raise FastmerError(f'there is no corpus reader {name!r}{did_you_mean(name, CORPORA)}; there are {", ".join(CORPORA)}')
    module, default = CORPORA[name]
    root = Path(root).expanduser()
    if not root.exists(): raise FastmerError(f'{root} is not there: give the folder or file that holds the {name} corpus')
    corpus = import_module(f'.{module}', __name__).read(root, **options)
    corpus.root = Path(corpus.root or root).resolve()
    labels = default if labels is None else str(labels)
    corpus.label_map = label_map(corpus.codes, labels, parse_map(mapping) if isinstance(mapping, str) else mapping)
    df = as_manifest(corpus.manifest)
    out = ~df.label.isin(list(corpus.label_map))
    corpus.skipped += [dict(id=row.id, audio=row.audio, reason=f'label {row.label!r} is not among the labels asked for ({labels})')
                       for row in df[out].itertuples()]
    df = df[~out].assign(label=df.label[~out].map(corpus.label_map), votes=df.votes[~out].map(partial(_voted, corpus)))
    df = df.sort_values('id', kind='stable')
    if df.empty: raise FastmerError(f'{root} holds no utterance with one of the labels asked for ({labels})')
    if lacking := [label for label in wanted(labels) if label not in set(df.label)]:
        said = f'{root} holds no utterance labelled {", ".join(lacking)}'
        if labels not in LABEL_SETS: raise FastmerError(f'{said}, which --labels asks for; it has {", ".join(sorted(set(df.label)))}')
        corpus.notes.append(f'{said}, which the label set {labels} has')
    corpus.manifest = check_manifest(df, root)
    counts = corpus.manifest.label.value_counts()
    if (counts < 2).any():
        raise FastmerError(f'{root}: the label {counts.idxmin()!r} has one utterance only, which cannot be both learned and tested; '
                           'leave it out with --labels or merge it with --map')
    return corpus


def _voted(corpus, votes):
    "`votes` by label in place of code; those for what is not learned by its emotion, and not at all where a label is called so"
    kept = set(corpus.label_map.values())
    others = {code: emotion for code, emotion in corpus.codes.items() if emotion not in kept}
    names = others | corpus.label_map
    return as_votes({code: n for code, n in parse_votes(votes).items() if code in names}, names)
