"Spectrograms -> emotion with a fastai vision learner: python examples/audio.py emodb ROOT [OUT [EPOCHS]]"
import sys

from fastmer.all import *

corpus, root, out = *sys.argv[1:3], Path(sys.argv[3] if len(sys.argv) > 3 else 'out')
epochs = int(sys.argv[4] if len(sys.argv) > 4 else 20)

prepared = prepare_corpus(corpus, root, out/'prepared')
fold = split(prepared.manifest, 'speaker', fold=1)
dls = audio_dls(prepared, fold, bs=16)
learn = audio_learner(dls, 'alexnet', metrics=metrics())
history, finds, best = two_stage(learn, Recipe(epochs=epochs))

test = prepared.manifest[prepared.manifest.id.isin(fold.test)].assign(png=lambda df: [prepared.png(row) for row in df.itertuples()])
probs, _ = learn.get_preds(dl=dls.test_dl(test))
scores = compute_metrics(as_predictions(test.id, test.label, probs, list(dls.vocab)), dls.vocab)
print(f'speaker fold 1, {scores["n"]} utterances of unseen speakers: WA {scores["wa"]:.3f}, UA {scores["ua"]:.3f}')
