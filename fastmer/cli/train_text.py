import click

from .options import protocol, training, transcripts


@click.command('train-text')
@click.argument('prepared', type=click.Path())
@click.option('--arch', default='bert-base-uncased', show_default=True,
              help='Hugging Face encoder, by name or local folder; tiny: a small one from nothing.')
@click.option('--pool', type=click.Choice(['auto', 'pooler', 'mean', 'first']), default='auto', show_default=True,
              help='How tokens become one vector; auto: the pretrained pooler where there is one, else the mean.')
@click.option('--max-length', type=click.IntRange(min=4), default=128, show_default=True, help='Tokens that are kept of a transcript.')
@click.option('--clean', is_flag=True, help='Take off punctuation and stop words, lower-case and stem.')
@click.option('--language', default='english', show_default=True, help='Of --clean.')
@click.option('--lora', type=click.IntRange(min=0), default=0, metavar='RANK',
              help='Train adapters of this rank (8, say) and leave the encoder\'s own weights as they are; needs fastmer[peft].')
@click.option('--context', type=click.IntRange(min=0), default=0, show_default=True, metavar='K',
              help='Read each transcript with the K before it in its dialogue (by start, else by id), as far as --max-length allows.')
@protocol()
@transcripts
@training
def command(prepared, clean, language, **settings):
    """Fine-tune a Hugging Face encoder on the transcripts of the folder PREPARED.

    \b
    fastmer train-text prepared/iemocap --arch bert-base-uncased --protocol session+script --fold 1
    """
    from ..systems import train_text
    train_text(prepared, clean=language if clean else None, say=click.echo, **settings)
