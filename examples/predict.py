"Emotion of new recordings with an exported learner: python examples/predict.py RUN/learner.pkl A.wav [B.wav ...]"
import sys

import fastmer

predictor = fastmer.load(sys.argv[1])
for path in sys.argv[2:]:
    answer = predictor.predict(audio=path)
    print(path, answer['label'], {label: round(p, 3) for label, p in answer['probabilities'].items()})
