"""Published checkpoints in our own classes.

    model, processor = pretrained.load("openai/clip-vit-base-patch32")
    model.encode_text(*processor.batch(["a photo of a cat"]))
    model.encode_image(pixels)  # (B, 3, H, W) in [0, 1], of any size

The model is a Clip, Siglip, Blip or Llava with the published weights; the processor stands where a
Tokenizer stands elsewhere. What is fetched goes to the cache of huggingface_hub, and its switches
(HF_HOME, HF_HUB_OFFLINE, HF_ENDPOINT) work. Only safetensors are opened, and no code that a
repository brings is run.

catalogue.py has what can be loaded, files.py fetches it, configs.py and processor.py read it under
transformers 4 and 5, loading.py puts it into a model.

Book: appendix/checkpoints.md.
"""

import importlib.util

if missing := [
    name for name in ("transformers", "huggingface_hub") if importlib.util.find_spec(name) is None
]:
    raise ImportError(
        f"published checkpoints need {' and '.join(missing)}: pip install {' '.join(missing)}"
    )

from vlmbook.pretrained.catalogue import CATALOGUE, Published
from vlmbook.pretrained.files import HubError
from vlmbook.pretrained.loading import load, load_processor
from vlmbook.pretrained.processor import Processor

__all__ = [
    "CATALOGUE",
    "HubError",
    "Processor",
    "Published",
    "load",
    "load_processor",
]
