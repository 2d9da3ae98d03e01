"Audio and words together, from two learners of the same fold: python examples/fusion.py PREPARED AUDIO_RUN TEXT_RUN [OUT]"
import sys

from fastmer.all import *

prepared, audio, text = Prepared.open(sys.argv[1]), *sys.argv[2:4]
out = Path(sys.argv[4] if len(sys.argv) > 4 else 'out/fusion')

run = train_fusion(prepared, audio, text, out)
for name, path in dict(audio=audio, text=text, fusion=run.path).items():
    scores = Run.open(path).evaluate()
    print(f'{name:6}  WA {scores["wa"]:.3f}  UA {scores["ua"]:.3f}')
