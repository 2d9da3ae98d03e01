"`from fastmer.all import *`: fastmer's public names and fastai's, for notebooks and examples"
from fastai.vision.all import *

from .audio import SpectrogramBlock, arch_stats, audio_dls, audio_learner
from .audit import audit_protocol
from .callbacks import FrozenEncoders, History, KeepBest, RichProgress
from .compare import compare_runs, fusion_gain, late_fusion
from .corpora import CORPORA, read_corpus
from .crossval import cross_validate
from .export import export_learner, load
from .fusion import FusionModel, fusion_dls, fusion_learner
from .join import join_prepared
from .ladder import leakage_ladder
from .metrics import as_predictions, compute_metrics
from .predict import Predictor
from .prepare import Prepared, prepare_corpus
from .runs import Run
from .spectrogram import SpectrogramConfig, to_image
from .splits import PROTOCOLS, Split, n_folds, split
from .systems import train_audio, train_fusion, train_text
from .targets import find_target
from .text import TranscriptBlock, load_encoder, text_dls, text_learner
from .training import Recipe, metrics, two_stage
from .transcribe import transcribe_prepared
