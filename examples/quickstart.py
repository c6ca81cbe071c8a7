"""From a base model to a specialist that llama.cpp runs, in one screen.

Run it: python examples/quickstart.py (about three minutes on two cores).
"""

from pathlib import Path

import jax

from simplex_jax import data, export, lora, models, specialists, text, train

out = Path("runs/quickstart")

# A base model with its tokenizer; real weights, fetched once.
base, tokenizer = models.load("smollm2-135m")

# Verified examples, as token ids with the loss on the answers, packed into rows.
examples = specialists.generate("sentiment_analysis", 600)
sequences = [text.chat_tokens(example, tokenizer) for example in examples]
batches = data.pack(sequences, batch_size=2, length=256)

# What trains is the adapters; fit resumes where a run was interrupted.
model = lora.attach(base, lora.LoRAConfig.standard(), key=jax.random.key(0))
config = train.TrainingConfig(learning_rate=2e-3, eval_steps=40)
steps = 40


def report(record):
    print(f"step {record['step']} of {steps}: loss {record['loss']:.3f}", flush=True)


fitted = train.fit(model, batches, config, steps=steps, folder=out, report=report)

# Held-out prompts come from templates that training never showed.
merged = lora.merge(fitted.model)
heldout = specialists.generate("sentiment_analysis", 32, split="heldout")
right = 0
for example in heldout:
    ids = tokenizer.encode_chat(example.chat()[:-1])
    pieces = models.stream(merged, tokenizer, ids, max_new_tokens=16)
    verdict = specialists.verify("sentiment_analysis", example.prompt, "".join(pieces))
    right += verdict.correct
print(f"{right} of {len(heldout)} held-out answers are right")

# One file for llama.cpp and Ollama, and the proof that it computes the same.
file = out / "quickstart-q4_k_m.gguf"
models.save_gguf(merged, tokenizer, file, "q4_k_m")
print(f"{file}: {file.stat().st_size / 1e6:.0f} MB")
if export.verify(file).passed:
    print("llama.cpp computes the same")
