import click

from .options import protocol, training


@click.command('train-audio')
@click.argument('prepared', type=click.Path())
@click.option('--arch', default='resnet34', show_default=True, help='alexnet, resnet34, alexnet-report, any torchvision or timm name.')
@click.option('--weights', help='none, imagenet, or the file of a state dict.  [default: none; imagenet for --recipe report]')
@protocol()
@training
@click.option('--seconds', type=float, default=3., show_default=True, help='Width of the window that the network sees.')
@click.option('--crops', type=click.IntRange(min=1), default=3, show_default=True, help='Windows a clip that evaluation averages.')
@click.option('--resize', type=click.Choice(['crop', 'squish']), default='crop', show_default=True,
              help='How clips are brought to the window.')
@click.option('--augment/--no-augment', default=True, show_default=True, help='SpecAugment and time shift.')
def command(prepared, **settings):
    """Train a vision architecture on the spectrograms of the folder PREPARED.

    \b
    fastmer train-audio prepared/emodb --arch resnet34 --protocol speaker --fold 1
    fastmer train-audio prepared/emodb --arch resnet34 --weights imagenet
    """
    from ..systems import train_audio
    train_audio(prepared, say=click.echo, **settings)
