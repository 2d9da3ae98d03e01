"""Take the sound of the MELD clips out of their mp4 files: mono, 16 kHz, as audio/train/dia0_utt0.wav and so on

    python data_scripts/get_corpus.py meld data/meld
    python data_scripts/meld.py data/meld                    # with ffmpeg, or PyAV (`pip install av`) where there is none
"""
import os
import shutil
import subprocess
import sys
import wave
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import click

from fastmer.corpora.meld import NAME, part_of
from fastmer.errors import FastmerError
from fastmer.manifest import atomic

RATE = 16000
SECONDS = 120  # for one clip


def find_clips(root):
    "`((part, name) -> path, skipped)` of the mp4 files under the folders of the parts; hidden ones, as macOS adds, are passed over"
    found, skipped = {}, []
    for path in sorted(path for path in root.rglob('*') if path.suffix.lower() == '.mp4' and not path.name.startswith('.')):
        m, part = NAME.fullmatch(path.stem), part_of(path.relative_to(root).parts[:-1])
        key = m and (part, f'dia{int(m[1])}_utt{int(m[2])}')
        if m is None: skipped.append((path, 'the name does not follow MELD (dia0_utt0.mp4)'))
        elif not part: skipped.append((path, 'no folder above it is named after a part (train, dev or test)'))
        elif key in found: skipped.append((path, f'it is the same utterance as {found[key].relative_to(root).as_posix()}'))
        else: found[key] = path
    return found, skipped


def by_ffmpeg(clip, wav, ffmpeg):
    command = (ffmpeg, '-nostdin', '-v', 'error', '-protocol_whitelist', 'file', '-i', f'file:{clip}', '-map', '0:a:0', '-ac', '1',
               '-ar', str(RATE), '-c:a', 'pcm_s16le', '-map_metadata', '-1', '-bitexact', '-f', 'wav', '-y', f'file:{wav}')
    try: done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired: return f'ffmpeg was not done with it after {SECONDS} s'
    if not done.returncode: return ''
    said = done.stderr.decode('utf-8', 'replace').strip().splitlines()
    return f'ffmpeg cannot read it ({said[-1][:200] if said else done.returncode})'


def by_av(clip, wav):
    import av
    try:
        with av.open(str(clip)) as f, wave.open(str(wav), 'wb') as out:
            out.setparams((1, 2, RATE, 0, 'NONE', ''))
            if not f.streams.audio: return 'it has no sound'
            mono = av.AudioResampler(format='s16', layout='mono', rate=RATE)
            for frame in (*f.decode(audio=0), None):
                for o in mono.resample(frame): out.writeframes(o.to_ndarray().astype('<i2').tobytes())
    except (av.FFmpegError, OSError, ValueError) as e: return f'PyAV cannot read it ({e})'
    return ''


def take(clip, wav, ffmpeg):
    "Write `wav`, whole or not at all; returns why not, `''` where it is there"
    try:
        with atomic(wav) as tmp:
            reason = by_ffmpeg(clip, tmp, ffmpeg) if ffmpeg else by_av(clip, tmp)
            if not reason and not frames(tmp): reason = 'its sound is empty'
            if reason: raise FastmerError(reason)
    except FastmerError as e: return str(e)
    return ''


def frames(wav):
    try:
        with wave.open(str(wav)) as f: return f.getnframes()
    except (OSError, EOFError, wave.Error): return 0


def extract(root, ffmpeg=None, jobs=2, say=print):
    """The sound of every clip under `root` into `root/audio/<part>/`; returns `(n written, n there before, [(path, reason)])`.

    `ffmpeg`: the program; looked for where `None`, and PyAV is used where it is `''` or not found. Raises `FastmerError`.
    """
    root = Path(root)
    ffmpeg = shutil.which('ffmpeg') if ffmpeg is None else ffmpeg
    if not (ffmpeg or find_spec('av')):
        raise FastmerError('there is neither ffmpeg nor PyAV: install ffmpeg, or `pip install av`')
    if not root.is_dir(): raise FastmerError(f'{root} is no folder: give the folder that holds MELD')
    clips, skipped = find_clips(root)
    if not clips: raise FastmerError(f'{root} holds no clip of MELD (train_splits/dia0_utt0.mp4): fetch it with get_corpus.py meld')
    wavs = {root/'audio'/part/f'{name}.wav': path for (part, name), path in clips.items()}
    todo = {wav: path for wav, path in wavs.items() if not wav.exists()}
    with ThreadPoolExecutor(jobs) as pool:
        for i, (path, reason) in enumerate(zip(todo.values(), pool.map(lambda o: take(o[1], o[0], ffmpeg), todo.items()), strict=True), 1):
            if reason: skipped.append((path, reason))
            if i % 1000 == 0: say(f'{i:,} of {len(todo):,} clips')
    failed = {path for path, _ in skipped}
    return sum(path not in failed for path in todo.values()), len(wavs) - len(todo), skipped


@click.command(help=__doc__.splitlines()[0])
@click.argument('folder', type=click.Path(path_type=Path))
@click.option('--jobs', default=min(4, os.cpu_count() or 1), show_default=True, help='Clips at a time.')
def main(folder, jobs):
    try: new, old, skipped = extract(folder, jobs=jobs, say=click.echo)
    except FastmerError as e: sys.exit(f'Error: {e}')
    click.echo(f'{new:,} clips taken, {old:,} there before, {len(skipped):,} skipped')
    for reason, n in Counter(reason for _, reason in skipped).most_common(5):
        click.echo(f'{n:,} skipped, {next(path for path, r in skipped if r == reason).name} first: {reason}')


if __name__ == '__main__': main()
