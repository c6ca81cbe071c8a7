"""Read, write and encode GGUF files.

``open`` maps a file and checks every number in its header; ``write`` streams
tensors to a file that appears whole or not at all; ``quantize_array`` and
``dequantize_array`` convert arrays to and from block types, byte for byte as
llama.cpp does, with an importance matrix too.
"""

from ._codecs import dequantize_array as dequantize_array
from ._codecs import quantize_array as quantize_array
from ._imatrix import ImportanceMatrix as ImportanceMatrix
from ._imatrix import read_imatrix as read_imatrix
from ._imatrix import write_imatrix as write_imatrix
from ._overrides import Overrides as Overrides
from ._placement import FILE_TYPES as FILE_TYPES
from ._placement import file_order as file_order
from ._placement import tensor_types as tensor_types
from ._quantize import plan as plan
from ._quantize import quantize as quantize
from ._reader import GGUFFile as GGUFFile
from ._reader import Tensor as Tensor
from ._reader import open as open
from ._summary import summary as summary
from ._types import FileType as FileType
from ._types import GGMLType as GGMLType
from ._types import GGUFError as GGUFError
from ._types import MetadataValue as MetadataValue
from ._types import block_size as block_size
from ._writer import TensorSource as TensorSource
from ._writer import write as write
