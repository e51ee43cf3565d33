import json

import numpy as np
import pytest
from PIL import Image

from vlmbook import own_data


def picture(path, shade, size=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size, size, 3), shade, np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Ten pictures, and a way to write their captions."""
    for n in range(10):
        picture(tmp_path / "pictures" / f"{n}.png", 20 * n)
    return tmp_path


def told(n, **more):
    return {"file_name": f"pictures/{n}.png", "text": f"caption {n}", **more}


def write_json(folder, rows, name="metadata.jsonl"):
    (folder / name).write_text("\n".join(map(json.dumps, rows)) + "\n", "utf8")


def write_table(folder, name, rows, between=","):
    (folder / name).write_text("\n".join(between.join(row) for row in rows) + "\n", "utf8")


def test_each_format_says_the_same(folder):
    write_json(folder, [told(n) for n in range(10)])
    first = own_data.read(folder)
    (folder / "metadata.jsonl").unlink()
    for name, head, between in (
        ("metadata.csv", ["file_name", "text"], ","),
        ("captions.csv", ["image", "caption"], ","),
        ("captions.tsv", ["caption", "image"], "\t"),
    ):
        rows = [[f"pictures/{n}.png", f"caption {n}"] for n in range(10)]
        if head[0] == "caption":
            rows = [row[::-1] for row in rows]
        write_table(folder, name, [head, *rows], between)
        assert own_data.read(folder) == first, name
        (folder / name).unlink()
    assert first.pictures == [folder / "pictures" / f"{n}.png" for n in range(10)]
    assert first.captions == [[f"caption {n}"] for n in range(10)]
    assert len(first.rows("val")) == 1 and len(first.rows("train")) == 9 and not first.remarks


def test_a_picture_has_all_its_captions_and_keeps_its_side(folder):
    rows = [told(n) for n in range(10)] + [told(3) | {"text": "three"}, told(3)]
    rows.append(told(4) | {"text": ["four", " caption 4 ", "a four"]})
    write_json(folder, rows)
    data = own_data.read(folder)
    assert data.captions[3] == ["caption 3", "three"]
    assert data.captions[4] == ["caption 4", "four", "a four"]
    assert list(data.remarks.found) == ["same caption of the same picture, taken once"]
    held_out = {data.pictures[row].name for row in data.rows("val")}
    write_json(folder, rows[::-1])
    again = own_data.read(folder)
    assert {again.pictures[row].name for row in again.rows("val")} == held_out
    assert len(own_data.read(folder, val=0.4).rows("val")) == 4


def test_its_own_splits_are_used(folder):
    write_json(folder, [told(n, split="test" if n > 7 else "train") for n in range(10)])
    data = own_data.read(folder)
    assert data.rows("test") == [8, 9]  # not touched: what is held out is of those to learn from
    assert len(data.rows("val")) == 1 and len(data.rows("train")) == 7
    write_json(folder, [told(n, split="val" if n > 7 else "train") for n in range(10)])
    data = own_data.read(folder)
    assert data.rows("val") == [8, 9] and len(data.rows("train")) == 8


def test_another_column_and_pictures_without_captions(folder):
    write_json(folder, [told(n, captions_ko=[f"그림 {n}", "그림"]) for n in range(7)])
    data = own_data.read(folder, "captions_ko")
    assert data.captions[6] == ["그림 6", "그림"] and len(data) == 7
    assert data.remarks.found["picture without a caption, left out"] == [
        f"pictures/{n}.png" for n in (7, 8, 9)
    ]


def test_everything_wrong_is_told_at_once_with_counts_and_names(folder):
    (folder / "pictures" / "1.png").write_bytes(b"not a picture")
    (folder / "pictures" / "2.png").write_bytes((folder / "pictures" / "0.png").read_bytes()[:60])
    picture(folder / "pictures" / "copy.png", 20 * 5)
    rows = [told(n, split="train") for n in range(6)]
    rows += [told(name, split="val") for name in ("copy", "x", "y", "z", "w")]
    rows += [told(7, split="dev"), told(8), told(9, split="val") | {"text": " "}]
    rows += [{"text": "what?"}, {"file_name": "pictures/3.png"}]
    rows += [told(6, split="val") | {"file_name": "../6.png"}]
    write_json(folder, rows)
    with (folder / "metadata.jsonl").open("a") as file:
        file.write("pictures/6.png,caption 6\n")
    write_table(folder, "captions.csv", [["image", "caption"], ["pictures/6.png", "a", "b"],
                                         ['{"file_name": "pictures/6.png"}']])  # fmt: skip
    before = sorted(folder.rglob("*"))
    with pytest.raises(own_data.DataError) as error:
        own_data.read(folder)
    assert sorted(folder.rglob("*")) == before
    report = str(error.value)
    for line in (
        "can't be used as it is; nothing was written:",
        "1 x captions in several files, and only one can be meant: metadata.jsonl, captions.csv",
        "1 x line that is not JSON among lines that should be: metadata.jsonl:18",
        "1 x line that names no picture in a column file_name or image or file: metadata.jsonl:15",
        "1 x line without a column text or caption: metadata.jsonl:16",
        "1 x picture outside the folder: ../6.png (metadata.jsonl:17)",
        "1 x line that has not 2 columns, as the first has: captions.csv:2",
        "1 x line of JSON in a table: captions.csv:3",
        "4 x picture that is named and not there: pictures/x.png, pictures/y.png, pictures/z.png,",
        "2 x picture that does not open: pictures/1.png (",
        "1 x picture in two splits: pictures/copy.png (val, train)",
        "1 x split that is none of train, val, test: 'dev' of pictures/7.png",
        "1 x row without a split, where others have one: pictures/8.png",
        "1 x empty caption: pictures/9.png",
    ):
        assert line in report, line
    assert report.count("\n") == 13


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda f: f / "none", "none is not a folder; pass the one that holds"),
        (lambda f: f, "has no captions; it needs one of metadata.jsonl, metadata.csv"),
        (lambda f: write_json(f, [told(1)]), "too few pictures, at least two are needed: 1"),
        (lambda f: write_json(f, []), "too few pictures, at least two are needed: 0"),
        (lambda f: (f / "captions.csv").write_text(""), "too few pictures"),
    ],
)
def test_what_can_not_be_a_collection_is_said(prepare, message, folder):
    with pytest.raises(own_data.DataError, match=message):
        own_data.read(prepare(folder) or folder)


def test_a_dataset_is_read_and_checked_alike(folder):
    shades = [Image.fromarray(np.full((8, 8, 3), 20 * n, np.uint8)) for n in range(10)]
    items = [{"image": image, "text": f"caption {n}"} for n, image in enumerate(shades)]
    data = own_data.from_dataset(items)
    assert len(data) == 10 and data.captions[4] == ["caption 4"] and len(data.rows("val")) == 1
    parts = own_data.from_dataset({"train": items[:6], "validation": items[6:]})
    assert parts.rows("val") == [6, 7, 8, 9]
    parts = own_data.from_dataset({"train": items[:6], "test": items[6:]}, val=0.5)
    assert parts.rows("test") == [6, 7, 8, 9]
    assert len(parts.rows("val")) == len(parts.rows("train")) == 3
    other = [{"picture": i["image"], "told": [i["text"], "more"]} for i in items]
    assert own_data.from_dataset(other, "picture", "told").captions[2] == ["caption 2", "more"]
    leaking = {"train": items[:6], "validation": items[5:]}
    with pytest.raises(
        own_data.DataError, match=r"picture in two splits: validation 0 \(val, train"
    ):
        own_data.from_dataset(leaking)
    with pytest.raises(own_data.DataError, match="2 x item without text: item 0, item 1"):
        own_data.from_dataset([{"image": image} for image in shades[:2]])
