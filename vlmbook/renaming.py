"""Weights that carry other names elsewhere: rename them, and fill a model with all of them.

Book: clip.md, blip.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

Place = Callable[[str, Tensor], Tensor]
Names = Sequence[tuple[str, str]]  # a piece of our name, and what they write for it
# Inside a block of transformers' CLIP, which is also LLaVA's eye.
CLIP_BLOCK: Names = (
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".attention.query.", ".self_attn.q_proj."),
    (".attention.key.", ".self_attn.k_proj."),
    (".attention.value.", ".self_attn.v_proj."),
    (".attention.out.", ".self_attn.out_proj."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.2.", ".mlp.fc2."),
)


def theirs(name: str, names: Names) -> str:
    """Our name of a weight as they call it."""
    for our, their in names:
        name = name.replace(our, their)
    return name


def ours(name: str, names: Names) -> str:
    """Their name of a weight as we call it."""
    return theirs(name, [(their, our) for our, their in names])


def fill(
    model: nn.Module,
    state: Mapping[str, Tensor],
    called: Callable[[str], str] = str,
    place: Place | None = None,
) -> None:
    """Load weights under our names, all of them and no others; called says how they call one.

    place makes of each weight, by name, the tensor that the model is to hold, say in another type
    or on another device; left out, the model's own tensors take the values. Raises ValueError that
    names the first weight that does not fit; the model is as it was then.
    """
    wanted = model.state_dict()
    for name, value in wanted.items():
        found = state.get(name)
        if found is None or found.shape != value.shape:
            is_so = "is missing" if found is None else f"has shape {tuple(found.shape)}"
            raise ValueError(
                f"these are weights of another model: {called(name)} {is_so}, where this one takes"
                f" {tuple(value.shape)}; build a model as the weights' own config describes it"
            )
    if extra := [name for name in state if name not in wanted]:
        raise ValueError(
            f"these are weights of another model: this one has no place for {called(extra[0])};"
            " build a model as the weights' own config describes it"
        )
    if place is not None:
        state = {name: place(name, value) for name, value in state.items()}
    model.load_state_dict(state, assign=place is not None)
