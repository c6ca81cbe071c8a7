"""Block codecs that can be traced: decode and encode inside ``jax.jit``.

``dequantize`` has the bits of ``gguf.dequantize_array``, so weights may stay
in their blocks until the moment they are used; ``quantize`` errs as little as
``gguf.quantize_array``, whose bytes it does not promise. Both take the ten
types that llama.cpp's files are made of. Importing this imports JAX, which
``simplex_jax.gguf`` itself does not::

    from simplex_jax.gguf import traced
"""

from ._decode import dequantize as dequantize
from ._encode import quantize as quantize
