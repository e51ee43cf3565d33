"""Finding the picture that a text means, and the text that a picture shows.

Q queries, G items of the gallery that is searched. scores (Q, G) are similarities, higher is
better. Book: clip/measured.md.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vlmbook import world

# Scenes are drawn until enough differ; a fifth of them are doubles in the smallest world.
DRAWN_AT_ONCE = 500


def ranks(scores: Tensor, relevant: Tensor | None = None) -> Tensor:
    """Where each query finds the first item that is relevant to it: (Q,), 1 is the top.

    relevant (Q, G) bool; left out, item i is the only one for query i. An irrelevant item with the
    same score is put first, so that a model that gives the same score to all is last, not first.
    Raises ValueError for a query without a relevant item.
    """
    if relevant is None:
        if scores.dim() != 2 or scores.shape[0] != scores.shape[1]:
            raise ValueError(
                f"scores of shape {tuple(scores.shape)} don't pair queries with items; pass"
                " relevant (Q, G), or a square table"
            )
        relevant = scores.new_zeros(scores.shape).fill_diagonal_(1).bool()
    if relevant.shape != scores.shape:
        raise ValueError(
            f"relevant has shape {tuple(relevant.shape)}, and scores {tuple(scores.shape)}; say of"
            " each item whether it is relevant to each query"
        )
    if not relevant.any(1).all():
        query = int((~relevant.any(1)).nonzero()[0])
        raise ValueError(f"query {query} has no relevant item; leave it out of the queries")
    if not scores.isfinite().all():
        raise ValueError("scores hold numbers that are not finite; look at the embeddings")
    best = scores.masked_fill(~relevant, -float("inf")).amax(1, keepdim=True)
    return 1 + ((scores >= best) & ~relevant).sum(1)


def recall(ranks: Tensor, k: int = 1) -> Tensor:
    """Which queries (Q,) find a relevant item among the first k; evaluate.accuracy takes it."""
    if k < 1:
        raise ValueError(f"k {k} is not a number of items; use 1 or more")
    return ranks <= k


def rerank(scores: Tensor, judge: Callable[[Tensor, Tensor], Tensor], k: int = 16) -> Tensor:
    """Scores (Q, G) in which the k best items of each query are put in the order of a judge.

    judge(rows, columns) looks at pairs (n,) of a query and an item, and gives their scores (n,);
    it is asked about each query's k at once. All other items stay behind these, as they were.

    Li et al. 2022, section 5.1. Book: blip.md.
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k {k} is not a number of items, 1 to {scores.shape[1]}")
    best = scores.topk(k, dim=1).indices
    judged = torch.stack([judge(torch.full_like(own, q), own) for q, own in enumerate(best)])
    behind = scores - scores.max() + judged.min() - 1
    return behind.scatter(1, best, judged.to(behind.dtype))


def full_description(scene: world.Scene) -> tuple[tuple[str, ...], ...]:
    """All that a full caption without relations says of a scene, whatever the order of things."""
    return tuple(sorted((o.size, o.color, o.material, o.shape) for o in scene.objects))


def gallery(
    num: int,
    preset: str = "full",
    split: str = "test",
    num_objects: int | tuple[int, int] = (2, 3),
    seed: int = 0,
) -> list[world.Scene]:
    """Scenes to search through, no two of which a full description leaves alike.

    Raises ValueError where the world has fewer.
    """
    found: dict[tuple, world.Scene] = {}
    start = 0
    while len(found) < num:
        drawn = world.sample(
            DRAWN_AT_ONCE, preset, split, seed, num_objects=num_objects, start=start
        )
        before = len(found)
        for scene in drawn:
            found.setdefault(full_description(scene), scene)
        start += len(drawn)
        if len(found) == before:
            raise ValueError(
                f"split {split!r} of preset {preset!r} has about {before} different descriptions of"
                f" {num_objects} objects, not {num}; ask for fewer"
            )
    return list(found.values())[:num]
