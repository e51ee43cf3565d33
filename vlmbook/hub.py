"""A page's section with a real checkpoint: run where that is wanted, else shown from its record.

A page writes what it asks of a checkpoint as a function that returns what JSON can hold, numbers
and texts by name, and hands it to Section.run. VLMBOOK_HUB decides: 0, the default, does not run
it; 1 does; and auto does where there is a GPU and the hub answers. With VLMBOOK_HUB_RECORD=1 what
came out is kept, in vlmbook/results/checkpoints/, for builds that don't run it.

Book: appendix/checkpoints.md.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from vlmbook.pretrained import Processor
    from vlmbook.world import Scene

SETTING, RECORD = "VLMBOOK_HUB", "VLMBOOK_HUB_RECORD"
CHOICES = ("0", "1", "auto")
RECORDS = Path(__file__).parent / "results" / "checkpoints"
CLIP16, CLIP32 = "openai/clip-vit-base-patch16", "openai/clip-vit-base-patch32"
CLIP14, SIGLIP = "openai/clip-vit-large-patch14", "google/siglip-base-patch16-224"
WRITER, JUDGE = "Salesforce/blip-image-captioning-base", "Salesforce/blip-itm-base-coco"
ANSWERER, LLAVA = "Salesforce/blip-vqa-base", "llava-hf/llava-1.5-7b-hf"
SECTIONS = {  # which checkpoints the section of each page loads
    "concepts/processing": (CLIP32, WRITER, SIGLIP),  # their words alone
    "clip": (CLIP32, SIGLIP),
    "clip/measured": (CLIP32, CLIP14),
    "clip/space": (CLIP32, CLIP14, SIGLIP),
    "clip/limits": (CLIP32, CLIP14, SIGLIP),
    "blip": (WRITER, JUDGE),
    "blip/answers": (ANSWERER,),
    "attention/maps": (CLIP16, CLIP32),
    "llava/conversation": (LLAVA,),
    "applications/search": (CLIP32,),
    "comparison": (CLIP32, SIGLIP, JUDGE, ANSWERER, LLAVA),
}
AT_ONCE = 100  # scenes or texts in one call


def wanted(gpu: bool | None = None) -> bool:
    """Whether pages load real checkpoints here. gpu is whether there is one; left out, torch says.

    Raises ValueError for a setting that does not exist.
    """
    setting = _setting()
    if setting not in CHOICES:
        raise ValueError(f"{SETTING} is {setting!r}; set it to one of {', '.join(CHOICES)}")
    if setting != "auto":
        return setting == "1"
    return (has_gpu() if gpu is None else gpu) and _answers()


def recording() -> bool:
    """Whether what comes out is kept."""
    return os.environ.get(RECORD) == "1"


def has_gpu() -> bool:
    """Whether torch can use one."""
    import torch

    return torch.cuda.is_available()


class Section:
    """One section, by the name of its record.

    found is what came out, here or when it was recorded, and about says where and when; a section
    is false where there is neither.
    """

    def __init__(self, name: str) -> None:
        self.name, self.found, self.about = name, None, {}

    def __bool__(self) -> bool:
        return self.found is not None

    def items(self) -> Iterable[tuple[str, Any]]:
        """What came out, by name; nothing, where nothing did."""
        return (self.found or {}).items()

    def run(self, ask: Callable[[], dict[str, Any]], gpu: bool = False) -> Section:
        """Run ask() where pages load checkpoints, or read its record; say which.

        gpu: it needs one, and does not run without. A checkpoint that can't be had is no error: the
        reason is said.
        """
        path, why = RECORDS / f"{self.name}.json", f"{SETTING} is {_setting()}"
        if wanted():
            why = "it needs a GPU" if gpu and not has_gpu() else self._run(ask)
        if self.found is not None:
            print(f"ran here, on {self.about['device']}")
            if recording():
                path.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps({**self.about, "found": self.found}, ensure_ascii=False, indent=1)
                path.write_text(text + "\n", "utf8")
        elif path.is_file():
            self.about = json.loads(path.read_text("utf8"))
            self.found = self.about.pop("found")
            print(f"recorded on {self.about['date']}, on {self.about['device']}")
        else:
            print(f"not run ({why}), and there is no record")
        for line in self.about.get("loaded", []):
            print(f"    {line}")
        return self

    def _run(self, ask: Callable[[], dict[str, Any]]) -> str:
        """Ask, and note what was loaded; why nothing came out, if nothing did."""
        try:
            from vlmbook import checkpoint, pretrained
        except ImportError as error:
            return str(error)
        said = io.StringIO()  # load() says what it loads
        try:
            with contextlib.redirect_stdout(said):
                found = ask()
        except pretrained.HubError as error:
            return str(error)
        self.found, self.about = found, checkpoint.provenance([0])
        self.about["command"] = f"{SETTING}=1 {RECORD}=1 make book"
        self.about["transformers"] = importlib.metadata.version("transformers")
        self.about["loaded"] = said.getvalue().splitlines()
        return ""


def embed(
    model: nn.Module,
    processor: Processor,
    scenes: Sequence[Scene],
    texts: Sequence[str],
    size: int = 224,
) -> tuple[Tensor, Tensor]:
    """image_emb (B, E) of scenes, rendered size pixels wide, and text_emb (B', E) of texts.

    Both on the CPU, and empty where there are none; model and processor are as pretrained.load
    gives them.
    """
    import torch

    from vlmbook import world

    with torch.no_grad():
        images = [
            model.encode_image(world.render(scenes[n : n + AT_ONCE], size).pixels).cpu()
            for n in range(0, len(scenes), AT_ONCE)
        ]
        read = [
            model.encode_text(*processor.batch(texts[n : n + AT_ONCE])).cpu()
            for n in range(0, len(texts), AT_ONCE)
        ]
    none = torch.empty(0, 0)
    return torch.cat(images or [none]), torch.cat(read or [none])


def photographs() -> dict[str, Tensor]:
    """Four photographs that scikit-image ships, by what they show: pixels (1, 3, H, W) in [0, 1].

    A cat (Stéfan van der Walt), the astronaut Eileen Collins (NASA), a cup of coffee (Rachel
    Michetti, courtesy of Pikolo Espresso Bar) and the launch of a rocket (SpaceX): CC0, or in the
    public domain.
    """
    from skimage import data

    from vlmbook import images

    shown = {
        "a cat": data.chelsea,
        "an astronaut": data.astronaut,
        "a cup of coffee": data.coffee,
        "a rocket": data.rocket,
    }
    return {name: images.open_rgb(photograph())[None] for name, photograph in shown.items()}


def _setting() -> str:
    return os.environ.get(SETTING) or "0"


def _answers() -> bool:
    """Whether the hub answers, whatever it says."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return False
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        request = urllib.request.Request(address, method="HEAD")
        with urllib.request.urlopen(request, timeout=5):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
