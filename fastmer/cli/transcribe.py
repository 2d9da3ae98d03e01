import click


@click.command('transcribe')
@click.argument('prepared', type=click.Path())
@click.option('--model', default='openai/whisper-tiny', show_default=True,
              help='Hub name or local folder of a Whisper, or of a model with a CTC head (wav2vec 2.0, HuBERT, WavLM).')
@click.option('--language', help='Of all recordings, such as en.  [default: each utterance\'s own; found by the model where it has none]')
@click.option('--bs', type=click.IntRange(min=1), default=8, show_default=True, help='Recordings at a time.')
@click.option('--device', help='cpu, cuda, cuda:1, mps.  [default: a GPU if there is one]')
@click.option('--overwrite', is_flag=True, help='Transcribe what the same model has transcribed already, too.')
def command(prepared, **settings):
    """Write what a speech recogniser hears in the recordings of the folder PREPARED to PREPARED/transcripts.csv.

    \b
    fastmer transcribe prepared/iemocap --model openai/whisper-base
    fastmer train-text prepared/iemocap --transcripts asr

    The gold text stays as it is; --transcripts of train-text and train-fusion says which of the two to take. Run again what was stopped: it
    goes on. A second run does only recordings that are new or have changed, and those that could not be read.
    """
    from ..transcribe import transcribe_prepared
    from .options import bar
    with bar('transcribing') as progress: made = transcribe_prepared(prepared, progress=progress, say=click.echo, **settings)
    without = f', {made["no_audio"]} without a recording' if made['no_audio'] else ''
    failed = f', {len(made["failed"])} could not be read' if made['failed'] else ''
    wer = '' if made['wer'] is None else f' · word error rate {made["wer"]:.3f} against the gold text'
    click.echo(f'{made["utterances"]} recordings, {made["now"]} transcribed now{failed}{without}{wer} -> {made["path"]}')
