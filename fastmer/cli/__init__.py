"""The commands, one file each; a command's body is one call of a public function, and what is heavy is imported inside it

Errors that a user can mend are one sentence on stderr and exit code 1 (2 for a wrong option, as click has it).
"""
import errno
import os
import sys
import warnings
from contextlib import contextmanager
from importlib import import_module

import click

from .._version import __version__
from ..errors import FastmerError, did_you_mean

COMMANDS = {  # name: what `fastmer --help` says of it
    'demo': 'Train all five systems on the bundled synthetic corpus.',
    'check': 'Which sound files cannot be decoded, and what ails the rest.',
    'prepare': 'Corpus on disk -> folder of spectrograms and a manifest.',
    'join': 'Prepared folders of several corpora -> one.',
    'show': 'What a prepared folder holds, in tables and pictures.',
    'split': 'Who would be trained on, watched and tested.',
    'audit': 'What leaks from training to test under a protocol.',
    'transcribe': 'Recordings -> words, by a speech recogniser.',
    'train-audio': 'Train a vision architecture on spectrograms.',
    'train-text': 'Fine-tune a text encoder on transcripts.',
    'train-fusion': 'Train one head on an audio and a text learner.',
    'evaluate': 'Scores, tables and plots of runs, side by side.',
    'tune': 'Search settings on valid alone; resumable.',
    'cross-validate': 'All folds of a protocol, pooled; resumable.',
    'ladder': 'One system under protocols that leak less and less.',
    'compare': 'Is one run better than another on the same utterances?',
    'fusion-gain': 'Does fusion beat its better half?',
    'report': 'Runs as one self-contained HTML page.',
    'predict': 'Emotion of new recordings and words.',
}


class Commands(click.Group):
    "Loads a command's module when it is called for, and turns `FastmerError` into one sentence"
    def list_commands(self, ctx): return list(COMMANDS)

    def get_command(self, ctx, name):
        if name not in COMMANDS: return None
        return import_module(f'.{name.replace("-", "_")}', __name__).command

    def resolve_command(self, ctx, args):
        if args and args[0] not in COMMANDS and not args[0].startswith('-'):
            raise click.UsageError(f'there is no command {args[0]!r}{did_you_mean(args[0], COMMANDS)}; fastmer --help lists them', ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx, formatter):
        with formatter.section('Commands'): formatter.write_dl(list(COMMANDS.items()))

    def make_context(self, *args, **kwargs):
        with one_sentence(): return super().make_context(*args, **kwargs)

    def invoke(self, ctx):
        with one_sentence(): return super().invoke(ctx)


class Sentence(click.ClickException):
    "One sentence on stderr and an exit code"
    def __init__(self, message, exit_code=1):
        super().__init__(' '.join(str(message).split()))
        self.exit_code = exit_code

    def show(self, file=None): click.secho(f'fastmer: {self.message}', fg='red', err=True)


@contextmanager
def one_sentence():
    "What a user can mend becomes a `Sentence`: 1 for input and disk, 2 for how the command was called"
    try: yield
    except FastmerError as e: raise Sentence(e) from e
    except click.exceptions.NoArgsIsHelpError: raise
    except click.UsageError as e: raise Sentence(e.format_message(), e.exit_code) from e
    except OSError as e:
        if not e.strerror or e.errno == errno.EPIPE: raise  # a closed pipe is click's to handle
        raise Sentence(f'{e.filename or "a file"} cannot be read or written: {e.strerror}') from e
    except KeyboardInterrupt: raise Sentence('stopped') from None


@click.group(cls=Commands, context_settings=dict(help_option_names=['-h', '--help'], max_content_width=110))
@click.version_option(__version__, prog_name='fastmer')
def main():
    "Transfer learning for multimodal speech emotion recognition, with scores that can be believed."
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')  # threads that spin cost 6 times the time where another process has a core
    warnings.filterwarnings('ignore', message='.*torch.jit.script. is deprecated', category=FutureWarning)   # torchvision's own use of it
    warnings.filterwarnings('ignore', message='.*mode.chained_assignment', category=DeprecationWarning)      # fastai.tabular's
    os.environ.setdefault('PYTHONWARNINGS', 'ignore::FutureWarning:torch.jit._script')                        # ... in workers
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, 'reconfigure'): stream.reconfigure(errors='replace')
