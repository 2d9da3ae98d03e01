"Transcripts -> emotion with a Hugging Face encoder: python examples/text.py TABLE.csv ENCODER [OUT]"
import sys

from fastmer.all import *

table, encoder, out = sys.argv[1], sys.argv[2], Path(sys.argv[3] if len(sys.argv) > 3 else 'out')

prepared = prepare_corpus('table', table, out/'prepared')
run = train_text(prepared, out/'text', arch=encoder, protocol='session', fold=1)
scores = run.evaluate()
print(f'session fold 1, {scores["n"]} utterances: WA {scores["wa"]:.3f}, UA {scores["ua"]:.3f}')
