"What is wrong with sound files: which cannot be decoded, and which hold clipped, silent, upside-down or cut-off sound"
import os
from pathlib import Path

import numpy as np

from .audio_io import LOUDEST, SUFFIXES, AudioError, Mix, audio_path, decode, split_fragment
from .cluster import in_batches
from .errors import FastmerError
from .spectrogram import SpectrogramConfig
from .wav import read_wav

SILENT, OFFSET, FULL, RUN = 1e-4, 0.01, 0.98, 3  # peak; of full scale; from where equal neighbours are clipped, if so many stand in a row
CLIPPED = 1e-4  # share of samples from which on it is told
FEWEST_HZ = 8000
BELONG = {  # format: the suffixes that it goes by
    ('WAV', 'WAVEX', 'RF64', 'wav'): '.wav .wave .rf64 .bwf', ('W64', 'w64'): '.w64', ('AIFF', 'aiff'): '.aif .aiff .aifc',
    ('AU', 'au'): '.au .snd', ('CAF', 'caf'): '.caf', ('FLAC', 'flac'): '.flac', ('OGG', 'ogg'): '.ogg .oga .opus .spx .ogv',
    ('MP3', 'mp3'): '.mp3 .mp2 .mpga', ('NIST',): '.sph .nist .wav .wv1 .wv2', ('VOC', 'voc'): '.voc', ('aac',): '.aac .adts',
    ('mov,mp4,m4a,3gp,3g2,mj2',): '.m4a .mp4 .mov .m4b .3gp .3g2 .m4v .aac', ('matroska,webm',): '.webm .mka .mkv .weba',
    ('asf',): '.wma .asf .wmv', ('amr', 'amrnb', 'amrwb'): '.amr .awb .3gp', ('ac3',): '.ac3', ('wv',): '.wv', ('tta',): '.tta',
    ('avi',): '.avi'}
BELONG = {name: suffixes.split() for names, suffixes in BELONG.items() for name in names}
NOTHING = dict(format=None, encoding=None, rate=None, channels=None, seconds=None, peak_db=None, decoder=None)


class Levels(Mix):
    "A `Mix` that remembers what a check wants to know of the blocks that it is called with"
    def __init__(self, sound):
        super().__init__(sound)
        self.strange, self.clipped, self.over, self.peak = 0, 0, 0, np.zeros(sound.channels)

    def __call__(self, block):
        size = np.abs(block)
        if not size.max(initial=0.) <= LOUDEST:
            bad = ~(size <= LOUDEST)
            self.strange += int(bad.sum())
            block, size = np.where(bad, np.float32(0), block), np.where(bad, np.float32(0), size)
        peak = [channel.max(initial=0.) for channel in size.T]
        self.peak = np.maximum(self.peak, peak)
        if max(peak) >= FULL:
            self.clipped += sum(map(in_runs, block.T))
            self.over += int((size > 1).sum())
        if block.shape[1] == 1:  # what a Mix leaves out
            self.n += len(block)
            self.sum += block.sum()
        return self.mono(block)


def in_runs(x):
    "How many samples of `x` stand near full scale in a row of `RUN` or more equal ones"
    at = np.flatnonzero(np.abs(x) >= FULL)
    same = (np.diff(at) == 1) & (np.diff(x[at]) == 0)
    if same.sum() < RUN - 1: return 0
    flat = np.flatnonzero(np.diff(np.r_[False, same, False].astype(np.int8)))
    runs = flat[1::2] - flat[::2] + 1
    return int(runs[runs >= RUN].sum())


def _decibels(x): return round(float(20*np.log10(max(x, 1e-10))), 1)


def sound_problems(audio, levels):
    "What is wrong with the sound that `levels` heard of the recording `audio`: kind of problem -> a sentence about it"
    sound, whole = levels.source, split_fragment(audio)[2] is None
    samples, offset, seconds = max(1, levels.n*sound.channels), levels.sum[:-1]/max(1, levels.n), levels.n/sound.rate
    silent = np.flatnonzero(levels.peak < SILENT)
    found = dict(
        not_numbers=levels.strange and f'{levels.strange} samples are no numbers; they become 0',
        silent=len(silent) == sound.channels and ('silent' if levels.peak.any() else 'silent: every sample is 0'),
        silent_channel=0 < len(silent) < sound.channels and f'silent: channel {", ".join(map(str, silent + 1))} of {sound.channels}',
        inverted=levels.cancels and f'the channels cancel each other: only {levels.loudest + 1} is taken',
        clipped=levels.clipped/samples >= CLIPPED and f'clipped: {100*levels.clipped/samples:.2g} % of the samples',
        over=levels.over/samples >= CLIPPED and f'{100*levels.over/samples:.2g} % of the samples go beyond full scale',
        offset=np.abs(offset).max() > OFFSET and f'DC offset of {100*offset[np.abs(offset).argmax()]:.2g} % of full scale',
        rate=sound.rate < FEWEST_HZ and f'{sound.rate} Hz hold no sound above {sound.rate//2} Hz: below {FEWEST_HZ} Hz speech suffers',
        short=whole and seconds < SpectrogramConfig().window and f'{seconds*1000:.3g} ms are shorter than a frame of a spectrogram')
    return {kind: text for kind, text in found.items() if text}


def _file_problems(path, sound):
    "What is wrong with the file that `sound` was decoded from, whatever it holds"
    wav, suffix = _wav(path), path.suffix.lower()
    found = dict(
        no_length=wav and wav.promised is None and 'its header does not know its length: it was read to the end',
        stray=wav and wav.stray and f'{wav.stray} bytes behind the sound belong to nothing: its header may give too short a length',
        suffix=suffix not in BELONG.get(sound.format, [suffix]) and f'it is {_name(sound.format)}, whatever {suffix or "no suffix"} says')
    return {kind: text for kind, text in found.items() if text}


def _name(form): return {'mov,mp4,m4a,3gp,3g2,mj2': 'MP4', 'matroska,webm': 'Matroska'}.get(form, form.upper())


def _wav(path):
    with open(path, 'rb') as f: return read_wav(f)


def inspect_audio(audio, root=None):
    """What a sound file holds and what is wrong with it, a dict; `load_audio` takes all of it without a word, but for what it refuses

    `format`, `encoding`, `rate`, `channels`, `seconds`, `peak_db` (dB of full scale), `decoder`; `problems`: kind -> sentence;
    `error`: why it cannot be decoded, or `None`.
    """
    about = dict(path=str(audio), **NOTHING, problems={}, error=None)
    try:
        parts = decode(audio, root)
        sound = next(parts)
        about |= dict(format=sound.format, encoding=sound.encoding, rate=sound.rate, channels=sound.channels, decoder=sound.decoder)
        levels = Levels(sound)
        for block in parts: levels(block)
        about |= dict(seconds=round(levels.n/sound.rate, 6), peak_db=_decibels(levels.peak.max()))
        about['problems'] = sound_problems(audio, levels) | _file_problems(audio_path(audio, root), sound)
    except (AudioError, OSError) as e: about['error'] = ' '.join(str(e).split())
    return about


def audio_files(paths):
    "The files among `paths`, and those in the folders among them that are called what sound files are called"
    out = []
    for path in map(str, paths):
        if not Path(path).is_dir(): out.append(path)
        else:
            for here, dirs, files in os.walk(path):
                dirs[:] = sorted(name for name in dirs if not name.startswith('.'))
                out += [os.path.join(here, name) for name in sorted(files)
                        if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith('.')]
    return out


def _inspect_batch(paths): return [inspect_audio(path) for path in paths]


def check_audio(paths, jobs=None, progress=None):
    """What `inspect_audio` says of every file in `paths`, files and folders (recursively), as a list of dicts

    `jobs`: processes (all cores where `None`); `progress(total)` returns a function to call with the number of files done. Raises
    `FastmerError` where there is no file at all.
    """
    paths = [paths] if isinstance(paths, (str, Path)) else list(paths)
    files = audio_files(paths)
    if not files: raise FastmerError(f'there is no sound file in {", ".join(map(str, paths))}: such files end in {", ".join(SUFFIXES)}')
    advance, out = progress(len(files)) if progress else lambda n: None, []
    for done in in_batches(_inspect_batch, files, jobs=jobs):
        out += done
        advance(len(done))
    return out


def check_table(found):
    "What `check_audio` found, as a rich table"
    from rich.markup import escape
    from rich.table import Column, Table
    table = Table(Column('file', overflow='fold', ratio=2), 'format', 'Hz', 'ch.', 's', 'peak dB', Column('what is wrong', ratio=3))
    for f in found:
        colour, wrong = ('red', f['error'].removeprefix(f['path']).strip()) if f['error'] else ('yellow', '; '.join(f['problems'].values()))
        shown = ('' if f[name] is None else f'{f[name]:{form}}' for name, form in
                 (('rate', ''), ('channels', ''), ('seconds', '.2f'), ('peak_db', '.1f')))
        what = f'{_name(f["format"])} {f["encoding"]}' if f['format'] else ''
        table.add_row(escape(f['path']), what, *shown, f'[{colour}]{escape(wrong)}[/]')
    bad, flawed = sum(bool(f['error']) for f in found), sum(bool(f['problems']) for f in found)
    table.caption = f'{len(found)} files: {bad} cannot be decoded, {flawed} have something wrong'
    return table
