"""A hub on the loopback address, and repositories for it: what is published, with random weights.

The server speaks as much of the hub's protocol as huggingface_hub asks of it when it fetches files,
and can be told to fail. Repositories hold config.json as it is published, or smaller, weights under
the names that are published, and a vocabulary made here.
"""

from __future__ import annotations

import hashlib
import json
import threading
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import huggingface_hub
from huggingface_hub import constants

if TYPE_CHECKING:
    import pytest

MAIN = "f" * 40  # the commit of the default branch
TITLE = "Adding `safetensors` variant of this model"


class Hub(ThreadingHTTPServer):
    """Repositories by name; of each, folders by commit. `branches` leads from names to commits.

    cut: bytes after which a file's next connections break, one each. wrong: files that arrive with
    another byte. offers: numbers of the bot's pull requests. asked: what was fetched, in order.
    gated: repositories whose files are refused. busy: so many questions are put off.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, dict[str, Path]] = {}
        self.branches: dict[str, str] = {"main": MAIN}
        self.cut: dict[str, list[int]] = {}
        self.wrong: dict[str, int] = {}
        self.gone: set[str] = set()
        self.gated: set[str] = set()
        self.busy = 0
        self.offers: dict[str, list[int]] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def take_over(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Have huggingface_hub ask here, and keep what it fetches in a cache."""
        template = self.address + "/{repo_id}/resolve/{revision}/{filename}"
        for module in (constants, huggingface_hub.file_download):  # version 0 has copies there
            monkeypatch.setattr(module, "ENDPOINT", self.address, raising=False)
            monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
            monkeypatch.setattr(constants, name, str(cache), raising=False)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def __enter__(self) -> Hub:
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *given: object) -> None:
        """A reader that went away is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *given: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        if self.server.busy > 0:
            self.server.busy -= 1
            self._refuse(503, "Busy")
            return
        parts = [urllib.parse.unquote(p) for p in urllib.parse.urlsplit(self.path).path.split("/")]
        if len(parts) < 4:
            self._refuse(404, "")
        elif parts[1:3] == ["api", "models"]:
            self._about("/".join(parts[3:5]), parts[5:])
        elif parts[1] == "cdn":
            self._content("/".join(parts[2:4]), parts[4], parts[5], with_body)
        elif parts[3] == "resolve":
            self._file("/".join(parts[1:3]), parts[4], "/".join(parts[5:]), with_body)
        else:
            self._refuse(404, "RepoNotFound")

    def _about(self, repo: str, rest: list[str]) -> None:
        if repo not in self.server.repos:
            self._refuse(404, "RepoNotFound")
        elif rest[:1] == ["discussions"]:
            offers = [_offer(n, repo) for n in self.server.offers.get(repo, [])]
            self._json({"discussions": offers, "count": len(offers), "start": 0})
        elif (found := self._folder(repo, rest[1] if rest else "main")) is None:
            self._refuse(404, "RevisionNotFound")
        else:
            commit, folder = found
            siblings = [_sibling(path) for path in sorted(folder.iterdir())]
            self._json({"id": repo, "modelId": repo, "sha": commit, "siblings": siblings})

    def _folder(self, repo: str, revision: str) -> tuple[str, Path] | None:
        commit = self.server.branches.get(revision, revision)
        folder = self.server.repos[repo].get(commit)
        return None if folder is None else (commit, folder)

    def _file(self, repo: str, revision: str, name: str, with_body: bool) -> None:
        """A small file; for weights, the way to where they are, as the hub leads to its CDN."""
        found = self._folder(repo, revision) if repo in self.server.repos else None
        if found is None:
            self._refuse(404, "RevisionNotFound" if repo in self.server.repos else "RepoNotFound")
        elif repo in self.server.gated:
            self._refuse(401, "GatedRepo")
        elif not (found[1] / name).is_file() or name in self.server.gone:
            self._refuse(404, "EntryNotFound")
        elif "lfs" in (about := _sibling(found[1] / name)):
            self.send_response(302)
            headers = {"X-Repo-Commit": found[0], "X-Linked-Size": about["size"]}
            headers |= {"X-Linked-Etag": f'"{about["lfs"]["sha256"]}"', "Content-Length": 0}
            elsewhere = f"http://localhost:{self.server.server_port}/cdn"  # another host's name
            self._end(headers | {"Location": f"{elsewhere}/{repo}/{found[0]}/{name}"})
        else:
            self._content(repo, found[0], name, with_body)

    def _content(self, repo: str, commit: str, name: str, with_body: bool) -> None:
        path = self.server.repos[repo][commit] / name
        size, digest = path.stat().st_size, _sibling(path)["blobId"]
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        self.send_response(206 if start else 200)
        headers = {"ETag": f'"{digest}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        headers |= {"Content-Length": size - start}
        if start:
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
        self._end(headers)
        if with_body:
            self.server.asked.append(f"{name}[{start}:]" if start else name)
            self._send(path, name, start)

    def _send(self, path: Path, name: str, start: int) -> None:
        data = path.read_bytes()
        if self.server.wrong.get(name, 0) > 0:
            self.server.wrong[name] -= 1
            data = data[:-1] + bytes([data[-1] ^ 1])
        cuts = self.server.cut.get(name, [])
        end = start + cuts.pop(0) if cuts else None
        self.wfile.write(memoryview(data)[start:end])
        if end is not None:
            self.wfile.flush()
            self.close_connection = True

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self._end({"Content-Type": "application/json", "Content-Length": len(body)})
        self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self._end({"X-Error-Code": code, "X-Error-Message": code, "Content-Length": 0})

    def _end(self, headers: Mapping[str, object]) -> None:
        told = {"X-HF-Warning": "rate; You are sending unauthenticated requests."}
        for name, value in {**told, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()


_known: dict[tuple[Path, int, int], dict] = {}


def _sibling(path: Path) -> dict:
    """A file as the hub lists it: weights lie in LFS, and all else in git."""
    stat = path.stat()
    key = (path, stat.st_size, stat.st_mtime_ns)
    if key not in _known:
        data = path.read_bytes()
        git = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        _known[key] = {"rfilename": path.name, "size": len(data), "blobId": git}
        if path.suffix in (".safetensors", ".bin"):
            digest = hashlib.sha256(data).hexdigest()
            _known[key]["lfs"] = {"sha256": digest, "size": len(data), "pointerSize": 134}
    return _known[key]


def _offer(num: int, repo: str) -> dict:
    about = {"num": num, "title": TITLE, "author": {"name": "SFconvertbot"}, "isPullRequest": True}
    about |= {"status": "open", "createdAt": "2024-01-01T00:00:00.000Z", "pinned": False}
    return about | {"repo": {"name": repo, "type": "model"}, "repoOwner": {"name": "x"}}


# The published config.json, as far as it differs from what transformers takes for granted.
def config_of(name: str) -> dict:
    """config.json of a published checkpoint."""
    if name.startswith("openai/"):
        return _clip(large="large" in name, patch={"2": 32, "6": 16, "4": 14}[name[-1]])
    if name.startswith("Salesforce/"):
        return _blip(name)
    if name.startswith("google/"):
        text = {"hidden_size": 768, "intermediate_size": 3072, "model_type": "siglip_text_model"}
        text |= {"num_attention_heads": 12, "vocab_size": 32000}
        image = {"model_type": "siglip_vision_model", "patch_size": 16}
        about = {"architectures": ["SiglipModel"], "model_type": "siglip"}
        return about | {"text_config": text, "vision_config": image, "torch_dtype": "float32"}
    text = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 4096}
    text |= {"model_type": "llama", "rms_norm_eps": 1e-05, "vocab_size": 32064}
    image = {"hidden_size": 1024, "image_size": 336, "intermediate_size": 4096}
    image |= {"model_type": "clip_vision_model", "num_attention_heads": 16, "patch_size": 14}
    image |= {"num_hidden_layers": 24, "projection_dim": 768, "vocab_size": 32000}
    about = {"architectures": ["LlavaForConditionalGeneration"], "model_type": "llava"}
    about |= {"image_token_index": 32000, "pad_token_id": 32001, "projector_hidden_act": "gelu"}
    about |= {"vision_feature_layer": -2, "vision_feature_select_strategy": "default"}
    about |= {"tie_word_embeddings": False, "vocab_size": 32064, "torch_dtype": "float16"}
    return about | {"text_config": text, "vision_config": image, "ignore_index": -100}


def _clip(large: bool, patch: int) -> dict:
    shared, width, seen = (768, 768, 1024) if large else (512, 512, 768)
    text = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "hidden_act": "quick_gelu"}
    text |= {"hidden_size": width, "intermediate_size": 4 * width, "layer_norm_eps": 1e-05}
    text |= {"num_attention_heads": width // 64, "num_hidden_layers": 12, "projection_dim": shared}
    text |= {"vocab_size": 49408, "max_position_embeddings": 77, "model_type": "clip_text_model"}
    image = {"hidden_act": "quick_gelu", "hidden_size": seen, "intermediate_size": 4 * seen}
    image |= {"num_attention_heads": seen // 64, "num_hidden_layers": 24 if large else 12}
    image |= {"image_size": 224, "patch_size": patch, "projection_dim": shared}
    image |= {"model_type": "clip_vision_model", "layer_norm_eps": 1e-05}
    about = {"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": shared}
    about |= {"logit_scale_init_value": 2.6592, "text_config_dict": None}
    return about | {"text_config": text, "vision_config": image, "vision_config_dict": None}


def _blip(name: str) -> dict:
    kind = {"c": "ConditionalGeneration", "v": "QuestionAnswering", "i": "ImageTextRetrieval"}
    text = {"vocab_size": 30524, "hidden_size": 768, "intermediate_size": 3072, "sep_token_id": 102}
    text |= {"num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 512}
    text |= {"layer_norm_eps": 1e-12, "bos_token_id": 30522, "eos_token_id": 2, "pad_token_id": 0}
    text |= {"hidden_act": "gelu", "is_decoder": True, "use_cache": True, "projection_dim": 768}
    text |= {"model_type": "blip_text_model"}
    image = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12}
    image |= {"num_attention_heads": 12, "image_size": 384, "patch_size": 16, "hidden_act": "gelu"}
    image |= {"layer_norm_eps": 1e-05, "projection_dim": 512, "model_type": "blip_vision_model"}
    letter = name.removeprefix("Salesforce/blip-")
    letter = "c" if letter.startswith("image") else letter[0]
    about = {"architectures": [f"BlipFor{kind[letter]}"], "model_type": "blip"}
    about |= {"image_text_hidden_size": 256, "projection_dim": 512, "torch_dtype": "float32"}
    return about | {"text_config": text, "vision_config": image}


SMALL = {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2}
SMALL |= {"num_attention_heads": 4}


def smaller(name: str) -> dict:
    """The same config with a hundredth of the sizes: the ids of special tokens stay."""
    about = config_of(name)
    patch = 8
    about["text_config"] |= SMALL | {"projection_dim": 32}
    about["vision_config"] |= SMALL | {"image_size": 32, "patch_size": patch, "projection_dim": 32}
    if name.startswith("google/"):
        about["text_config"]["vocab_size"] = 120
    if name.startswith(("openai/", "Salesforce/")):
        about |= {"projection_dim": 24, "image_text_hidden_size": 24}
    if name.startswith("llava"):
        about["text_config"] |= {
            "num_key_value_heads": 4,
            "hidden_size": 64,
            "max_position_embeddings": 8192,
        }
    return about


CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]


def preprocessor_of(name: str, size: int) -> dict:
    """preprocessor_config.json of a published checkpoint, for pictures of a size."""
    about = {"do_normalize": True, "do_resize": True, "image_mean": CLIP_MEAN}
    about |= {"image_std": CLIP_STD, "resample": 3}
    if name.startswith("google/"):
        about |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": _sides(size)}
        return about | {"image_processor_type": "SiglipImageProcessor", "rescale_factor": 1 / 255}
    if name.startswith("Salesforce/blip-image"):
        return about | {"image_processor_type": "BlipImageProcessor", "size": size}
    if name.startswith("Salesforce/"):
        return about | {"image_processor_type": "BlipImageProcessor", "size": _sides(size)}
    if name.startswith("openai/"):
        about |= {"crop_size": size, "do_center_crop": True, "size": size}
        return about | {"feature_extractor_type": "CLIPFeatureExtractor"}
    about |= {"crop_size": _sides(size), "do_center_crop": True, "size": {"shortest_edge": size}}
    return about | {"image_processor_type": "CLIPImageProcessor", "rescale_factor": 1 / 255}


def _sides(size: int) -> dict:
    return {"height": size, "width": size}
