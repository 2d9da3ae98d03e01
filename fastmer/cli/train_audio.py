import click

from .options import protocol, training


@click.command('train-audio')
@click.argument('prepared', type=click.Path())
@click.option('--arch', default='resnet34', show_default=True,
              help='alexnet, resnet34, any torchvision or timm name; or the folder or hub name of a speech encoder.')
@click.option('--weights', help='none, imagenet, or the file of a state dict.  [default: none; imagenet for --recipe report]')
@protocol()
@training
@click.option('--seconds', type=float,
              help='Width of the window that the network sees.  [default: 3; 8 in training for speech encoders]')
@click.option('--crops', type=click.IntRange(min=1), default=3, show_default=True, help='Windows a clip that evaluation averages.')
@click.option('--resize', type=click.Choice(['crop', 'squish']), default='crop', show_default=True,
              help='How clips are brought to the window.')
@click.option('--augment/--no-augment', default=True, show_default=True,
              help='SpecAugment and time shift; speed and noise for speech encoders.')
@click.option('--normalise', type=click.Choice(['corpus', 'speaker']), help='Speech encoders: by whose recordings.  [default: corpus]')
@click.option('--pool', type=click.Choice(['mean', 'attentive']), default='mean', show_default=True,
              help='Speech encoders: how frames become one vector.')
@click.option('--hidden', type=click.IntRange(min=0), default=0, show_default=True,
              help='Speech encoders: width of a hidden layer in the head, 0 for none.')
@click.option('--lora', type=click.IntRange(min=0), default=0, show_default=True,
              help='Speech encoders: rank of LoRA adapters to train in place of the encoder, 0 for none.')
@click.option('--cache/--no-cache', default=True, show_default=True, help='Speech encoders: keep what the frozen encoder says on disk.')
def command(prepared, **settings):
    """Train a picture network on the spectrograms of the folder PREPARED, or a speech encoder on its recordings.

    \b
    fastmer train-audio prepared/emodb --arch resnet34 --protocol speaker --fold 1
    fastmer train-audio prepared/emodb --arch resnet34 --weights imagenet
    fastmer train-audio prepared/emodb --arch microsoft/wavlm-base-plus
    fastmer train-audio prepared/emodb --arch openai/whisper-tiny --epochs 0 --normalise speaker
    """
    from ..systems import train_audio
    train_audio(prepared, say=click.echo, **settings)
