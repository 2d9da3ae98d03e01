import click

from .options import protocol, training


@click.command('train-text')
@click.argument('prepared', type=click.Path())
@click.option('--arch', default='bert-base-uncased', show_default=True,
              help='Hugging Face encoder, by name or local folder; tiny: a small one from nothing.')
@click.option('--pool', type=click.Choice(['pooler', 'mean']), default='pooler', show_default=True, help='How tokens become one vector.')
@click.option('--max-length', type=click.IntRange(min=4), default=128, show_default=True, help='Tokens that are kept of a transcript.')
@click.option('--clean', is_flag=True, help='Take off punctuation and stop words, lower-case and stem.')
@click.option('--language', default='english', show_default=True, help='Of --clean.')
@protocol()
@training
def command(prepared, clean, language, **settings):
    """Fine-tune a Hugging Face encoder on the transcripts of the folder PREPARED.

    \b
    fastmer train-text prepared/iemocap --arch bert-base-uncased --protocol session+script --fold 1
    """
    from ..systems import train_text
    train_text(prepared, clean=language if clean else None, say=click.echo, **settings)
