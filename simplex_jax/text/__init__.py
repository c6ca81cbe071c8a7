"""Tokenizers and chat templates, with the ids that llama.cpp gives."""

from ._chat import ChatTemplateError as ChatTemplateError
from ._chat import Message as Message
from ._modelfile import go_template as go_template
from ._modelfile import modelfile as modelfile
from ._pieces import StreamDecoder as StreamDecoder
from ._splits import known_pre as known_pre
from ._tokenizer import Tokenizer as Tokenizer
from ._train import train_bpe as train_bpe
from ._vocabulary import TokenType as TokenType
