"What readers that go by file names share: the audio under a folder, copies, rows for what is skipped, and what is missing"
import csv
import io
from collections import Counter
from pathlib import Path

from ..errors import FastmerError
from .folders import flat_id, printable, unusable, walk
from .table_io import read_text


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


def csv_rows(path, columns, what):
    """`[(line, column -> cell)]` of the CSV file `path`, cells that are not there as `''`.

    Raises `FastmerError` where it has not all `columns`, and so is not `what`, or breaks off within double quotes.
    """
    reader = csv.reader(io.StringIO(read_text(path) + '\nend'))  # a row of its own, unless the quotes before it are open
    try: (_, header), *rows = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as e: raise FastmerError(f'{path}, line {reader.line_num} cannot be read ({e}): fetch {what} again') from None
    if lacking := [name for name in columns if name not in header]:
        raise FastmerError(f'{path} has no column {lacking[0]}: it is not {what}')
    if not rows or rows.pop()[1] != ['end']: raise FastmerError(f'{path} breaks off within double quotes: fetch {what} again')
    return [(n, dict(zip(header, cells + ['']*len(header), strict=False))) for n, cells in rows]


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
