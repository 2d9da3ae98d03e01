"""Corpus -> prepared folder: `manifest.csv`, `spectrograms/<label>/<id>.png`, `prepared.json`, `skipped.csv`, `warnings.csv`

Every picture is written whole or not at all and carries the settings and the source it was made from, so a run that was stopped goes
on where it was, and a second run draws only what is missing, was made with other settings, or whose recording has changed. One run at
a time writes into a folder. `fastmer transcribe` adds `transcripts.csv`, which prepare leaves as it is.
"""
import errno
import hashlib
import json
import os
import platform
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from ._version import __version__
from .audio_io import AudioError, audio_file, audio_path, hear, split_fragment
from .check import Levels, sound_problems
from .cluster import in_batches
from .corpora import read_corpus
from .errors import FastmerError
from .manifest import read_manifest, write_csv, write_json, write_manifest
from .spectrogram import SpectrogramConfig, read_stamp, save_png, to_image

LOCK = '.prepare.lock'
TABLES = {'skipped.csv': ['id', 'audio', 'reason'], 'warnings.csv': ['id', 'audio', 'warning']}
TRANSCRIPTS = ('id', 'audio', 'asr_text', 'model', 'language', 'error', 'stamp')  # columns of transcripts.csv: of `fastmer transcribe`


@dataclass(frozen=True)
class Prepared:
    "A prepared folder on disk, opened by `Prepared.open(path)`"
    path: Path
    about: dict  # what `prepared.json` holds

    @classmethod
    def open(cls, path):
        "The finished prepared folder at `path`; raises `FastmerError` where there is none"
        path = Path(path)
        about = _about(path)
        if about is None:
            raise FastmerError(f'{path} is {"no prepared folder (it has no prepared.json)" if path.is_dir() else "not there"}: '
                               'make one with fastmer prepare CORPUS ROOT OUT')
        if not about.get('complete'): raise FastmerError(f'{path} was not prepared to the end: run the same fastmer prepare again')
        return cls(path, about)

    @cached_property
    def manifest(self): return read_manifest(self.path/'manifest.csv')
    @cached_property
    def config(self): return SpectrogramConfig.from_dict(self.about['spectrogram'])
    @cached_property
    def labels(self): return sorted(self.manifest.label.unique())
    @property
    def root(self): return Path(self.about['root'])

    def png(self, row): return self.path/'spectrograms'/row.label/f'{row.id}.png'

    def sha256(self, transcripts=False):
        "SHA-256 of the manifest, and of the ASR transcripts where they are read"
        names = ('manifest.csv', *(['transcripts.csv'] if transcripts and (self.path/'transcripts.csv').exists() else []))
        return hashlib.sha256(b''.join((self.path/name).read_bytes() for name in names)).hexdigest()

    def with_manifest(self, df):
        "This folder with `df` for its manifest and the labels that it has; nothing on disk changes"
        out = Prepared(self.path, self.about)
        vars(out).update(manifest=df, labels=self.labels)
        return out

    def with_transcripts(self, ids=None):
        """This folder with `text` as `fastmer transcribe` heard it, of all utterances or of those of `ids`; nothing on disk changes

        Two columns are new: `gold_text`, what `text` was, and `asr_model`, whose words `text` has, empty where they are gold. What was not
        recorded, or can no longer be decoded, has no words. Raises `FastmerError` where utterances have not been transcribed, or by several
        models.
        """
        df, heard = self.manifest, read_transcripts(self.path)
        mine = df.id.isin(df.id if ids is None else list(ids))
        want = df[mine & (df.audio != '')]
        lacking = want.id[want.audio != want.id.map(heard.audio)]
        if len(lacking):
            raise FastmerError(f'{self.path} has no ASR text of {len(lacking):,} of {len(want):,} utterances (the first: '
                               f'{lacking.iloc[0]!r}): run fastmer transcribe {self.path}')
        if len(models := want.id.map(heard.model).unique()) > 1:
            raise FastmerError(f'{self.path} has ASR text of {" and of ".join(models)}: run fastmer transcribe with one of them to its end')
        says = lambda column: df.id.where(mine).map(heard[column]).fillna('')
        return self.with_manifest(df.assign(text=df.text.mask(mine, says('asr_text')), gold_text=df.text, asr_model=says('model')))


def read_transcripts(path):
    "What `fastmer transcribe` heard in the prepared folder `path`, by id, with the columns `TRANSCRIPTS`; empty where it has not run"
    path = Path(path)/'transcripts.csv'
    try: df = pd.read_csv(path, dtype=str, keep_default_na=False, encoding='utf-8') if path.exists() else pd.DataFrame(columns=TRANSCRIPTS)
    except (OSError, ValueError) as e: raise FastmerError(f'{path} cannot be read ({e}): delete it and run fastmer transcribe') from None
    if not set(TRANSCRIPTS) <= set(df) or df.id.duplicated().any():
        raise FastmerError(f'{path} was not written by fastmer transcribe, or changed since: delete it and run fastmer transcribe')
    return df.set_index('id', drop=False)


def _about(path):
    try: about = json.loads((path/'prepared.json').read_text(encoding='utf-8'))
    except (FileNotFoundError, NotADirectoryError): return None
    except (ValueError, OSError, RecursionError) as e: raise FastmerError(f'{path/"prepared.json"} cannot be read ({e})') from None
    if not isinstance(about, dict) or any(not isinstance(about.get(k), t) for k, t in dict(corpus=str, root=str, spectrogram=dict).items()):
        raise FastmerError(f'{path/"prepared.json"} was not written by fastmer prepare: prepare into another folder')
    return about


def _audio_before(path):
    "What each id's `audio` was when the folder `path` was last prepared to the end"
    try: return read_manifest(path/'manifest.csv').set_index('id').audio.to_dict()
    except FastmerError: return {}


def _todo(row, root, png, config, before):
    "Whether the picture `png` of `row`, whose recording was `before`, must be drawn; if not, the stamp it carries"
    if before not in (None, row.audio): return True, {}
    try: drawn, source = png.stat(), audio_path(row.audio, root).stat()
    except (OSError, RuntimeError, ValueError): return True, {}
    stamp = read_stamp(png)
    same = dict(config=config.hash, part=_stretch(row.audio), bytes=str(source.st_size))
    fresh = same.items() <= stamp.items() and 'warning' in stamp and source.st_mtime <= drawn.st_mtime  # an older one knows of none
    return not fresh, stamp


def _stretch(audio):
    "The part of a recording that `audio` names, for the stamp: the path itself is left out, the same sound gives the same bytes anywhere"
    return '{1}-{2}'.format(*split_fragment(audio))


def draw(audio, png, root, config):
    """Draw the spectrogram of one recording into the file `png`; gives the stamp that it carries: `seconds`, `warning` and the like.

    Raises `AudioError` where the recording cannot be used, `OSError` where the picture cannot be written.
    """
    with audio_file(audio, root) as path: size = path.stat().st_size  # before it is decoded: what is added later, the next run sees
    wave, levels = hear(audio, config.rate, root, Levels)
    image = to_image(wave, config)
    if image.shape[1] < config.min_frames:
        raise AudioError(f'{audio_path(audio, root)} is too short: {image.shape[1]} columns, below the {config.min_frames} asked for')
    stamp = dict(config=config.hash, part=_stretch(audio), bytes=size, seconds=round(len(wave)/config.rate, 6),
                 warning='; '.join(sound_problems(audio, levels).values()))
    save_png(image, png, **stamp)
    return stamp


def _draw_batch(tasks, root, config, run):
    "What came of `(id, audio, png)` tasks: `(id, stamp, None)` or `(id, None, reason)`"
    out = []
    for name, audio, png in tasks:
        if run not in (None, os.getpid(), os.getppid()): raise FastmerError('the run that drew this was killed')  # and its lock is gone
        try: out.append((name, draw(audio, png, root, config), None))
        except AudioError as e: out.append((name, None, str(e)))
    return out


def _draw_all(tasks, root, config, jobs, advance, cluster=None):
    stamps, failed = {}, {}
    for done in in_batches(_draw_batch, tasks, root, config, None if cluster else os.getpid(), jobs=jobs, cluster=cluster):
        stamps.update({name: stamp for name, stamp, reason in done if reason is None})
        failed.update({name: reason for name, _, reason in done if reason is not None})
        advance(len(done))
    return stamps, failed


@contextmanager
def locked(out):
    """Within it, no other fastmer writes into the folder `out`, which is made; raises `FastmerError` where one does

    The lock is the operating system's, so it ends with the process that holds it. A file system without locks is written to without.
    """
    from filelock import FileLock, Timeout
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out/LOCK, timeout=0, fallback_to_soft=False)
    try: lock.acquire()
    except Timeout:
        raise FastmerError(f'another fastmer is writing into {out}: wait until it has ended, or give another folder') from None
    except OSError: pass
    try: yield
    finally:
        if lock.is_locked:
            with suppress(OSError): (out/LOCK).unlink()  # while it is held: whoever opened it before finds it gone, and no lock
            lock.release()


def prepare_corpus(corpus, root, out, labels=None, mapping=None, config=None, jobs=None, progress=None, cluster=None, **options):
    """Read the corpus called `corpus` under `root` and make the prepared folder `out` from it.

    `labels`, `mapping` and `options` go to `read_corpus`; `config`: a `SpectrogramConfig`; `jobs`: processes (all cores where None);
    `cluster`: `dask://host:port`, whose workers see the same files, in place of them;
    `progress(total)` returns a function to call with the number of recordings done. Returns a `Prepared`. Recordings that cannot be
    decoded stand in `skipped.csv` with the reason, those whose sound has something wrong with it in `warnings.csv`; raises
    `FastmerError` where none can be decoded, where `out` holds another corpus or another run writes into it, or where nothing can be
    written (what was drawn until then stays and is not drawn again).
    """
    out, config = Path(out), config or SpectrogramConfig()
    if os.path.exists(out/LOCK):
        with locked(out): pass  # so that no corpus is read in vain
    found = read_corpus(corpus, root, labels, mapping, **options)
    about = dict(fastmer=__version__, corpus=corpus, root=str(found.root), label_map=found.label_map, spectrogram=asdict(config),
                 complete=False)
    _check_out(out, about)
    try:
        with locked(out):
            _check_out(out, about)
            return _prepare(found, out, about, config, jobs, progress, cluster)
    except OSError as e:
        if e.errno == errno.ENOSPC:
            raise FastmerError(f'the disk that holds {out} is full: make room and run the same command again, '
                               'it goes on where it was') from None
        raise FastmerError(f'{out} cannot be written to ({e.strerror or e}): choose another folder or mend its permissions') from None


def _prepare(found, out, about, config, jobs, progress, cluster):
    df = found.manifest
    png = {row.id: out/'spectrograms'/row.label/f'{row.id}.png' for row in df.itertuples()}
    before, old = _audio_before(out), _about(out) or {}
    state = {row.id: _todo(row, found.root, png[row.id], config, before.get(row.id)) for row in df.itertuples() if row.audio}
    tasks = [(row.id, row.audio, png[row.id].absolute()) for row in df.itertuples() if state.get(row.id, (False,))[0]]
    if tasks or set(before) != set(df.id) or old.get('label_map') != found.label_map: write_json(out/'prepared.json', about)
    for folder in {path.parent for path in png.values()} if state else (): folder.mkdir(parents=True, exist_ok=True)
    advance = progress(len(state)) if progress else lambda n: None
    advance(len(state) - len(tasks))
    stamps, failed = _draw_all(tasks, found.root, config, jobs, advance, cluster) if tasks else ({}, {})
    stamps.update({name: stamp for name, (todo, stamp) in state.items() if not todo})
    if state and len(failed) == len(state):
        raise FastmerError(f'none of the {len(failed)} recordings under {found.root} can be used; '
                           f'the first: {next(iter(failed.values()))}')
    return _finish(out, about | dict(drawn=len(tasks) - len(failed)), found, df, stamps, failed, png)


def _check_out(out, about):
    "Refuse to mix two corpora in one folder, or to write into one that is somebody else's"
    if out.exists() and not out.is_dir(): raise FastmerError(f'{out} is a file: give a folder to prepare into')
    old = _about(out) if out.is_dir() else None
    if old and (old['corpus'], old['root']) != (about['corpus'], about['root']):
        raise FastmerError(f'{out} already holds {old["corpus"]} from {old["root"]}: prepare into another folder, or delete it first')
    if old is None and out.is_dir() and any(p.name not in ('spectrograms',) and not p.name.startswith('.') for p in out.iterdir()):
        raise FastmerError(f'{out} is not empty and is no prepared folder: give a new or empty folder')


def _tidy(out, keep):
    "Remove pictures that are not in `keep`, what killed runs left half-written, and folders that are empty then"
    for folder in (out/'spectrograms').glob('*/'):
        left = [file.path for file in os.scandir(folder) if file.path not in keep]
        for path in left:
            if path.endswith(('.png', '.tmp')): os.unlink(path)
        with suppress(OSError): folder.rmdir()
    for path in out.glob('.*.tmp'): path.unlink()


def _finish(out, about, found, df, stamps, failed, png):
    "Write the tables, drop pictures that no row names any more, and mark the folder complete"
    df = df.assign(duration=[float(stamps[i]['seconds']) if i in stamps else d for i, d in zip(df.id, df.duration, strict=True)])
    bad = df.id.isin(list(failed))
    skipped = found.skipped + [dict(id=row.id, audio=row.audio, reason=failed[row.id]) for row in df[bad].itertuples()]
    df = df[~bad]
    warned = [dict(id=i, audio=audio, warning=stamps[i]['warning']) for i, audio in zip(df.id, df.audio, strict=True)
              if i in stamps and stamps[i]['warning']]
    _tidy(out, {str(png[name]) for name in df.id})
    write_manifest(df, out/'manifest.csv')
    for (name, columns), rows in zip(TABLES.items(), (skipped, warned), strict=True):
        write_csv(pd.DataFrame(rows, columns=columns), out/name)
    counts = df.label.value_counts().sort_index()
    versions = {'python': platform.python_version(), **{name: version(name) for name in ('librosa', 'numpy', 'pillow')}}
    about |= dict(complete=True, utterances=len(df), skipped=len(skipped), undecodable=len(failed), warned=len(warned),
                  counts={label: int(n) for label, n in counts.items()}, notes=found.notes, versions=versions)
    write_json(out/'prepared.json', about)
    return Prepared(out, about)
