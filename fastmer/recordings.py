"What an audit wants to know of each recording: fingerprint, loudness, voice, file format and the picture that was drawn of it"
import hashlib
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.fft import dct

from .audio_io import AudioError, audio_path, decode, load_audio
from .cluster import in_batches
from .duplicates import fingerprint
from .spectrogram import SpectrogramConfig, spectrogram

RATE = 16000
VOICE = SpectrogramConfig(rate=RATE, window=0.032, step=0.01, n_fft=512, bands=40, fmax=7600, db_range=100, trim_db=0)
OF_FILE = dict(rms_db=np.nan, peak_db=np.nan, suffix='', rate='', channels='', encoding='')
NOTHING = dict(digest='', landmarks=np.zeros(0, np.uint64), voice=np.zeros(0), picture='', failed='', **OF_FILE)


def voice_features(wave):
    "Means and spreads of the cepstra 1 to 19 over the frames within 30 dB of the loudest, `(38,)`; empty where there is little sound"
    db = spectrogram(wave, VOICE)
    loud = db[:, db.max(axis=0) > -30]
    if loud.shape[1] < 5 or not wave.any(): return np.zeros(0)
    cepstra = dct(loud, axis=0, norm='ortho')[1:20]
    return np.r_[cepstra.mean(axis=1), cepstra.std(axis=1)]


def _decibels(x): return float(20*np.log10(max(x, 1e-6)))


def _format(audio, root):
    with closing(decode(audio, root)) as parts: sound = next(parts)
    return dict(suffix=audio_path(audio).suffix.lower(), rate=str(sound.rate), channels=str(sound.channels), encoding=sound.encoding)


def _picture(png):
    from PIL import Image
    if not png or not Path(png).is_file(): return ''
    with Image.open(png) as image: return hashlib.sha256(np.asarray(image).tobytes() + str(image.size).encode()).hexdigest()


def _measure(audio, root, png):
    if not audio: return {**NOTHING}
    try: wave = load_audio(audio, RATE, root)
    except AudioError as e: return {**NOTHING, 'failed': str(e)}
    digest, landmarks = fingerprint(wave, RATE)
    return {**NOTHING, 'digest': digest, 'landmarks': landmarks, 'voice': voice_features(wave), 'picture': _picture(png),
            'rms_db': _decibels(np.sqrt(np.mean(wave**2))), 'peak_db': _decibels(np.abs(wave).max()), **_format(audio, root)}


def _measure_batch(tasks, root): return [_measure(audio, root, png) for audio, png in tasks]


def measure(prepared, jobs=None, progress=None):
    """A table, one row for each of the manifest's, of what `NOTHING` lists; rows without a recording hold just that.

    `jobs`: processes (all cores where `None`); `progress(total)` returns a function to call with the number of recordings done.
    """
    df = prepared.manifest
    tasks = [(row.audio, str(prepared.png(row))) for row in df.itertuples()]
    advance = progress(len(tasks)) if progress else lambda n: None
    out = []
    for done in in_batches(_measure_batch, tasks, prepared.root, jobs=jobs):
        out += done
        advance(len(done))
    out = pd.DataFrame(out)
    out.attrs['root'] = prepared.root
    return out
