import click

from .options import protocol, training


@click.command('train-fusion')
@click.argument('prepared', type=click.Path())
@click.option('--audio', required=True, type=click.Path(), help='Run folder or learner.pkl of train-audio.')
@click.option('--text', required=True, type=click.Path(), help='Run folder or learner.pkl of train-text.')
@protocol(default=None, fold=None, seed=None)
@training
@click.option('--dropout', type=click.FloatRange(0, 1), default=0.5, show_default=True)
@click.option('--augment/--no-augment', default=True, show_default=True, help='SpecAugment and time shift.')
@click.option('--allow-leakage', is_flag=True, help='Go on with encoders that have seen the test part; every number is stamped.')
def command(prepared, **settings):
    """Train one head on the features of an audio and a text learner, both frozen, on the folder PREPARED.

    Protocol, fold and seed are those of the audio learner unless given. Encoders that learned from what is tested are refused.
    --epochs above 0 adds a second stage that unfreezes them.
    """
    from ..systems import train_fusion
    train_fusion(prepared, say=click.echo, **settings)
