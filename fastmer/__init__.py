"""fastmer: transfer learning for multimodal speech emotion recognition, with scores that can be believed

The public names below load their module when first used, so that `import fastmer` takes milliseconds.
"""
from importlib import import_module

from ._version import __version__

_API = {  # name: the module that holds it
    **dict.fromkeys(('FastmerError', 'LeakageError'), 'errors'),
    **dict.fromkeys(('read_corpus', 'CORPORA'), 'corpora'),
    **dict.fromkeys(('read_manifest', 'write_manifest'), 'manifest'),
    'load_audio': 'audio_io',
    **dict.fromkeys(('inspect_audio', 'check_audio'), 'check'),
    **dict.fromkeys(('SpectrogramConfig', 'to_image'), 'spectrogram'),
    **dict.fromkeys(('prepare_corpus', 'Prepared'), 'prepare'),
    'join_prepared': 'join',
    'transcribe_prepared': 'transcribe',
    **dict.fromkeys(('split', 'n_folds', 'Split', 'PROTOCOLS'), 'splits'),
    **dict.fromkeys(('audio_dls', 'audio_learner'), 'audio'),
    **dict.fromkeys(('text_dls', 'text_learner'), 'text'),
    **dict.fromkeys(('fusion_dls', 'fusion_learner'), 'fusion'),
    **dict.fromkeys(('train_audio', 'train_text', 'train_fusion'), 'systems'),
    **dict.fromkeys(('two_stage', 'Recipe'), 'training'),
    'find_target': 'targets',
    'Run': 'runs',
    **dict.fromkeys(('compute_metrics', 'as_predictions', 'word_error_rate'), 'metrics'),
    **dict.fromkeys(('intervals', 'paired'), 'uncertainty'),
    **dict.fromkeys(('audit_protocol', 'audit_split'), 'audit'),
    'cross_validate': 'crossval',
    'tune_settings': 'tune',
    'leakage_ladder': 'ladder',
    **dict.fromkeys(('compare_runs', 'late_fusion', 'fusion_gain'), 'compare'),
    'write_report': 'html',
    **dict.fromkeys(('load', 'export_learner'), 'export'),
    'Predictor': 'predict',
}
__all__ = ['__version__', *_API]


def __getattr__(name):
    if name not in _API: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'.{_API[name]}', __name__), name)


def __dir__(): return sorted({*globals(), *__all__})
