"""Read, write and encode GGUF files.

``read`` maps a file and checks every number in its header; ``write`` streams
tensors to a file that appears whole or not at all; ``quantize_array`` and
``dequantize_array`` convert arrays to and from block types, byte for byte as
llama.cpp does, with an importance matrix too.
"""

from ._codecs import dequantize_array as dequantize_array
from ._codecs import quantize_array as quantize_array
from ._header import TensorInfo as TensorInfo
from ._overrides import Overrides as Overrides
from ._placement import FILE_TYPES as FILE_TYPES
from ._placement import file_order as file_order
from ._placement import tensor_types as tensor_types
from ._quantize import plan as plan
from ._quantize import quantize as quantize
from ._reader import GGUFFile as GGUFFile
from ._reader import read as read
from ._summary import summary as summary
from ._types import FileType as FileType
from ._types import GGMLType as GGMLType
from ._types import GGUFError as GGUFError
from ._types import MetadataValue as MetadataValue
from ._types import block_size as block_size
from ._writer import TensorSource as TensorSource
from ._writer import write as write
