import click

from .options import Share


@click.command('predict')
@click.argument('learner', type=click.Path())
@click.argument('audio', nargs=-1, type=click.Path())
@click.option('--text', 'texts', multiple=True, help='The words; one for each recording, in their order.')
@click.option('--context', multiple=True, help='For a learner that was trained with it: a turn before --text, the earliest first.')
@click.option('--table', type=click.Path(), help='A CSV with columns audio, text or both, one row an utterance; context: a turn a line.')
@click.option('--same-speaker', is_flag=True,
              help='All AUDIO are of one speaker: a learner of --normalise speaker goes by them together. In a table: a column speaker.')
@click.option('--abstain-below', type=Share(),
              help='Answer unknown below this confidence; error=0.1: below the one that kept wrong answers on valid at 10 %.')
@click.option('--json', 'as_json', is_flag=True, help='One JSON object a line.')
@click.option('--device', default='cpu', show_default=True)
def command(learner, audio, texts, context, table, same_speaker, abstain_below, as_json, device):
    """Emotion of recordings AUDIO and words, with the LEARNER of a run folder.

    \b
    fastmer predict runs/audio/learner.pkl new.wav other.mp3
    fastmer predict runs/fusion new.wav --text "I never said that"
    fastmer predict runs/bert --text "Of course" --context "Did you take it?" --context "You did, did you not?"

    A recording that cannot be decoded is named on stderr, the others are answered; the exit code is then 1.
    """
    import json

    from rich.console import Console

    from ..export import load
    from ..predict import predict_all, utterances
    from ..report import predictions_table
    from ..training import find_device
    items, predictor = utterances(audio, texts, table, same_speaker, context), load(learner, find_device(device))
    answers = predict_all(predictor, items, predictor.threshold(abstain_below))
    for answer in answers:
        if 'error' in answer: click.secho(f'fastmer: {answer["error"]}', fg='red', err=True)
    if as_json: click.echo('\n'.join(json.dumps(answer, ensure_ascii=False) for answer in answers))
    elif good := [answer for answer in answers if 'error' not in answer]: Console().print(predictions_table(good))
    if any('error' in answer for answer in answers): raise click.exceptions.Exit(1)
