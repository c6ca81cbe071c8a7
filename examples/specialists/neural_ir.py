"""Write the logic program of a gate, and how sure one can be.

Run it: python examples/specialists/neural_ir.py
Minutes on two cores; the same command goes on with a run that was stopped.
"""

from simplex_jax import export, pipeline, specialists

OUT = "runs/example-neural_ir"
CONFIG = {
    "specialist": "neural_ir",
    "lora": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
    "training": {
        "max_steps": 64,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-3,
    },
    "data": {"train_examples": 4000, "heldout_examples": 192},
}


def record(values, steps):
    if "loss" in values:
        print(f"step {values['step']}/{steps}: loss {values['loss']:.3f}", flush=True)


listener = pipeline.Listener(say=print, stage=print, record=record)
manifest = pipeline.run(pipeline.make_config(CONFIG), OUT, listener)
for when, figures in manifest["evaluation"].items():
    low, high = figures["accuracy_interval"]
    print(f"{when}: {figures['accuracy']:.3f} right, 95 % {low:.3f} to {high:.3f}")

# A prompt that neither training nor evaluation has seen.
example = specialists.generate("neural_ir", 1, seed=1, split="heldout")[0]
answer = "".join(export.complete(OUT, example.prompt, chat=True, max_new_tokens=32))
print(f"{example.prompt}\n-> {answer}")
print(specialists.verify("neural_ir", example.prompt, answer))
print(f"what was measured, with pictures: {OUT}/report.html")
