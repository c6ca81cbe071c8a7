"""Chat templates of the kinds that models come with."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] }}"
    "{{ '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

# Writes BOS, trims contents.
LLAMA3 = """{{- bos_token }}
{%- for message in messages %}
    {{- '<user>' + message.role + '<|im_start|>\\n\\n' }}
    {{- message.content | trim + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<user>assistant<|im_start|>\\n\\n' }}
{%- endif %}
"""

# Inserts a system message where there is none.
QWEN25 = """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are "helpful", {{' + '{' + ' 1 }.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'system' and not loop.first or message.role != 'system' %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content }}
        {{- '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Refuses system messages and calls the assistant "model".
GEMMA = """{{ bos_token }}{% if messages[0]['role'] == 'system' %}
{{ raise_exception('no system messages') }}{% endif %}
{% for message in messages %}
{% set role = 'model' if message['role'] == 'assistant' else 'user' %}
{{ '<user>' + role + '{' }}{{ message['content'] | trim }}{{ '<|im_end|>\\n' }}
{% endfor %}
{% if add_generation_prompt %}{{ '<user>model{' }}{% endif %}
"""

# Opens an empty thought in the last turn of the assistant, as Qwen3 does.
THINKING = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.last %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
    {%- generation %}{{- message.content }}{%- endgeneration %}
    {{- '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

# Folds the system message into the first user's turn, as Llama-2 does.
LLAMA2 = """{% if messages[0]['role'] == 'system' %}
{% set system = '<<SYS>>' + messages[0]['content'] + '<</SYS>>' %}
{% set rest = messages[1:] %}{% else %}{% set system = '' %}
{% set rest = messages %}{% endif %}
{% for message in rest %}{% if message['role'] == 'user' %}
{{ bos_token + '[INST] ' + (system if loop.first else '') + message['content'] }}
{{ ' [/INST]' }}{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}
"""

REPRESENTABLE = {
    "chatml": CHATML,
    "llama3": LLAMA3,
    "qwen25": QWEN25,
    "gemma": GEMMA,
    "thinking": THINKING,
}
