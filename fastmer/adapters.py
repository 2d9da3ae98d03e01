"""LoRA (Hu et al., ICLR 2022) through `peft`: small matrices beside an encoder's projections are trained, its own weights are not

The adapters are put into the encoder itself, which keeps its class, its `config` and its attributes; a copy or a pickle of an `Adaptable`
has them merged into the weights, so that an exported learner needs no peft.
"""
import copy

from torch import nn

from .errors import FastmerError

TARGETS = {'wavlm': ('intermediate_dense', 'output_dense')}  # its attention reads weights past the adapters: model type -> what to adapt
PROJECTIONS = (('query', 'value'), ('q_proj', 'v_proj'), ('q_lin', 'v_lin'), ('q', 'v'), ('query_proj', 'value_proj'),
               ('linear_q', 'linear_v'))  # of attention: what families call them that peft's table does not hold


def find_targets(encoder):
    "Names of the linear layers of `encoder` to adapt: peft's own for its model type, attention's by their usual names, else all"
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as known
    kind = getattr(getattr(encoder, 'config', None), 'model_type', None)
    here = {name.rpartition('.')[2] for name, module in encoder.named_modules() if isinstance(module, nn.Linear)}
    for names in (TARGETS.get(kind), known.get(kind), *PROJECTIONS):
        if names and not isinstance(names, str) and set(names) <= here: return list(names)
    return 'all-linear'


def add_lora(encoder, rank, alpha=None, dropout=0.1):
    "Put adapters of `rank` into the Hugging Face `encoder`, in place, and freeze all else; they count `alpha/rank` times (`2*rank`)"
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError: raise FastmerError('--lora needs peft: pip install "fastmer[peft]"') from None
    if rank < 1: raise FastmerError(f'the rank of LoRA adapters must be at least 1, not {rank}')
    if has_lora(encoder): raise FastmerError('this encoder has LoRA adapters already: merge them first, with merge_lora')
    encoder.requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha or 2*rank, lora_dropout=dropout, target_modules=find_targets(encoder))
    return inject_adapter_in_model(config, encoder)


def has_lora(model): return any('lora_' in name for name, _ in model.named_parameters())


def learnable(model):
    "`(name, parameter)` of what a fine-tuning of `model` may change: its adapters where it has some, else everything"
    named = list(model.named_parameters())
    return [(name, p) for name, p in named if 'lora_' in name] or named


def merge_lora(model):
    "Add what the adapters of `model` learned to the weights that they stand beside, in place, and take them out; `model` comes back"
    if not has_lora(model): return model
    from peft.tuners.tuners_utils import BaseTunerLayer
    for name, layer in [(name, m) for name, m in model.named_modules() if isinstance(m, BaseTunerLayer)]:
        layer.merge()
        parent, _, child = name.rpartition('.')
        setattr(model.get_submodule(parent), child, layer.get_base_layer())
    for module in model.modules(): module.__dict__.pop('peft_config', None)
    return model.requires_grad_(True)


class Adaptable(nn.Module):
    "A module whose children may hold LoRA adapters; in its copies and pickles they are merged"
    def __getstate__(self):
        if not has_lora(self): return self.__dict__.copy()
        return self.__dict__ | dict(_modules={name: merge_lora(copy.deepcopy(child)) for name, child in self._modules.items()})
