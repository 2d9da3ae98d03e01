"""What a manifest of many utterances costs: python benchmarks/scale.py [N ...], by default 10,000, 100,000 and 1,000,000

Reads, validates, splits under every protocol, audits without recordings; each in a process of its own, seconds and peak memory.
"""
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS = [f'{a}{b}{c}' for a in 'bdfgklmnprstvz' for b in 'aeiou' for c in 'bdgklmnrst']
PROTOCOLS = ('random', 'speaker', 'session', 'session+script', 'part')


def manifest(n, path):
    "A manifest of `n` rows: speakers of 200 utterances each, 20 sessions, scripts of 50, transcripts of 4 to 14 Zipf-drawn words"
    from fastmer.manifest import as_manifest, write_manifest
    rng = np.random.default_rng(0)
    speaker = rng.integers(0, max(40, n//200), n)
    zipf = 1/np.arange(1, len(WORDS) + 1)
    drawn = rng.choice(len(WORDS), size=(n, 14), p=zipf/zipf.sum())
    words, lengths = np.array(WORDS)[drawn], rng.integers(4, 15, n)
    write_manifest(as_manifest(dict(
        id=[f'u{i:07}' for i in range(n)], audio=[f'wav/{i:07}.wav' for i in range(n)],
        text=[' '.join(row[:k]) for row, k in zip(words, lengths, strict=True)], label=rng.choice(['angry', 'happy', 'neutral', 'sad'], n),
        speaker=[f's{s}' for s in speaker], session=[f'{s % 20:02}' for s in speaker],
        script=[f'{s % 20:02}-{x}' for s, x in zip(speaker, rng.integers(0, max(2, n//1000), n), strict=True)],
        gender=np.where(speaker % 2, 'f', 'm'), duration=rng.uniform(1, 8, n),
        part=rng.choice(['train', 'valid', 'test'], n, p=[.8, .1, .1]),
        corpus='synthetic')), path)


def step(name, path):
    "Run one step in this process and print what it took; reading, which comes before the others, is not counted in them"
    from fastmer.audit import audit_split
    from fastmer.manifest import check_manifest, read_manifest
    from fastmer.splits import split
    began = time.perf_counter()
    df = read_manifest(path)
    if name != 'read': began = time.perf_counter()
    if name == 'validate': check_manifest(df)
    elif name.startswith('split '): split(df, name[6:]).sha256  # noqa: B018 - the hash is part of the price
    elif name == 'audit': audit_split(df, split(df, 'speaker'))
    elif name == 'audit, near texts too':
        from fastmer.duplicates import near_texts
        near_texts(df.text)
    print(json.dumps(dict(seconds=time.perf_counter() - began, mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024)))


def main(sizes):
    steps = ['read', 'validate', *(f'split {protocol}' for protocol in PROTOCOLS), 'audit', 'audit, near texts too']
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)/'manifest.csv'
        print(f'{"rows":>9}  {"step":24} {"seconds":>8} {"peak MiB":>9}')
        for n in sizes:
            manifest(n, path)
            for name in steps:
                done = subprocess.run([sys.executable, __file__, '--step', name, str(path)], capture_output=True, text=True)
                if done.returncode: print(f'{n:9,}  {name:24} failed: {done.stderr.strip().splitlines()[-1]}')
                else: print('{:9,}  {:24} {seconds:8.1f} {mib:9.0f}'.format(n, name, **json.loads(done.stdout)), flush=True)


if __name__ == '__main__':
    if sys.argv[1:2] == ['--step']: step(*sys.argv[2:])
    else: main([int(n) for n in sys.argv[1:]] or [10_000, 100_000, 1_000_000])
