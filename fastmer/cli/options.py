"Options and a progress bar that several commands share"
from contextlib import contextmanager

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
        click.option('--protocol', default=default, show_default=True, help='random, speaker, session, session+script, part or corpus.'),
        click.option('--fold', type=int, default=fold, show_default=True, help='Which fold is tested, from 1.'),
        click.option('--folds', type=int, help='How many folds the random (10) and speaker (5) protocols have.'),
        click.option('--test-corpus', help='In a joined folder: test this corpus, and learn from the others.'),
        click.option('--train-corpus', multiple=True, help='... or from this one alone; may be given again.'),
        click.option('--seed', type=click.IntRange(min=0), default=seed, show_default=True, help='Of the split and of the training.'))


training = stack(
    click.option('--out', type=click.Path(), help='Run folder.  [default: runs/<what is trained>]'),
    click.option('--overwrite', is_flag=True, help='Replace the run that the run folder holds.'),
    click.option('--recipe', type=click.Choice(['default', 'report']), default='default', show_default=True, help='Settings, by name.'),
    click.option('--head-epochs', type=click.IntRange(min=0), help='Epochs of stage 1, the head alone.  [default: the recipe\'s]'),
    click.option('--epochs', type=click.IntRange(min=0), help='Epochs of stage 2, everything.  [default: the recipe\'s]'),
    click.option('--bs', type=int, help='Batch size.  [default: the recipe\'s]'),
    click.option('--lr', type=Lr(), help='Peak learning rate, or auto: lr_find before each stage.  [default: the recipe\'s]'),
    click.option('--div', type=click.FloatRange(min=0, min_open=True),
                 help='Stage 2: how many times slower the first layers learn than the head.  [default: the recipe\'s]'),
    click.option('--patience', type=click.IntRange(min=1), help='End a stage after so many epochs without a better one on valid.'),
    click.option('--class-weights/--no-class-weights', default=True, show_default=True,
                 help='Weigh the loss by inverse label frequency; --bs 1 has nothing to weigh against.'),
    click.option('--soft-labels', is_flag=True,
                 help='Learn how raters voted, where the manifest knows; scores stay those against the label.'),
    click.option('--dimensions', metavar='NAMES',
                 help='Learn these columns too, such as valence,arousal,dominance, by their concordance correlation (CCC) in a batch.'),
    click.option('--classes/--no-classes', default=True, help='Learn the labels; without them --dimensions alone.'),
    click.option('--dimension-weight', type=click.FloatRange(min=0, min_open=True), default=1., show_default=True,
                 help='How often the loss of --dimensions counts, beside that of the labels.'),
    click.option('--device', help='cpu, cuda, cuda:1, mps.  [default: cuda where there is one, else cpu]'),
    click.option('--log-dir', type=click.Path(), help='Write TensorBoard logs there.'))


transcripts = stack(
    click.option('--transcripts', type=click.Choice(['gold', 'asr']), default='gold', show_default=True,
                 help='Words to learn from and choose by: as they were written down, or as fastmer transcribe heard them.'),
    click.option('--test-transcripts', type=click.Choice(['gold', 'asr']), help='Words of the test part.  [default: --transcripts]'))


class Share(click.ParamType):
    "`0.6`, or `error=0.1`: `('threshold', 0.6)` or `('error', 0.1)`"
    name = 'p|error=p'

    def convert(self, value, param, ctx):
        if not isinstance(value, str): return value
        kind, _, number = value.rpartition('=')
        try: share = float(number.rstrip('%'))/(100 if number.endswith('%') else 1)
        except ValueError: share = -1
        if kind in ('', 'error') and 0 <= share <= 1: return kind or 'threshold', share
        return self.fail(f'{value!r} is neither a confidence, such as 0.6, nor a wanted share of errors, such as error=0.1', param, ctx)


def several(f):
    "Options of commands that train every fold: whose own settings are passed on to the training commands"
    return stack(
        click.option('--system', type=click.Choice(['audio', 'text', 'fusion']), default='audio', show_default=True,
                     help='What to train; fusion trains its audio and text encoders too, fold by fold.'),
        click.option('--audio', multiple=True, metavar='NAME=VALUE', help='fusion: an option of train-audio, such as arch=alexnet.'),
        click.option('--text', multiple=True, metavar='NAME=VALUE', help='fusion: an option of train-text, such as arch=tiny.'),
        click.option('--out', type=click.Path(), help='Where everything goes.  [default: runs/<what is trained>]'),
        click.option('--overwrite', is_flag=True, help='Delete what --out holds, and begin anew.'),
        click.option('--folds', type=int, help='How many folds the random and speaker protocols have.  [default: 10 and 5; ladder: 5]'),
        click.option('--seeds', type=click.IntRange(min=1), default=1, show_default=True, help='How many seeds, from 0.'),
        click.option('--jobs', type=click.IntRange(min=1), default=1, show_default=True, help='Trainings at a time.'),
        click.argument('more', nargs=-1, type=click.UNPROCESSED, metavar='[OPTIONS OF train-SYSTEM]'))(f)


PASS_ON = dict(ignore_unknown_options=True)  # context settings of such a command
OURS = ('prepared', 'out', 'overwrite', 'protocol', 'fold', 'folds', 'seed', 'allow_leakage', 'log_dir', 'train_corpus',
        'test_corpus')  # set fold by fold


def training_settings(system, audio, text, more):
    "Arguments of `train_audio` and so on, from options: `more` those of `system` as typed, `audio` and `text` NAME=VALUE pairs"
    typed = {system: list(more)}
    for name, pairs in dict(audio=audio, text=text).items():
        if pairs and system != 'fusion' and name != system:
            raise click.UsageError(f'--{name} is for --system fusion; options of train-{system} are given as they are')
        typed.setdefault(name, [])
        typed[name] += [word for pair in pairs for word in _as_option(name, pair)]
    return {name: _parse(name, words) for name, words in typed.items()}


def _as_option(system, pair):
    name, equals, value = pair.partition('=')
    if not (name and equals): raise click.UsageError(f'--{system} {pair!r} is no NAME=VALUE pair, such as arch=alexnet')
    option = f'--{name.replace("_", "-")}'
    return [option, value] if value not in ('yes', 'no') else [option] if value == 'yes' else [option.replace('--', '--no-', 1)]


def _parse(system, words):
    "What the command `train-<system>` makes of `words`: only what was typed"
    from importlib import import_module
    command = import_module(f'.train_{system}', __package__).command
    runs = ['--audio', '-', '--text', '-'] if system == 'fusion' else []
    ctx = command.make_context(f'train-{system}', ['-', *runs, *words])
    given = {name: value for name, value in ctx.params.items()
             if ctx.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE and name not in ('prepared', 'audio', 'text')}
    if ours := [name for name in given if name in OURS]:
        raise click.UsageError(f'--{ours[0].replace("_", "-")} of train-{system} is not to be had here: each fold has its own')
    if 'clean' in given: given['clean'] = ctx.params['language']
    given.pop('language', None)
    return given


@contextmanager
def bar(what):
    "A function of a total that starts a bar on stderr and returns a function to call with the number done; nothing is drawn into a log"
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    console = Console(stderr=True)
    with Progress(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console, transient=True,
                  disable=not console.is_terminal) as shown:
        def progress(total):
            task = shown.add_task('', total=total)
            return lambda n: shown.advance(task, n)
        yield progress
