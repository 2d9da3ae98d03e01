"What readers that go by file names share: the audio under a folder, copies, rows for what is skipped, and what is missing"
from collections import Counter
from pathlib import Path

from ..errors import FastmerError
from .folders import flat_id, printable, unusable, walk


def audio_files(root):
    "Every audio file under the folder `root` in order, at any depth; what is hidden is passed over, a linked folder is entered once"
    root = Path(root)
    if not root.is_dir(): raise FastmerError(f'{root} is no folder: give the folder that holds the corpus')
    return list(walk(root, {root.resolve()}))


def read_names(root, row, example, name):
    """`(rows, skipped)` of the audio under `root` by file names: `row(path)` is a manifest row, or the reason why there is none.

    A row gets its `audio` here. Where two files make the same id, WAV goes before other formats, then the first in order; the other
    is skipped, as is what cannot be read. `example`: a name such as `03a01Fa.wav`, for the `FastmerError` where no file fits.
    """
    rows, skipped = {}, []
    for path in sorted(audio_files(root), key=lambda path: path.suffix.lower() != '.wav'):
        found = unusable(path) or row(path)
        if not isinstance(found, str) and found['id'] in rows: found = f'it is the same utterance as {rows[found["id"]]["audio"]}'
        if isinstance(found, str): skipped.append(skip(path, root, found))
        else: rows[found['id']] = found | dict(audio=path.relative_to(root).as_posix())
    if not rows:
        first = f' (first of {len(skipped):,} others: {skipped[0]["audio"]}, {skipped[0]["reason"]})' if skipped else ''
        raise FastmerError(f'{root} holds no audio named like {example}{first}: give the folder that holds {name}')
    return list(rows.values()), skipped


def skip(path, root, reason):
    "A row of `Corpus.skipped` for the file `path` of the corpus in `root`"
    path = Path(path).relative_to(root).as_posix()
    return dict(id=flat_id(printable(path)), audio=printable(path), reason=reason)


def shortfall(name, have, published):
    """One sentence on what differs from the published counts; none when nothing does.

    `have`: labels, as a list or as label -> count. `published`: label -> count, of the whole corpus.
    """
    have, whole = Counter(have), sum(published.values())
    parts = [f'{label} {have[label]:,} of {n:,}' for label, n in published.items() if have[label] != n]
    return [f'{sum(have.values()):,} of the {whole:,} utterances of {name} found: {", ".join(parts)}'] if parts else []
