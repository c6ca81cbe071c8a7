"""Logic between false and true: on probabilities, and on log-odds.

``and_`` takes probabilities in [0, 1], ``and_logits`` any real numbers.
"""

from ._contract import Contract as Contract
from ._logit import and_all_logits as and_all_logits
from ._logit import and_logits as and_logits
from ._logit import iff_logits as iff_logits
from ._logit import implies_logits as implies_logits
from ._logit import nand_logits as nand_logits
from ._logit import nor_logits as nor_logits
from ._logit import not_logits as not_logits
from ._logit import or_all_logits as or_all_logits
from ._logit import or_logits as or_logits
from ._logit import xor_all_logits as xor_all_logits
from ._logit import xor_logits as xor_logits
from ._probability import and_ as and_
from ._probability import and_all as and_all
from ._probability import iff as iff
from ._probability import implies as implies
from ._probability import nand as nand
from ._probability import nor as nor
from ._probability import not_ as not_
from ._probability import or_ as or_
from ._probability import or_all as or_all
from ._probability import xor as xor
from ._probability import xor_all as xor_all
from ._tnorm import TNorm as TNorm
