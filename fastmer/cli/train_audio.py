import click

from .options import protocol, training


class Numbers(click.ParamType):
    "Several numbers with commas between them, the kinds of which are `kinds`"
    def __init__(self, name, example, kinds): self.name, self.example, self.kinds = name, example, kinds

    def convert(self, value, param, ctx):
        if not isinstance(value, str): return value
        try: return tuple(kind(number) for kind, number in zip(self.kinds, value.split(','), strict=True))
        except ValueError: self.fail(f'{value!r} is not {self.name.upper()}, such as {self.example}', param, ctx)


@click.command('train-audio')
@click.argument('prepared', type=click.Path())
@click.option('--arch', default='resnet34', show_default=True,
              help='alexnet, resnet34, any torchvision or timm name; or the folder or hub name of a speech encoder.')
@click.option('--weights', help='none, imagenet, or the file of a state dict.  [default: none; imagenet for --recipe report]')
@protocol()
@training
@click.option('--seconds', type=click.FloatRange(0, min_open=True),
              help='Width of the window that the network sees.  [default: 3; 8 in training for speech encoders]')
@click.option('--crops', type=click.IntRange(min=1), default=3, show_default=True, help='Windows a clip that evaluation averages.')
@click.option('--resize', type=click.Choice(['crop', 'squish']), default='crop', show_default=True,
              help='How clips are brought to the window.')
@click.option('--augment/--no-augment', default=True, show_default=True,
              help='SpecAugment and time shift; for speech encoders what --perturb says.')
@click.option('--specaugment', type=Numbers('n,rows,columns', '2,0.12,0.12', (int, float, float)), default='2,0.12,0.12', show_default=True,
              help='Picture networks: how many bands and stretches of time are blanked out, and how wide each may be, as shares.')
@click.option('--perturb', type=Numbers('speed,noise,gain', '0.1,15,6', (float, float, float)), default='0.1,15,0', show_default=True,
              help='Speech encoders: how much faster or slower half of the training clips become, as a share; how many dB below a clip '
                   'white noise begins; and by how many dB its level changes.')
@click.option('--min-scale', type=click.FloatRange(0, 1, min_open=True),
              help='Speech encoders: the least share of a clip that a random part of it has in training.  [default: 0.4; 1 with --views 0]')
@click.option('--views', type=click.IntRange(min=0),
              help='Speech encoders: how often the frozen one hears each clip changed at random (--min-scale, --perturb), beside the clip '
                   'itself, for the head to learn from in stage 1.  [default: 3; 0 with --pool attentive or --no-augment]')
@click.option('--normalise', type=click.Choice(['utterance', 'corpus', 'speaker']),
              help='By whose recordings; speaker takes the unlabelled ones of the test speakers too, and a new recording is then '
                   'normalised by corpus.  [default: utterance; corpus for speech encoders]')
@click.option('--label-smoothing', type=click.FloatRange(0, 1, max_open=True),
              help='Share of each label that is spread over all labels.  [default: 0; 0.1 for speech encoders]')
@click.option('--mixup', type=click.FloatRange(min=0), default=0., show_default=True,
              help='Picture networks: blend pairs of clips, by Beta(A, A), such as 0.4; 0 for none.')
@click.option('--cutmix', type=click.FloatRange(min=0), default=0., show_default=True,
              help='Picture networks: put a stretch of time of another clip in, by Beta(A, A), such as 1; 0 for none.')
@click.option('--balance', is_flag=True,
              help='Picture networks: draw clips of every label equally often, in place of the weighted loss.')
@click.option('--pool', type=click.Choice(['mean', 'attentive']), default='mean', show_default=True,
              help='Speech encoders: how frames become one vector.')
@click.option('--layers', type=click.Choice(['sum', 'concat']),
              help='Speech encoders: what the head is given of the layers, their weighted sum or all of them side by side.  '
                   '[default: concat]')
@click.option('--hidden', type=click.IntRange(min=0), default=0, show_default=True,
              help='Speech encoders: width of a hidden layer in the head, 0 for none.')
@click.option('--lora', type=click.IntRange(min=0), default=0, show_default=True,
              help='Speech encoders: rank of LoRA adapters to train in place of the encoder, 0 for none.')
@click.option('--refit', is_flag=True, help='Once valid is predicted, train anew on train and valid together, for all epochs; test that.')
@click.option('--cache/--no-cache', default=True, show_default=True, help='Speech encoders: keep what the frozen encoder says on disk.')
def command(prepared, **settings):
    """Train a picture network on the spectrograms of the folder PREPARED, or a speech encoder on its recordings.

    \b
    fastmer train-audio prepared/emodb --arch resnet34 --protocol speaker --fold 1
    fastmer train-audio prepared/emodb --arch resnet34 --weights imagenet
    fastmer train-audio prepared/emodb --arch resnet34 --normalise speaker
    fastmer train-audio prepared/emodb --arch microsoft/wavlm-base-plus
    fastmer train-audio prepared/emodb --arch openai/whisper-tiny --epochs 0 --normalise speaker
    """
    from ..systems import train_audio
    train_audio(prepared, say=click.echo, **settings)
