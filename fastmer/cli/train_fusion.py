import click

from .options import protocol, training, transcripts


@click.command('train-fusion')
@click.argument('prepared', type=click.Path())
@click.option('--audio', required=True, type=click.Path(), help='Run folder or learner.pkl of train-audio.')
@click.option('--text', required=True, type=click.Path(), help='Run folder or learner.pkl of train-text.')
@protocol(default=None, fold=None, seed=None)
@transcripts
@training
@click.option('--fusion', default='concat', show_default=True,
              help='concat, gated, low-rank, cross-attention (of tokens and frames); late and stacking, of both learners\' own '
                   'probabilities, are fitted on valid and need no training.')
@click.option('--missing', type=click.FloatRange(0, 1, max_open=True),
              help='How often a training utterance loses one modality, so that the learner can answer from either alone.  [default: 0.3 '
                   'where training utterances lack one, else 0]')
@click.option('--residual/--no-residual', default=None,
              help='The head learns what to add to the calibrated product of both learners\' own answers.  [default: where both know the '
                   'labels, but not in the recipe report]')
@click.option('--views', type=click.IntRange(min=0), default=0, show_default=True,
              help='How often the audio encoder hears each clip changed at random, as in its own training, beside the clip itself, for the '
                   'head to learn from.')
@click.option('--cache/--no-cache', default=True, show_default=True,
              help='Run the frozen encoders once and keep what they say in PREPARED: a head is then trained in seconds, with '
                   '--views for augmentation. The recipe report does not.')
@click.option('--dropout', type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option('--augment/--no-augment', default=True, show_default=True,
              help='SpecAugment and time shift, where the encoders are run: with --no-cache, and in stage 2.')
@click.option('--allow-leakage', is_flag=True, help='Go on with encoders that have seen the test part; every number is stamped.')
def command(prepared, **settings):
    """Train one head on what an audio and a text learner say, both frozen, on the folder PREPARED.

    Protocol, fold and seed are those of the audio learner unless given. Encoders that learned from what is tested are refused.
    --epochs above 0 adds a second stage that unfreezes them.
    """
    from ..systems import train_fusion
    train_fusion(prepared, say=click.echo, **settings)
