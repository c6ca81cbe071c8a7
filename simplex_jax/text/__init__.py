"""Texts as token ids, with the ids that llama.cpp gives.

``Tokenizer`` comes from GGUF metadata or a Hugging Face folder, or ``train_bpe`` makes
one; ``modelfile`` writes for Ollama what its chat template does. ``chat_tokens`` turns
conversations, ``document_tokens`` and ``token_windows`` plain text, into what
``data.pack`` takes.
"""

from ._chat import ChatTemplateError as ChatTemplateError
from ._chat import Message as Message
from ._modelfile import go_template as go_template
from ._modelfile import modelfile as modelfile
from ._pieces import StreamDecoder as StreamDecoder
from ._sequences import chat_tokens as chat_tokens
from ._sequences import document_tokens as document_tokens
from ._sequences import token_windows as token_windows
from ._splits import known_pre as known_pre
from ._tokenizer import Tokenizer as Tokenizer
from ._train import train_bpe as train_bpe
from ._vocabulary import TokenType as TokenType
