"""The three t-norms: what AND means between 0 and 1."""

import enum


class TNorm(enum.Enum):
    """What AND means for probabilities p and q; OR follows by De Morgan's law.

    Attributes:
        PRODUCT: AND is p q, exact for independent events; XOR is that of independent
            events too, p (1 - q) + (1 - p) q. Gradients everywhere. The default.
        LUKASIEWICZ: AND is max(0, p + q - 1), XOR abs(p - q). No gradient where the
            bound holds.
        GODEL: AND is min(p, q), XOR max(min(p, 1 - q), min(1 - p, q)). A gradient to
            the operand that decides, half to each at a tie.
    """

    PRODUCT = "product"
    LUKASIEWICZ = "lukasiewicz"
    GODEL = "godel"
