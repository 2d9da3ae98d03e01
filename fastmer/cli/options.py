"Options that several commands share"
import click


def stack(*options):
    "One decorator out of several"
    def decorate(f):
        for option in reversed(options): f = option(f)
        return f
    return decorate


class Lr(click.ParamType):
    name = 'auto|value'

    def convert(self, value, param, ctx):
        if value == 'auto': return value
        try: rate = float(value)
        except ValueError: rate = 0
        return rate if rate > 0 else self.fail(f'{value!r} is neither auto nor a number above 0', param, ctx)


def protocol(default='speaker', fold=1, seed=0):
    "`--protocol --fold --seed --folds`; with `None` as defaults they are those of the encoders"
    return stack(
        click.option('--protocol', default=default, show_default=True, help='random, speaker, session, session+script or part.'),
        click.option('--fold', type=int, default=fold, show_default=True, help='Which fold is tested, from 1.'),
        click.option('--folds', type=int, help='How many folds the random (10) and speaker (5) protocols have.'),
        click.option('--seed', type=click.IntRange(min=0), default=seed, show_default=True, help='Of the split and of the training.'))


training = stack(
    click.option('--out', type=click.Path(), help='Run folder.  [default: runs/<what is trained>]'),
    click.option('--overwrite', is_flag=True, help='Replace the run that the run folder holds.'),
    click.option('--recipe', type=click.Choice(['default', 'report']), default='default', show_default=True, help='Settings, by name.'),
    click.option('--head-epochs', type=click.IntRange(min=0), help='Epochs of stage 1, the head alone.  [default: the recipe\'s]'),
    click.option('--epochs', type=click.IntRange(min=0), help='Epochs of stage 2, everything.  [default: the recipe\'s]'),
    click.option('--bs', type=int, help='Batch size.  [default: the recipe\'s]'),
    click.option('--lr', type=Lr(), help='Peak learning rate, or auto: lr_find before each stage.  [default: the recipe\'s]'),
    click.option('--patience', type=click.IntRange(min=1), help='End a stage after so many epochs without a better one on valid.'),
    click.option('--class-weights/--no-class-weights', default=True, show_default=True, help='Weigh the loss by inverse label frequency.'),
    click.option('--device', help='cpu, cuda, cuda:1, mps.  [default: a GPU if there is one]'),
    click.option('--log-dir', type=click.Path(), help='Write TensorBoard logs there.'))
