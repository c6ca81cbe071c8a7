"""What an importance matrix is worth: divergence of quantized files from their source.

    python benchmarks/imatrix.py [--chunks 24] [--json FILE]

SmolLM2-135M-Instruct is run over half of the help topics that come with Python, an
importance matrix is made of that, and Q4_K_M and Q3_K_M files are written with it and
without. The files are compared with their source on the other half.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from pydoc_data import topics

from simplex_jax import export, gguf, models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--chunks", type=int, default=24)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    texts = [text for _, text in sorted(topics.topics.items())]
    model, tokenizer = models.load("smollm2-135m")
    ids = tokenizer.encode("\n\n".join(texts[1::2]), add_special=True)
    rows = [ids[i : i + 512] for i in range(0, 512 * args.chunks, 512)]
    result = {
        "command": f"python benchmarks/imatrix.py --chunks {args.chunks}",
        "python": sys.version.split()[0],
        "tokens": sum(map(len, rows)),
        "files": {},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "f32.gguf"
        models.save_gguf(model, tokenizer, source, "f32")
        text = folder / "calibration.txt"
        text.write_text("\n\n".join(texts[::2]), "utf-8")
        matrix = folder / "imatrix.gguf"
        found = export.imatrix(source, text, matrix, max_chunks=args.chunks)
        print(f"{found.tokens} tokens of calibration, {result['tokens']} held out")
        print(f"{'file':20} {'bits':>5} {'KL, nats':>9} {'same top':>9} {'ppl':>8}")
        for file_type in ("q4_k_m", "q3_k_m"):
            for given in (None, gguf.read_imatrix(matrix)):
                path = folder / "quantized.gguf"
                gguf.quantize(source, path, file_type, imatrix=given)
                compared = export.parity(path, model, tokenizer, rows)
                here = compared["here"]
                label = file_type + (" + imatrix" if given else "")
                result["files"][label] = {
                    "bits_per_weight": compared["bits_per_weight"],
                    "here": here,
                    "llama_cpp": compared["llama_cpp"],
                }
                print(
                    f"{label:20} {compared['bits_per_weight']:5.2f} "
                    f"{here['mean_kl_nats']:9.4f} {here['top1_agreement']:9.1%} "
                    f"{here['perplexity']:8.3f}"
                )
        result["source_perplexity"] = compared["source"]["perplexity"]
        print(f"source perplexity {result['source_perplexity']:.3f}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
